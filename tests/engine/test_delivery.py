"""Delivery under the real engine: made, moved into another backend, kept by a `destroy`, and taken over again."""

import re
import shlex
from collections.abc import Generator
from pathlib import Path

import pytest

from lab.read.stack import ROOT
from tests.engine.pulumi_cli import NEEDS_THE_CLI, Engine, Factory, engines

pytestmark = NEEDS_THE_CLI

KEPT = {"delivery-state", "delivery-ring", "delivery-key"}
REGION = "europe-west4"


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Generator[Factory]:
    with engines(tmp_path_factory.mktemp("delivery")) as made:
        yield made


def commands(heading: str) -> list[list[str]]:
    """Pulumi's commands in a section of docs/ship.md, as words."""
    section = (ROOT / "docs" / "ship.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [shlex.split(line)[1:] for line in re.findall(r"^\$ (pulumi .*?)(?: &&.*)?$", section, re.MULTILINE)]


def left(stack: Engine) -> set[str]:
    return {resource["urn"].rsplit("::", 1)[-1] for resource in stack.resources() if resource["custom"]}


def test_a_state_moves_and_outlives_its_stack(factory: Factory, tmp_path: Path) -> None:
    stack = factory.stack("dev")
    stack.write_config({"pilotlight:lanes": ["vm"], "pilotlight:delivery": {"repository": "me/pilotlight"}})
    assert "PULUMI_BACKEND_URL=gs://some-project-pilotlight-state" in stack.up().outputs["delivery"]
    stack.run("preview", "--expect-no-changes")

    # Another region would replace bucket and key; they stay where they are.
    stack.run("config", "set", "gcp:region", REGION)
    changed = {step["urn"].rsplit("::", 1)[-1] for step in stack.read("preview", "--json")["steps"]}
    assert "network-vm-subnet" in changed
    assert not changed & KEPT
    stack.run("config", "set", "gcp:region", "us-central1")

    # Nor do they go with the setting.
    stack.write_config({"pilotlight:delivery": {"repository": ""}})
    assert "protect" in stack.run("preview", refused=True).everything
    stack.write_config({"pilotlight:delivery": {"repository": "me/pilotlight"}})

    # Into the bucket, as the page says; here another folder is the bucket.
    moved = tmp_path / "bucket"
    moved.mkdir()
    for words in commands("Set it up, once"):
        if words[:2] == ["stack", "export"]:
            stack.run(*words)
        elif words[0] == "login":
            stack.moved_to(f"file://{moved}")
        elif words[:2] == ["stack", "import"]:
            stack.run("stack", "init", "dev")
            stack.run(*words)
    stack.run("preview", "--expect-no-changes")

    for words in commands("Take it down"):
        if words[:2] != ["stack", "rm"]:
            stack.run(*words, "--yes")
    assert left(stack) == set()
    there = {resource.urn.rsplit("::", 1)[-1] for resource in factory.provider.world.values()}
    assert there & KEPT == KEPT
    assert not {name for name in there - KEPT if name.startswith("delivery-")}
