"""The machine's one place for a running gateway: its addresses are fixed by the declaration."""

import fcntl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.run.ports import is_free

FIXED = [("127.0.0.2", 9931), ("127.0.0.1", 1055), ("127.0.0.1", 9002), ("127.0.0.1", 9180)]
WAIT_S = 240.0


@pytest.fixture(scope="module")
def declared_addresses() -> Iterator[None]:
    """Waits for other test runs on this machine (`backends.declared_addresses` holds the same lock) and other labs."""
    deadline = time.monotonic() + WAIT_S
    with (Path(tempfile.gettempdir()) / "pilotlight-lab.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline, "another test run holds the declared addresses"
                time.sleep(0.2)
        while taken := [address for address in FIXED if not is_free(*address)]:
            assert time.monotonic() < deadline, f"in use: {taken}; is a lab up? End it with `python -m lab down`"
            time.sleep(0.2)
        yield
