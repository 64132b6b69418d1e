"""What others may ask the pilot: Caddy whether to send requests to a lane, people how the lanes are.

Owns: the paths, HTTP as a server as little as is needed. Does not own: what is told (`lane`, `expect`, `status`).
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from .environment import Further
from .expect import ALONE, SIZES, Declared, Scene, allows_home, allows_vm, refuses
from .lane import sends
from .line import Place
from .net import FAILURES
from .pilot import Pilot
from .status import metrics, status

READY_AFTER_S: Final = 0.2
"""All of Caddy's proxy handlers for the lanes (one for each size) ask within this time of the first."""
KEEP_ALIVE_S: Final = 75.0
Reply: TypeAlias = tuple[int, str, str]
"""Status, content type, body."""


class Answers:
    """The pilot's answers, all from memory."""

    def __init__(self, pilot: Pilot) -> None:
        self._pilot = pilot
        self._asked: float | None = None
        """When Caddy first asked about a lane, by the monotonic clock."""
        self._known: dict[str, Callable[[], Reply]] = {
            "/lane/burst": lambda: self._lane(sends(pilot.scene().burst)),
            **{f"/lane/home/{size}": partial(self._judged, allows_home, size) for size in SIZES},
            **{f"/lane/vm/{size}": partial(self._judged, allows_vm, size) for size in SIZES},
            **{f"/lane/refuse/{size}": partial(self._judged, refuses, size) for size in SIZES},
            **{f"/lane/{lane}/{ALONE}": partial(self._well, lane) for lane in ("home", "vm")},
            **{
                f"/lane/{lane}/{each.machines}/{size}": partial(self._further, lane, each, size)
                for lane, more in pilot.settings.further.items()
                for each in more
                for size in (*SIZES, ALONE, "")
            },
            "/line": lambda: _plain(pilot.caddy.seen),
            "/ready": self._ready,
            "/status": lambda: (200, "application/json", json.dumps(status(pilot))),
            "/metrics": lambda: (200, "text/plain; version=0.0.4", metrics(pilot)),
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, as long as its peer keeps it."""
        with contextlib.suppress(*FAILURES):
            keep = True
            while keep:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, target, version = head.split("\r\n", 1)[0].split(" ")
                if target == "/line" and method == "POST":
                    await self._in_line(head, reader)
                    writer.write(b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n")
                    break
                # Any other body is never read, so nothing after it could be.
                keep = version == "HTTP/1.1" and not re.search(
                    r"(?im)^(connection: *close|content-length: *[1-9]|transfer-encoding:)", head
                )
                known = self._known.get(target.partition("?")[0])
                code, kind, body = (405, "text/plain", "only GET") if method not in ("GET", "HEAD") else (
                    known() if known else (404, "text/plain", "unknown path")
                )  # fmt: skip
                head = f"HTTP/1.1 {code} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n"
                end = "\r\n" if keep else "Connection: close\r\n\r\n"
                writer.write((head + end + ("" if method == "HEAD" else body)).encode())
                await writer.drain()
        writer.close()

    async def _in_line(self, head: str, reader: asyncio.StreamReader) -> None:
        """Until a caller may look for a slot. His body is read, and thrown away, for Caddy to see when he hangs up."""
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.splitlines())}
        left = int(fields.get("content-length", 0))
        while left:
            left -= len(await reader.readexactly(min(left, 65536)))
        age_ms, wait_s, size, *slots = fields["x-line"].split()
        now = time.monotonic()
        place = Place(now - float(age_ms) / 1000, float(wait_s), now, size, _slots(slots))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await self._pilot.in_line(place, gone)
        finally:
            gone.cancel()

    def _judged(self, verdict: Callable[[str, Declared, Scene], bool], size: str) -> Reply:
        return self._lane(verdict(size, self._pilot.declared, self._pilot.scene()))

    def _further(self, lane: str, place: Further, size: str) -> Reply:
        pilot = self._pilot
        later = lane == "vm" and size in SIZES and not allows_vm(size, pilot.declared, pilot.scene())
        return self._lane(pilot.opens(lane, place) and not later)

    def _well(self, lane: str) -> Reply:
        return self._lane(lane not in self._pilot.lanes or not self._pilot.lanes[lane].sick)

    def _lane(self, yes: bool) -> Reply:
        if self._asked is None:
            self._asked = time.monotonic()
        return _plain(yes)

    def _ready(self) -> Reply:
        return _plain(self._asked is not None and time.monotonic() - self._asked >= READY_AFTER_S)


def _slots(texts: list[str]) -> dict[str, int]:
    return {dial: int(most) for dial, _, most in (text.rpartition("=") for text in texts)}


def _plain(yes: bool) -> Reply:
    return (200, "text/plain", "yes") if yes else (503, "text/plain", "no")
