"""Toy lanes with switchable faults, and the real Caddy in front of them, on the declared addresses.

Owns: what a fault test needs around Caddy's rendered configuration: two model servers that say who they are and record
what reached them, a SOCKS5 server as the tunnel, the Caddy process. Does not own: the lab, which runs the declaration.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, TypeVar

CADDY = Path(sys.executable).parent / "caddy"
VM_ADDRESS = "127.0.0.2"
KEY = "test-key-0123456789"
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
        self.reset()

    def reset(self) -> None:
        """Forget faults and records."""
        self.behaviour = Behaviour()
        self.begun = self.checks = self.gone = self.running = self.most = 0
        self.received: list[Received] = []

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
            return await self._write(writer, 200 if self.behaviour.healthy else 503, {}, b"{}")
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._complete(path, headers, reader, writer)
        finally:
            self.running -= 1

    async def _complete(
        self, path: str, headers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        now = self.behaviour
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
            return await self._stream(writer, now.tokens)
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

    async def _stream(self, writer: asyncio.StreamWriter, pauses: list[float]) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for index, pause in enumerate(pauses):
            await asyncio.sleep(pause)
            event = f"data: {json.dumps({'index': index})}\n\n".encode()
            writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


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


@dataclass(frozen=True)
class Answer:
    """What a caller got; status 0: the connection broke."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def lane(self) -> str:
        return self.headers.get("x-served-by", "")

    @property
    def error(self) -> dict[str, Any]:
        """The `error` object of an OpenAI-style answer; empty if it is none."""
        with contextlib.suppress(ValueError):
            return {"code": None} | json.loads(self.body).get("error", {})
        return {"code": None}


class World:
    """Both lanes, the tunnel, and one Caddy with a given configuration."""

    def __init__(self, home: Lane, vm: Lane, tunnel: Tunnel) -> None:
        self.home, self.vm, self.tunnel = home, vm, tunnel
        self.port = 0
        self.patience = 3.5
        """Seconds a caller waits for the next byte."""
        self.log = ""

    def call(
        self,
        method: str = "POST",
        path: str = "/v1/chat/completions",
        body: bytes | None = b'{"model":"m"}',
        **headers: str,
    ) -> Answer:
        """One request with the right key (`Authorization` overrides it; underscores in names become dashes)."""
        sent = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        start = time.monotonic()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=self.patience)
        try:
            connection.connect()
            # As the SDK's client does: a server may answer before it has read everything.
            with contextlib.suppress(ConnectionError):
                connection.request(method, path, body, sent)
            return _read(connection.getresponse(), start)
        except (OSError, HTTPException) as error:
            return Answer(0, {}, repr(error).encode(), time.monotonic() - start)
        finally:
            connection.close()

    def raw(self, head: str, *pieces: bytes, until: Callable[[], bool] | None = None) -> bytes:
        """Bytes as they are, after `head` with Host and key. With `until`, hangs up once it is true."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(f"{head}\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
            for piece in pieces:
                connection.sendall(piece)
            if until is not None:
                self._until(until, 3)
                return b""
            with contextlib.suppress(TimeoutError):
                return connection.recv(65536)
            return b""

    def settle(self) -> None:
        """Until both lanes answer again: failures are remembered for a while."""
        self._heal()
        self._until(lambda: self.call().lane == "home")
        self.home.behaviour = Behaviour(hold=True)
        with self.held(self.home, 2):
            self._until(lambda: self.call().lane == "vm")
        self.home.reset()
        self.vm.reset()

    def _heal(self) -> None:
        for lane in (self.home, self.vm):
            lane.release()
            lane.up()
            lane.reset()

    @contextlib.contextmanager
    def held(self, lane: Lane, count: int) -> Generator[list[threading.Thread]]:
        """`count` callers whose requests a lane with `hold` keeps until the block ends."""
        callers = [threading.Thread(target=self.call) for _ in range(count)]
        for caller in callers:
            caller.start()
        self._until(lambda: lane.running >= count, 3)
        try:
            yield callers
        finally:
            lane.release()
            for caller in callers:
                caller.join(30)
            lane.up()

    def _until(self, true: Callable[[], bool], seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, "the lanes never got there"
            time.sleep(0.02)

    @contextlib.contextmanager
    def caddy(
        self, config: dict[str, Any], environment: dict[str, str], *, first: str = "home"
    ) -> Generator[subprocess.Popen[bytes]]:
        """Caddy with this configuration, until the block ends. One at a time: it would share its ports silently."""
        self._heal()
        self.port = _free_port()
        with tempfile.TemporaryDirectory() as folder:
            path, log = Path(folder) / "caddy.json", Path(folder) / "log"
            path.write_text(json.dumps(config))
            env = {"PATH": os.environ["PATH"], "HOME": folder, "PORT": str(self.port), **environment}
            with log.open("wb") as stderr:
                process = subprocess.Popen([CADDY, "run", "--config", path], env=env, stderr=stderr, stdout=stderr)
            try:
                self._wait_ready(process, log, first)
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(12)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                self.log = log.read_text()

    def _wait_ready(self, process: subprocess.Popen[bytes], log: Path, first: str) -> None:
        deadline = time.monotonic() + 15
        while self.call("GET", "/ready", None).status != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Caddy did not start:\n{log.read_text()}")
            time.sleep(0.02)
        # Checks that ran before the listeners were up found every lane down.
        self._until(lambda: self.call().lane == first)
        self.home.reset()
        self.vm.reset()


def _read(response: HTTPResponse, start: float) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read(), time.monotonic() - start)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def declared_addresses() -> Generator[None]:
    """The declaration's ports are fixed: one test run on this machine at a time."""
    with (Path(tempfile.gettempdir()) / "pilotlight-lab.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def world() -> Generator[World]:
    """Two lanes and a tunnel, without Caddy."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    with declared_addresses():
        home, vm = Lane(loop, "home", "127.0.0.1", 0), Lane(loop, "vm", VM_ADDRESS, 9931)
        home.up()
        vm.up()
        tunnel = Tunnel(loop, home)
        try:
            yield World(home, vm, tunnel)
        finally:
            home.down()
            vm.down()
            tunnel.close()
            asyncio.run_coroutine_threadsafe(_finish(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)
            loop.close()


async def _finish() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    # A closed transport closes its socket in the loop's next round.
    await asyncio.sleep(0.05)
