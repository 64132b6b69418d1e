"""The fake engine's switches and witnesses: `/_fault`, `/_log`, `/_stats`.

Owns: the behaviour in force, what stands still because of it, the log and its counts. Does not own: what a behaviour
means for an answer (`fake_model`), its checks (`fake_state`).

`POST /_fault` merges JSON into the behaviour, `DELETE /_fault` resets it, `GET /_fault` shows it; `GET /_log` lists the
API requests received, `DELETE /_log` empties it, `GET /_stats` has counts and the in-flight peak.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Generator
from dataclasses import asdict
from pathlib import Path

from aiohttp import web

from lab.programs.fake_state import Behaviour, Entry, Log, outcomes

_log = logging.getLogger("fake_model")


class Control:
    """Starts healthy. `cleared` is called when the log is emptied."""

    def __init__(self, journal: Path | None, cleared: Callable[[], None]) -> None:
        self.log = Log(journal)
        self.moving, self.healthy = asyncio.Event(), asyncio.Event()
        """Tokens come, and `/health` answers."""
        self.in_flight = self._peak = 0
        self.probes = {"/health": 0, "/metrics": 0}
        self._cleared = cleared
        self.become(Behaviour())

    def become(self, behaviour: Behaviour) -> None:
        """From now on."""
        self.behaviour = behaviour
        stands = behaviour.hang or behaviour.mute
        for goes, free in ((self.moving, not stands), (self.healthy, behaviour.health != 0)):
            goes.set() if free else goes.clear()

    @contextlib.contextmanager
    def answering(self, entry: Entry) -> Generator[None]:
        """A request's stay, and how it ended."""
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)
        try:
            yield
        except (asyncio.CancelledError, OSError):
            entry.outcome = "client-gone" if entry.outcome == "open" else entry.outcome
            raise
        finally:
            self.in_flight -= 1
        entry.outcome = "answered" if entry.outcome == "open" else entry.outcome

    def finished(self, entry: Entry) -> None:
        """Its last token came. The caller doesn't have it yet: who then asks again is never there twice at a time."""
        entry.finished = time.time()
        self.log.note(entry)

    def routes(self) -> list[web.RouteDef]:
        """Of this room."""
        return [
            web.get("/_log", self._show_log),
            web.delete("/_log", self._clear_log),
            web.get("/_stats", self._stats),
            web.get("/_fault", self._show_fault),
            web.post("/_fault", self._merge_fault),
            web.delete("/_fault", self._reset_fault),
        ]

    async def _show_log(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(entry) for entry in self.log.entries])

    async def _clear_log(self, request: web.Request) -> web.Response:
        self.log.entries.clear()
        self._cleared()
        self.probes = dict.fromkeys(self.probes, 0)
        self._peak = self.in_flight
        return await self._stats(request)

    async def _stats(self, _: web.Request) -> web.Response:
        counts = {"in_flight": self.in_flight, "in_flight_peak": self._peak, "requests": len(self.log.entries)}
        return web.json_response(counts | {"outcomes": outcomes(self.log.entries), "probes": self.probes})

    async def _show_fault(self, _: web.Request) -> web.Response:
        return web.json_response(asdict(self.behaviour))

    async def _merge_fault(self, request: web.Request) -> web.Response:
        try:
            self.become(self.behaviour.merged(await request.json()))
        except (ValueError, TypeError) as refused:
            return web.json_response({"error": {"message": str(refused)}}, status=400)
        _log.info("behaviour: %s", self.behaviour)
        return await self._show_fault(request)

    async def _reset_fault(self, request: web.Request) -> web.Response:
        self.become(Behaviour())
        return await self._show_fault(request)
