"""Caddy as its admin API shows it: how many requests are on each lane, and how many wait for one.

Owns: asking the admin API. Does not own: what the numbers mean (`demand`).
"""

import asyncio
import json
import time
from typing import Any, Final

from .demand import Traffic, traffic
from .environment import Settings
from .log import described
from .net import FAILURES, fetch

CADDY_S: Final = 1.0
"""Longest wait for the admin API."""


class Caddy:
    """The gateway's Caddy."""

    def __init__(self, settings: Settings) -> None:
        self.traffic = Traffic()
        self.seen, self.error = False, ""
        """`seen`: whether it answered the last time."""
        self.taken: dict[str, int] = {}
        """Requests by address, services and spellings included, as they were at `counted`."""
        self.failed: set[str] = set()
        """Addresses that Caddy leaves alone, because a request failed there."""
        self.counted = 0.0
        self._settings = settings
        self._turn = 0

    async def look(self, in_line: int) -> bool:
        """Renews `traffic`; False if Caddy did not answer."""
        try:
            async with asyncio.timeout(CADDY_S):
                rows = await self.count()
                # The text is long and takes Caddy milliseconds: every other time.
                self._turn += 1
                text = await self._ask("/metrics") if self._turn % 2 else ""
        except FAILURES as error:
            self.seen, self.error = False, described(error)
            self.traffic = self.traffic.unseen()
            return False
        self.seen, self.error = True, ""
        self.traffic = traffic(self.traffic, rows, text, self._settings, in_line)
        return True

    async def count(self) -> list[dict[str, Any]]:
        """Renews `taken` alone, which takes Caddy a fraction of a millisecond."""
        asked = time.monotonic()
        rows = json.loads(await self._ask("/reverse_proxy/upstreams"))
        self.taken, self.counted = {row["address"]: row["num_requests"] for row in rows}, asked
        self.failed = {row["address"] for row in rows if row["fails"]}
        return rows

    async def _ask(self, path: str) -> str:
        connection = asyncio.open_unix_connection(self._settings.admin)
        status, text = await fetch(connection, "caddy", path, {})
        if status != 200:
            raise ValueError(f"Caddy's admin API says {status} to {path}")
        return text
