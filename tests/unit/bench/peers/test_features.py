"""Taking a part out of Caddy's configuration: each finds its place in what is declared; Caddy takes what is left."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.tables.features import FEATURES
from lab.read.images import BIN
from tests.gateway.routing import environment, patient, rendered, settings
from tests.gateway.world import World, world
from tests.kit import until


@pytest.fixture(scope="module")
def lanes() -> Iterator[World]:
    with world() as all_toys:
        yield all_toys


@pytest.fixture(scope="module")
def declared() -> str:
    return json.dumps(rendered(settings()))


def test_most_parts_are_declared(declared: str) -> None:
    """Else an edit no longer finds what it should take out."""
    there = 0
    for edit in FEATURES.values():
        config: dict[str, Any] = json.loads(declared)
        edit(config)
        there += json.dumps(config) != declared
    assert there >= len(FEATURES) - 3


@pytest.mark.parametrize("name", FEATURES)
def test_a_part_is_there_and_caddy_takes_what_is_left(name: str, declared: str, tmp_path: Path) -> None:
    config: dict[str, Any] = json.loads(declared)
    edit: Callable[[dict[str, Any]], None] = FEATURES[name]
    edit(config)
    if json.dumps(config) == declared:
        pytest.skip("not declared any more, as the table says")
    file = tmp_path / "caddy.json"
    file.write_text(json.dumps(config))
    done = subprocess.run(
        [BIN / "caddy", "validate", "--config", file], capture_output=True, text=True, check=False,
        env={"HOME": str(tmp_path), "PORT": "8080"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", FEATURES)
def test_who_asks_is_served_without_a_part(name: str, declared: str, lanes: World) -> None:
    """Else nothing could be measured, and the whole run would end there."""
    config: dict[str, Any] = json.loads(declared)
    FEATURES[name](config)
    with lanes.caddy(patient(config), environment(settings()), first=""):
        until(lambda: lanes.call().status == 200, "it serves")
