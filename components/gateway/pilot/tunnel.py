"""Home's tunnel: probed while requests are at home, and shut where it is dead, which frees what hangs in it.

Owns: the probes and the shutdown. Does not own: the verdict (`home`, and `lane` on a stuck engine), starting the tunnel
again (its own container).
"""

import asyncio
from dataclasses import replace
from typing import Final

from .caddy import Caddy
from .duties import Duties
from .environment import Settings
from .home import HomePath, Seen, path_step
from .log import described, log
from .net import FAILURES, fetch, through_socks

PROBE_S: Final = 0.5
"""Between two probes."""
CONNECT_S: Final = 1.0
"""A path that does not even connect in this time counts as silent."""
ANSWER_S: Final = 5.0
"""A home that connects may take this long: it is busy, or its line is full, not gone."""
SHUT_S: Final = 2.0
"""Longest wait for the daemon's answer."""
SHUT_AGAIN_S: Final = 5.0


class Tunnel:
    """The way to `address` (home in the tailnet)."""

    def __init__(self, address: tuple[str, int], settings: Settings, caddy: Caddy, duties: Duties) -> None:
        self.shutdowns = 0
        self._address, self._settings, self._caddy, self._duties = address, settings, caddy, duties
        self._path = HomePath()
        self._freed: float | None = None

    def free(self, since: float) -> None:
        """Home's engine is stuck, and its path is well: once for each time, which began at `since`."""
        if self._freed != since:
            self._freed = since
            self._duties.start(self._shut("gives no token"))

    async def watch(self) -> None:
        """Probes only while requests are under way there: there is nothing to rescue otherwise."""
        if self._caddy.traffic.at_home > 0:
            self._duties.start(self._probe())
        else:
            self._path = replace(self._path, silent=0)
            if self._path.shut:
                self._duties.start(self._probe())

    async def _probe(self) -> None:
        """Each on a connection of its own, several at a time: a late answer to an early one still proves the path."""
        host = f"{self._address[0]}:{self._address[1]}"
        connecting = asyncio.ensure_future(through_socks(self._settings.socks, self._address))
        try:
            done, _ = await asyncio.wait({connecting}, timeout=CONNECT_S)
            if not done:
                self._seen(Seen.SILENT)
            async with asyncio.timeout(ANSWER_S - CONNECT_S):
                await fetch(connecting, host, "/", {})
        except TimeoutError:
            if connecting.done() and not connecting.cancelled() and connecting.exception() is None:
                self._seen(Seen.SILENT)
        except FAILURES:
            self._seen(Seen.REFUSED)
        else:
            self._seen(Seen.ALIVE)
        finally:
            connecting.cancel()

    def _seen(self, seen: Seen) -> None:
        self._path, shut = path_step(self._path, seen, self._caddy.traffic.at_home)
        if shut:
            self._duties.start(self._shut("is silent"))

    async def _shut(self, home: str) -> None:
        """Ends the daemon, and with it every connection that hangs in it; its container starts it again."""
        running = self._caddy.traffic.at_home
        try:
            async with asyncio.timeout(SHUT_S):
                connection = asyncio.open_unix_connection(self._settings.tailscaled)
                host = "local-tailscaled.sock"
                status, text = await fetch(connection, host, "/localapi/v0/shutdown", {}, "POST")
            if status != 200:
                raise ValueError(f"{status} {text.strip()[:200]}")
        except FAILURES as error:
            log("ERROR", f"home {home} and the tunnel could not be shut: {described(error)}", lane="home")
            await asyncio.sleep(SHUT_AGAIN_S)
            self._path, self._freed = replace(self._path, shut=False), None
        else:
            self.shutdowns += 1
            message = f"home {home}: the tunnel was shut to free the requests in it"
            log("WARNING", message, lane="home", freed=running)
