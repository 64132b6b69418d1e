"""Home and vm as Caddy's own checks see them: for people to look at, and to tell whether home takes what comes.

Owns: asking Caddy's checks listener. Does not own: whether Caddy sends requests there (its own checks decide that).
"""

import asyncio
import time
from typing import Final

from .environment import Settings
from .log import Moves, described
from .net import FAILURES, fetch
from .state import Phase

CHECK_S: Final = 1.2
"""Longest wait for the answer to a check."""
DOWN_AFTER: Final = 2
"""Failed checks in a row that make home or vm count as down."""


class Lane:
    """Home or vm."""

    def __init__(self, name: str, settings: Settings, moves: Moves) -> None:
        self.phase, self.since = Phase.DOWN, time.monotonic()
        self.failures, self.error = 0, "not asked yet"
        self._name, self._dial, self._checks, self._moves = name, settings.dials[name], settings.checks, moves

    @property
    def up(self) -> bool:
        """Whether it answered the last time."""
        return self.phase is Phase.WARM and not self.failures

    @property
    def down(self) -> bool:
        """Whether it failed often enough in a row."""
        return self.failures >= DOWN_AFTER

    async def check(self) -> None:
        """Once, end to end as Caddy itself asks it."""
        error = ""
        try:
            async with asyncio.timeout(CHECK_S):
                connection = asyncio.open_connection(*self._checks)
                status, _ = await fetch(connection, "checks", "/", {"X-Lane": self._dial})
            error = "" if 200 <= status < 300 else f"its check says {status}"
        except FAILURES as failure:
            error = described(failure)
        self.failures = self.failures + 1 if error else 0
        phase = Phase.WARM if not error else Phase.DOWN if self.down else self.phase
        self.error = error
        if phase is not self.phase:
            self._moves.tell(self._name, self.phase, phase, error or "it answers", self.since)
            self.phase, self.since = phase, time.monotonic()
