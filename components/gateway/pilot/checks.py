"""Home and vm as Caddy's own checks see them: a part of what the pilot judges them by.

Owns: asking Caddy's checks listener. Does not own: what follows (`lane`), whether Caddy sends requests there (its own
checks decide that).
"""

import asyncio
from typing import Final

from .environment import Settings
from .log import described
from .net import FAILURES, fetch
from .state import Check

CHECK_S: Final = 1.2
"""Longest wait for the answer to a check."""


async def check(name: str, settings: Settings) -> Check:
    """Home or vm once, end to end as Caddy itself asks it."""
    try:
        async with asyncio.timeout(CHECK_S):
            connection = asyncio.open_connection(*settings.checks)
            status, _ = await fetch(connection, "checks", "/", {"X-Lane": settings.dials[name]})
        return Check("" if 200 <= status < 300 else f"its check says {status}")
    except FAILURES as failure:
        return Check(described(failure))
