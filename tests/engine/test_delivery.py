"""Delivery under the real engine: made, moved into another backend, kept by a `destroy`, and taken over again."""

import os
import re
import shlex
import subprocess
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.read.stack import ROOT
from tests.engine.pulumi_cli import NEEDS_THE_CLI, Engine, Factory, engines

pytestmark = NEEDS_THE_CLI

KEPT = {"delivery-state", "delivery-ring", "delivery-key"}


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

    # Bucket and key don't go with the setting.
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


def test_drift_is_found_by_the_script_itself(factory: Factory, tmp_path: Path) -> None:
    """With the real CLI: its words, its patterns of URNs, its exit codes."""
    stack = factory.stack("drifting")
    stack.write_config({"pilotlight:lanes": ["vm"]})
    stack.up()
    (tmp_path / "gh").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    (tmp_path / "gh").chmod(0o755)

    def look() -> str:
        (tmp_path / "calls").write_text("")
        given = {**factory.environment, "STACK": "drifting", "RUN": "https://github.test/run/1"}
        given["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(
            [ROOT / ".github" / "drift.sh"], cwd=stack.tree, env=given, capture_output=True, check=False
        )
        assert done.returncode == 0, done
        return (tmp_path / "calls").read_text()

    assert "issue create" not in look()
    assert len(stack.provider.read) > 20
    assert [urn for urn in stack.provider.read if "SecretVersion" in urn] == [], (
        "to read a version is to read the secret"
    )
    [firewall] = stack.provider.existing("gcp:compute/firewall:Firewall", "drifting")
    opened = {**firewall.state, "sourceRanges": ["0.0.0.0/0"]}
    stack.provider.world[firewall.id] = replace(firewall, state=opened)
    told = look()
    assert "issue create --title Drift in the stack drifting" in told
    assert "What runs differs" in told
    assert '"0.0.0.0/0" => "10.80.0.0/26"' in told
