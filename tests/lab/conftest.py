"""A network's one place for a running gateway: its addresses are fixed by the declaration."""

import time
from collections.abc import Iterator

import pytest

from lab.run.ports import is_free
from tests.gateway.world import declared_addresses as alone

FIXED = [("127.0.0.2", 9931), ("127.0.0.1", 1055), ("127.0.0.1", 9002), ("127.0.0.1", 9180)]
WAIT_S = 240.0


@pytest.fixture(scope="module")
def declared_addresses() -> Iterator[None]:
    """Waits for other test runs in this network and for other labs."""
    with alone(WAIT_S):
        deadline = time.monotonic() + WAIT_S
        while taken := [address for address in FIXED if not is_free(*address)]:
            assert time.monotonic() < deadline, f"in use: {taken}; is a lab up? End it with `python -m lab down`"
            time.sleep(0.2)
        yield
