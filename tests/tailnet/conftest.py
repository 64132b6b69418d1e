"""One tailnet for all checks, and the table of what they saw."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.tailnet import binaries, network
from tests.tailnet.gateway import ADDED, declared
from tests.tailnet.tailnet import tailnet
from tests.tailnet.world import KEY, World

ROWS: Final = pytest.StashKey[list[tuple[str, str, float]]]()

LOGS: Final = pytest.StashKey[Path]()


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    missing = binaries.unavailable() or network.unavailable()
    if missing:
        pytest.skip(f"a real tailnet needs more than there is here: {missing}")
    folder = Path(tempfile.mkdtemp(prefix="pilotlight-tailnet-"))
    programs = binaries.built()
    with tailnet(programs, folder, declared(KEY).policy) as found:
        yield World(found, programs, folder)
    if request.session.testsfailed:
        request.config.stash[LOGS] = folder
    else:
        shutil.rmtree(folder)


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[tuple[str, str, float]]:
    """The table: case, what callers saw, seconds."""
    return request.config.stash.setdefault(ROWS, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash.setdefault(ROWS, [])
    write = terminalreporter.write_line
    if LOGS in config.stash:
        write(f"logs of all checks: {config.stash[LOGS]}")
    if not rows:
        return
    write("")
    write("Added to the declared containers, and nothing else:")
    for name, what in ADDED.items():
        write(f"  {name}: {what}")
    write("")
    width = max(len(case) for case, _, _ in rows)
    write(f"{'case':{width}}    time  what callers saw")
    for case, saw, seconds in rows:
        write(f"{case:{width}}  {seconds:4.1f} s  {saw}")
