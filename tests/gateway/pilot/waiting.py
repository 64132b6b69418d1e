"""Waiting for a condition, with a deadline that only a broken program or machine meets."""

import time
from collections.abc import Callable

PATIENCE_S = 30.0


def until(true: Callable[[], bool], seconds: float = PATIENCE_S, what: str = "it never happened") -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
