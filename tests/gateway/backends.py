"""Toys around a gateway: model servers with switchable faults, a scripted pilot, a SOCKS5 server as the tunnel.

Owns: what stands behind Caddy in a fault test; the servers say who they are and record what reached them. Does not own:
Caddy itself (`world`), the lab, which runs the declaration.
"""

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from components.gateway.caddy.upstreams import ALONE
from components.gateway.pilot.answers import READY_AFTER_S
from components.machines.requests import Size
from tests.kit import close

CHUNK = 64 * 1024
T = TypeVar("T")


@dataclass
class Received:
    """A request for an answer as it reached a lane."""

    path: str
    headers: dict[str, str]
    length: int
    sha256: str
    peer: tuple[str, int] = field(compare=False)
    """The caller's end of the connection that it came by, which says nothing about the request."""


@dataclass
class Behaviour:
    """What a lane does with the next requests."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    delay: float = 0
    """Seconds before the answer's headers."""
    tokens: list[float] | None = None
    """Stream: pauses before each event, seconds."""
    die_after: int | None = None
    """Reset the connection after so many bytes of the request's body."""
    die_in_stream: bool = False
    """Reset the connection after the last token, before the stream's end."""
    step: bool = False
    """Stream: each event only after a `release` of its own."""
    hold: bool = False
    """Answer only after `release`."""
    check_delay: float = 0
    healthy: bool = True


class Lane:
    """A model server on a loopback address; `down` makes the address refuse connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, host: str, port: int) -> None:
        self.name, self.host, self.port = name, host, port
        self._loop = loop
        self._server: web.Server | None = None
        self._listening: asyncio.Server | None = None
        self._released = asyncio.Event()
        self._holds: list[str] = []
        self.running = 0
        self.reset()

    def reset(self) -> None:
        """Forget faults and records."""
        self.behaviour = Behaviour()
        self.by_path: dict[str, Behaviour] = {}
        """What requests for single paths get instead."""
        self.begun = self.checks = self.gone = self.most = 0
        self.received: list[Received] = []
        self.seen: list[dict[str, str]] = []
        """Headers of the checks."""
        self.check_headers: dict[str, str] = {}
        """Of the answers to them."""

    def up(self) -> None:
        self._run(self._start())

    def down(self) -> None:
        """Refuse connections and reset those that stand."""
        self._run(self._stop())

    def release(self) -> None:
        """Let the requests on hold go on."""
        self._loop.call_soon_threadsafe(self._released.set)

    def holds(self) -> set[str]:
        """Ids of the requests on hold."""
        return set(self._holds)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        self._released.clear()
        if self._listening is None:
            self._server = web.Server(self._serve, handler_cancellation=True, access_log=None, keepalive_timeout=3600)
            self._listening = await self._loop.create_server(self._server, self.host, self.port)
            self.port = self._listening.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._listening is None or self._server is None:
            return
        await close(self._listening)
        self._listening = None
        for connection in self._server.connections:
            if connection.transport:
                connection.transport.abort()
        await self._server.shutdown(0.1)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if request.method == "GET":
            self.checks += 1
            await asyncio.sleep(self.behaviour.check_delay)
            self.seen.append(headers)
            status, body = self.checked(request.raw_path)
            return _json(status, body, **self.check_headers)
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._complete(request, headers)
        finally:
            self.running -= 1

    def checked(self, path: str) -> tuple[int, bytes]:
        """Answer to a GET: the one path that home's Ingress lets through to the engine's health."""
        return (404 if path != "/health" else 200 if self.behaviour.healthy else 503), b"{}"

    async def _complete(self, request: web.BaseRequest, headers: dict[str, str]) -> web.StreamResponse:
        now = self.by_path.get(request.raw_path, self.behaviour)
        digest, taken = hashlib.sha256(), 0
        while now.die_after is None or taken < now.die_after:
            piece = await request.content.read(CHUNK)
            if not piece:
                break
            digest.update(piece)
            taken += len(piece)
        if request.content.at_eof():
            peer = request.transport.get_extra_info("peername") if request.transport else ("", 0)
            self.received.append(Received(request.raw_path, headers, taken, digest.hexdigest(), peer))
        if now.die_after is not None:
            return _reset(request)
        try:
            if now.hold:
                await self._hold(headers.get("x-request-id", ""))
            await asyncio.sleep(now.delay)
        except asyncio.CancelledError:
            self.gone += 1
            raise
        if now.tokens is not None:
            return await self._stream(request, now)
        body = now.body if now.body is not None else json.dumps(_completion(self.name)).encode()
        return _json(now.status, body, **now.headers)

    async def _hold(self, request_id: str) -> None:
        self._holds.append(request_id)
        try:
            await self._released.wait()
        finally:
            self._holds.remove(request_id)

    async def _stream(self, request: web.BaseRequest, now: Behaviour) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", **now.headers})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        for index, pause in enumerate(now.tokens or ()):
            if now.step:
                await self._released.wait()
                self._released.clear()
            await asyncio.sleep(pause)
            await answer.write(f"data: {json.dumps({'index': index})}\n\n".encode())
        if now.die_in_stream:
            return _reset(request)
        await answer.write_eof()
        return answer


def _json(status: int, body: bytes, **headers: str) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json", **headers})


def _reset(request: web.BaseRequest) -> web.Response:
    """Breaks the connection; the answer reaches nobody."""
    if request.transport:
        request.transport.abort()
    return web.Response()


class Pilot(Lane):
    """A pilot that says what the test tells it to, and nothing while it is wedged (`behaviour.check_delay`).

    As the real one it is not ready before Caddy has asked about the lanes: until then Caddy takes all for healthy.
    """

    first_asked: float | None = None
    """When this Caddy first asked about a lane, by the monotonic clock."""

    def reset(self) -> None:
        super().reset()
        self.asked: list[str] = []
        self.says = {"/ready": 200, "/lane/burst": 503, "/status": 200, "/line": 503}
        for path, status in (("/lane/home", 200), ("/lane/vm", 200), ("/lane/refuse", 503)):
            self.says |= {f"{path}/{size}": status for size in (*Size, ALONE)}

    def checked(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        if path.startswith("/lane/") and self.first_asked is None:
            self.first_asked = time.monotonic()
        if path == "/ready" and (self.first_asked is None or time.monotonic() - self.first_asked < READY_AFTER_S):
            return 503, b"no"
        return self.says[path], b'{"burst": "as scripted"}'


def _completion(name: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"I am {name}"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


class Tunnel:
    """A SOCKS5 server that knows one host, `home:80`: stands for Tailscale's userspace listener."""

    def __init__(self, loop: asyncio.AbstractEventLoop, home: Lane) -> None:
        self._home = home
        self.asked: set[str] = set()
        self.refuse = False
        """Whether nobody listens: every connection is reset before it says anything."""
        started = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 1055), loop)
        self._server = started.result(10)
        self._loop = loop
        self._pipes: set[asyncio.Future[None]] = set()

    def cut(self) -> None:
        """Every connection breaks, as when the daemon ends; the next one is dialled again."""
        for pipe in [*self._pipes]:
            pipe.cancel()

    def close(self) -> None:
        self.run(close(self._server))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """In the toys' loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._pass_on(reader, writer)
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            return
        await reader.readexactly((await reader.readexactly(2))[1])
        writer.write(b"\x05\x00")
        kind = (await reader.readexactly(4))[3]
        size = (await reader.readexactly(1))[0] if kind == 3 else 3
        host = (await reader.readexactly(size)).decode(errors="replace")
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.add(f"{host}:{port}")
        try:
            upstream = await asyncio.open_connection(self._home.host, self._home.port)
        except OSError:
            writer.write(b"\x05\x05\x00\x01" + bytes(6))
            return
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        # Either side's end ends both: half-closed connections would outlive their test.
        pipes = {asyncio.ensure_future(way) for way in (_pipe(reader, upstream[1]), _pipe(upstream[0], writer))}
        self._pipes |= pipes
        try:
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pipe in pipes:
                pipe.cancel()
            self._pipes -= pipes
            upstream[1].close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(CHUNK):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        writer.transport.abort()
    finally:
        writer.close()
