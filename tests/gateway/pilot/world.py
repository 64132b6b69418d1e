"""Toys of everything the pilot talks to: they record what they are asked, and answer what a test tells them to.

Owns: the toys. Does not own: the pilot's process (`running`). Nothing here uses the declaration's fixed ports.
"""

import asyncio
import base64
import contextlib
import json
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.kit import close, until

DIALS = {"home": "home:80", "burst": "127.0.0.1:9181", "vm": "10.0.0.2:9931"}
T = TypeVar("T")


@dataclass
class Asked:
    """A request that reached a toy."""

    method: str
    path: str
    headers: dict[str, str]
    at: float


Reply = tuple[int, str] | tuple[int, str, str] | None
"""Status, body, and a header's line; None: no answer ever."""


class Toy:
    """An HTTP server that records what it is asked, and answers what `reply` says."""

    def __init__(self, reply: Callable[[Asked], Coroutine[Any, Any, Reply]]) -> None:
        self.reply = reply
        self.asked: list[Asked] = []
        self.running = self.most = 0
        self.port = 0
        self.server: asyncio.Server | None = None

    async def start(self, socket_path: Path | None = None) -> None:
        if socket_path:
            self.server = await asyncio.start_unix_server(self._serve, socket_path)
        else:
            self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self.answer(reader, writer)
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        asked = Asked(method, path, headers, time.monotonic())
        self.asked.append(asked)
        self.running += 1
        self.most = max(self.most, self.running)
        work = asyncio.ensure_future(self.reply(asked))
        gone = asyncio.ensure_future(reader.read())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            result = work.result() if work.done() else None
            if work.done() and result is None:
                await gone
        finally:
            self.running -= 1
            for task in (work, gone):
                task.cancel()
        if result:
            status, text, *lines = result
            body = text.encode()
            fields = [f"HTTP/1.1 {status} X", "Connection: close", f"Content-Length: {len(body)}", *lines]
            writer.write("\r\n".join([*fields, "", ""]).encode() + body)
            await writer.drain()

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]


def jwt(seconds: float) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + seconds}).encode()).decode().rstrip("=")
    return f"e30.{payload}.{os.urandom(4).hex()}"


class World:
    """Toys of the metadata server, Caddy's admin API and checks, burst, home's SOCKS path, and tailscaled."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
        self.loop, self.folder = loop, folder
        self.token_life: float = 3600
        self.tokens: list[str] = []
        self.metadata_wedged = self.caddy_wedged = False
        self.in_flight = {"home": 0, "burst": 0, "vm": 0}
        self.waiting = self.fails = self.spoken = 0
        self.fails_at = "burst"
        """`spoken`: requests to another service at home."""
        self.done = {"api": 5, "burst": 3}
        """Requests ended so far, by Caddy's server."""
        self.health: list[int] = []
        """Answers of the next `/health` requests; then 200."""
        self.health_delay = 0.0
        self.first_tokens, self.first_token_s = 0, 0.0
        self.one_token_s = 0.0
        self.token_refused: set[str] = set()
        self.home = "answers"
        self.engine = "works"
        """Home's: `works`, `mute` (nothing moves, no token comes) or `fails` (500 to every request)."""
        self.engine_asked: list[tuple[str, str, str]] = []
        """Method, path and Host of what the pilot asked home's engine."""
        self.engine_errors = 0
        self.error_codes: dict[int, int] = {}
        """Answers that callers got, by status, as Caddy counts them."""
        self.probes = self.answered = 0
        """Connections to home so far, and those that got an answer."""
        self.checked: dict[str, int] = {}
        self.metadata, self.burst = Toy(self._metadata), Toy(self._burst)
        self.admin, self.checks, self.daemon = Toy(self._admin), Toy(self._checks), Toy(self._daemon)
        self.toys = [self.metadata, self.burst, self.admin, self.checks, self.daemon]
        self.socks: asyncio.Server | None = None
        self.socks_port = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    async def start(self) -> None:
        for toy in (self.metadata, self.burst, self.checks):
            await toy.start()
        await self.daemon.start(self.folder / "tailscaled.sock")
        self.socks = await asyncio.start_server(self._socks, "127.0.0.1", 0)
        self.socks_port = self.socks.sockets[0].getsockname()[1]

    async def finish(self) -> None:
        for server in (self.socks, *(toy.server for toy in self.toys)):
            if server:
                await close(server)

    def fake_admin(self) -> None:
        self.run(self.admin.start(self.folder / "admin.sock"))

    def looked(self, times: int = 5) -> None:
        """Until the pilot has asked Caddy for the lanes that often again, and so has seen what is there now."""
        seen = self.admin.paths().count("/reverse_proxy/upstreams") + times
        until(lambda: self.admin.paths().count("/reverse_proxy/upstreams") >= seen, "the pilot looks again")

    def probed(self, times: int) -> None:
        """Until home was probed that often again."""
        seen = self.probes + times
        until(lambda: self.probes >= seen, "home is probed again")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.burst.port}"

    async def _metadata(self, _: Asked) -> Reply:
        if self.metadata_wedged:
            return None
        self.tokens.append(jwt(self.token_life))
        return 200, self.tokens[-1] + "\n"

    async def _admin(self, asked: Asked) -> Reply:
        if self.caddy_wedged:
            return None
        if asked.path == "/reverse_proxy/upstreams":
            rows = [
                {"address": DIALS[lane], "num_requests": count, "fails": self.fails if lane == self.fails_at else 0}
                for lane, count in self.in_flight.items()
            ]
            # The checks' own upstreams and the hop's show up, too.
            other = {"address": "home:080", "num_requests": self.spoken, "fails": 0}
            return 200, json.dumps([*rows, other, {"address": "tcp/home:80", "num_requests": 9, "fails": 9}])
        gauge = "caddy_http_requests_in_flight"
        total = sum(self.in_flight.values()) + self.waiting
        lines = [
            f"# TYPE {gauge} gauge",
            f'{gauge}{{handler="map",server="api"}} {total + 3}',
            f'{gauge}{{handler="reverse_proxy",server="api"}} {total}',
            f'{gauge}{{handler="reverse_proxy",server="checks"}} 7',
            *(f'caddy_http_requests_total{{handler="reverse_proxy",server="{at}"}} {n}' for at, n in self.done.items()),
            *(
                f'caddy_http_request_duration_seconds_count{{code="{code}",handler="reverse_proxy",server="api"}} {n}'
                for code, n in self.error_codes.items()
            ),
            "go_goroutines 31",
        ]
        return 200, "\n".join(lines) + "\n"

    async def _burst(self, asked: Asked) -> Reply:
        token = asked.headers.get("x-serverless-authorization", "").removeprefix("Bearer ")
        if token not in self.tokens or token in self.token_refused:
            return 401, "no"
        if asked.path == "/health":
            await asyncio.sleep(self.health_delay)
            return (self.health.pop(0) if self.health else 200), ""
        if asked.path == "/metrics":
            name = "vllm:time_to_first_token_seconds"
            label = '{engine="0",model_name="org/model"}'
            lines = [f"{name}_sum{label} {self.first_tokens * self.first_token_s}"]
            return 200, "\n".join([*lines, f"{name}_count{label} {self.first_tokens}"])
        await asyncio.sleep(self.one_token_s)
        return 200, "{}"

    async def _checks(self, asked: Asked) -> Reply:
        return self.checked.get(asked.headers["x-lane"], 200), ""

    async def _daemon(self, _: Asked) -> Reply:
        return 200, ""

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._tunnel(reader, writer)
        finally:
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.probes += 1
        await reader.readexactly((await reader.readexactly(2))[1])
        writer.write(b"\x05\x00")
        size = (await reader.readexactly(5))[4]
        assert await reader.readexactly(size + 2) == b"home\x00\x50"
        if self.home == "refuses":
            writer.write(b"\x05\x05\x00\x01" + bytes(6))
        elif self.home == "black hole":
            await reader.read()
        else:
            writer.write(b"\x05\x00\x00\x01" + bytes(6))
            method, path, host = _asked((await reader.readuntil(b"\r\n\r\n")).decode())
            if path != "/":
                self.engine_asked.append((method, path, host))
                writer.write(await self._home_s_engine(path, reader))
                return
            await asyncio.sleep({"silent": 60, "slow": 2.5}.get(self.home, 0))
            status = 503 if self.home == "fails" else 404
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
            self.answered += 1

    async def _home_s_engine(self, path: str, reader: asyncio.StreamReader) -> bytes:
        """vLLM's names; a stuck one's metrics are answered by its front, and stand still."""
        status, body = 200, "{}"
        if path == "/metrics":
            self.first_tokens += int(self.engine == "works" and self.in_flight["home"] > 0)
            body = "\n".join(
                [
                    f"vllm:time_to_first_token_seconds_sum {self.first_tokens * self.first_token_s}",
                    f"vllm:time_to_first_token_seconds_count {self.first_tokens}",
                    f"vllm:prompt_tokens_total {1000 + 20 * self.first_tokens}",
                    f"vllm:generation_tokens_total {100 + 5 * self.first_tokens}",
                    f'http_requests_total{{handler="/v1/completions",status="5xx"}} {self.engine_errors}',
                ]
            )
        elif self.engine == "mute":
            await reader.read()
        elif self.engine == "fails":
            status = 500
        return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def _asked(head: str) -> tuple[str, str, str]:
    """Method, path and Host."""
    first, *fields = head.split("\r\n")
    method, path, _ = first.split(" ")
    return method, path, next(field.partition(": ")[2] for field in fields if field.startswith("Host"))
