"""Toys around a gateway: model servers with switchable faults, a scripted pilot, a SOCKS5 server as the tunnel.

Owns: what stands behind Caddy in a fault test; the servers say who they are and record what reached them. Does not own:
Caddy itself (`world`), the lab, which runs the declaration.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

CHUNK = 64 * 1024
T = TypeVar("T")


@dataclass
class Received:
    """A request for an answer as it reached a lane."""

    path: str
    headers: dict[str, str]
    length: int
    sha256: str


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
    hold: bool = False
    """Answer only after `release`."""
    check_delay: float = 0
    healthy: bool = True


class Lane:
    """A model server on a loopback address; `down` makes the address refuse connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, host: str, port: int) -> None:
        self.name, self.host, self.port = name, host, port
        self._loop = loop
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._released = asyncio.Event()
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

    def up(self) -> None:
        self._run(self._start())

    def down(self) -> None:
        """Refuse connections and reset those that stand."""
        self._run(self._stop())

    def release(self) -> None:
        """Let the requests on hold go on."""
        self._loop.call_soon_threadsafe(self._released.set)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        self._released.clear()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                pass
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        if method == "GET":
            self.checks += 1
            await asyncio.sleep(self.behaviour.check_delay)
            self.seen.append(headers)
            status, body = self.checked(path)
            return await self._write(writer, status, {}, body)
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._complete(path, headers, reader, writer)
        finally:
            self.running -= 1

    def checked(self, path: str) -> tuple[int, bytes]:
        """Answer to a GET: the one path that home's Ingress lets through to the engine's health."""
        return (404 if path != "/health" else 200 if self.behaviour.healthy else 503), b"{}"

    async def _complete(
        self, path: str, headers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        now = self.by_path.get(path, self.behaviour)
        digest, left, taken = hashlib.sha256(), int(headers["content-length"]), 0
        while left:
            if now.die_after is not None and taken >= now.die_after:
                writer.transport.abort()
                return False
            piece = await reader.readexactly(min(left, CHUNK))
            digest.update(piece)
            left, taken = left - len(piece), taken + len(piece)
        self.received.append(Received(path, headers, taken, digest.hexdigest()))
        if now.die_after is not None:
            writer.transport.abort()
            return False
        if now.hold and not await self._unless_gone(reader, self._released.wait()):
            return False
        if now.delay and not await self._unless_gone(reader, asyncio.sleep(now.delay)):
            return False
        if now.tokens is not None:
            return await self._stream(writer, now)
        body = now.body if now.body is not None else json.dumps(_completion(self.name)).encode()
        return await self._write(writer, now.status, now.headers, body)

    async def _unless_gone(self, reader: asyncio.StreamReader, work: Coroutine[Any, Any, object]) -> bool:
        """Whether `work` ended before the caller hung up."""
        task, eof = asyncio.ensure_future(work), asyncio.ensure_future(reader.read(1))
        await asyncio.wait({task, eof}, return_when=asyncio.FIRST_COMPLETED)
        if eof.done():
            self.gone += 1
            task.cancel()
            return False
        eof.cancel()
        await asyncio.wait({eof})
        return True

    async def _write(self, writer: asyncio.StreamWriter, status: int, headers: dict[str, str], body: bytes) -> bool:
        lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body)
        await writer.drain()
        return True

    async def _stream(self, writer: asyncio.StreamWriter, now: Behaviour) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for index, pause in enumerate(now.tokens or ()):
            await asyncio.sleep(pause)
            event = f"data: {json.dumps({'index': index})}\n\n".encode()
            writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            await writer.drain()
        if now.die_in_stream:
            writer.transport.abort()
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


class Pilot(Lane):
    """A pilot that says what the test tells it to, and nothing while it is wedged (`behaviour.check_delay`)."""

    def reset(self) -> None:
        super().reset()
        self.asked: list[str] = []
        self.says = {"/ready": 200, "/lane/burst": 503, "/lane/vm-large": 503, "/status": 200}

    def checked(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
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
        started = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 1055), loop)
        self._server = started.result(10)
        self._loop = loop

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
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
                writer.close()
                return
            writer.write(b"\x05\x00\x00\x01" + bytes(6))
            # Either side's end ends both: half-closed connections would outlive their test.
            ways = (_pipe(reader, upstream[1]), _pipe(upstream[0], writer))
            pipes = {asyncio.ensure_future(way) for way in ways}
            _, open_still = await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            for pipe in open_still:
                pipe.cancel()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(CHUNK):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        writer.transport.abort()
    finally:
        writer.close()
