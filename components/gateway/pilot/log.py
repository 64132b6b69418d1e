"""The pilot's log: one line of JSON each, as Cloud Logging reads it.

Owns: the form of a line, and the count of moves between states that `/metrics` shows. Does not own: what is said.
"""

import json
import sys
import time
from typing import Any

from .state import Phase


def described(error: BaseException) -> str:
    """An error for a log line."""
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


def log(severity: str, message: str, **fields: Any) -> None:
    """One line, with the names Cloud Logging looks for."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03d}Z"
    print(json.dumps({"severity": severity, "time": stamp, "message": message, **fields}), file=sys.stderr, flush=True)


class Moves:
    """Moves of the lanes from state to state: each is told once and counted."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, str], int] = {}

    def tell(self, lane: str, old: Phase, new: Phase, reason: str, since: float) -> None:
        """`since`: when the lane entered `old`, by the monotonic clock."""
        key = (lane, old.value, new.value)
        self.counts[key] = self.counts.get(key, 0) + 1
        level = "WARNING" if new in (Phase.DOWN, Phase.SLOW) else "INFO"
        fields = {"lane": lane, "from": old.value, "to": new.value, "reason": reason}
        log(level, f"{lane} is {new.value}: {reason}", **fields, seconds=round(time.monotonic() - since, 3))
