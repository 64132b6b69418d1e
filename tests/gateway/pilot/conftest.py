"""One set of toys a test, in a loop of their own."""

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.pilot.world import World


@pytest.fixture
def world() -> Iterator[World]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder) / "run"
        shared.mkdir()
        here = World(loop, shared)
        here.run(here.start())
        try:
            yield here
        finally:
            here.run(here.finish())
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)
            loop.close()
