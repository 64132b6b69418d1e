"""An internal passthrough load balancer: each connection to its address goes to one of several machines.

Owns: the choice of a machine, its health check, the bytes in between. Does not own: which machines there are (`vm`).

Google's hands on the packets themselves; here a process stands in between, so a machine that refuses a connection is
one that resets it. Without session affinity the choice is a consistent hash of the connection's five values, over the
healthy machines, or over all where none is (docs.cloud.google.com/load-balancing/docs/internal, traffic distribution).
So connections are not spread evenly, and what is under way doesn't count.
"""

import asyncio
import contextlib
import hashlib
import time
from dataclasses import dataclass
from typing import Final

import aiohttp

PIECE: Final = 2**16
"""Bytes that are handed on at once."""


@dataclass(eq=False)
class Backend:
    """A machine's server, as the balancer sees it."""

    host: str
    port: int
    healthy: bool = True
    failures: int = 0
    """Checks in a row."""
    connections: int = 0
    checked: asyncio.Task[None] | None = None


class Balancer:
    """Listens on `host:port`; asks `/health` of each machine every `check_s`, and `failures` in a row are too many."""

    def __init__(self, host: str, port: int, *, check_s: float, failures: int) -> None:
        self._host, self._port, self._check_s, self._failures = host, port, check_s, failures
        self._backends: list[Backend] = []
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, self._host, self._port)

    async def stop(self) -> None:
        """Refuses connections from now on, and cuts those that are open."""
        if self._server:
            self._server.close()
            self._server = None
        tasks = {*self._open, *(one.checked for one in self._backends if one.checked)}
        self._backends.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def add(self, host: str, port: int) -> Backend:
        """A machine that answers."""
        backend = Backend(host, port)
        backend.checked = asyncio.create_task(self._check(backend))
        self._backends.append(backend)
        return backend

    async def drain(self, backend: Backend, limit_s: float) -> None:
        """Gives a machine no new connection, and returns when those that it has are over, or after `limit_s`."""
        self._backends.remove(backend)
        assert backend.checked
        backend.checked.cancel()
        deadline = time.monotonic() + limit_s
        while backend.connections and time.monotonic() < deadline:  # noqa: ASYNC110 (whose end it is tells nobody)
            await asyncio.sleep(0.05)

    @property
    def healthy(self) -> int:
        return sum(one.healthy for one in self._backends)

    def choose(self, peer: tuple[str, int]) -> Backend | None:
        """The machine of a connection. One more or one less changes that of as few connections as can be."""
        among = [one for one in self._backends if one.healthy] or self._backends
        return max(among, key=lambda one: self._rank(peer, one), default=None)

    def _rank(self, peer: tuple[str, int], backend: Backend) -> bytes:
        five = f"tcp {peer[0]} {peer[1]} {self._host} {self._port}"
        return hashlib.blake2b(f"{five} {backend.host} {backend.port}".encode()).digest()

    async def _check(self, backend: Backend) -> None:
        url = f"http://{backend.host}:{backend.port}/health"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._check_s)) as client:
            while True:
                await asyncio.sleep(self._check_s)
                well = False
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with client.get(url) as answer:
                        well = answer.status == 200
                backend.failures = 0 if well else backend.failures + 1
                backend.healthy = well or (backend.healthy and backend.failures < self._failures)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._lead(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backend = self.choose(writer.get_extra_info("peername"))
        if backend:
            backend.connections += 1
        try:
            if backend:
                await self._join(backend, reader, writer)
                writer.close()
        finally:
            # After a close it has nothing left to end; a machine that refused or was reset is one that resets.
            if not writer.is_closing():
                writer.transport.abort()
            if backend:
                backend.connections -= 1

    async def _join(self, backend: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both directions, each to its end."""
        with contextlib.suppress(OSError):
            there, to_there = await asyncio.open_connection(backend.host, backend.port)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(reader, to_there))
                    both.create_task(_pump(there, writer))
                to_there.close()
            except* OSError:
                writer.transport.abort()
            finally:
                if not to_there.is_closing():
                    to_there.transport.abort()
            return
        writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()
    await writer.drain()
