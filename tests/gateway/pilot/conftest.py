"""One set of toys a test, in a loop of their own."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.pilot.world import World
from tests.kit import loop_beside


@pytest.fixture
def world() -> Iterator[World]:
    with loop_beside() as loop, tempfile.TemporaryDirectory() as folder:
        shared = Path(folder) / "run"
        shared.mkdir()
        here = World(loop, shared)
        here.run(here.start())
        try:
            yield here
        finally:
            here.run(here.finish())
