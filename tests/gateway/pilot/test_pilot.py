"""The pilot as a process, between toys of everything it talks to; once with a real Caddy.

Nothing here uses the declaration's fixed ports, so these tests run beside others.
"""

import asyncio
import base64
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from components.gateway.pilot_container import FILE, archive

CADDY = Path(sys.executable).parent / "caddy"
DIALS = {"home": "home:80", "burst": "127.0.0.1:9181", "vm": "10.0.0.2:9931"}
T = TypeVar("T")


@dataclass
class Asked:
    """A request that reached a toy."""

    method: str
    path: str
    headers: dict[str, str]
    at: float


Reply = tuple[int, str] | None
"""Status and body; None: no answer ever."""


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
            body = result[1].encode()
            writer.write(f"HTTP/1.1 {result[0]} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]


def jwt(seconds: float) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + seconds}).encode()).decode().rstrip("=")
    return f"e30.{payload}.{os.urandom(4).hex()}"


class World:
    """Toys of the metadata server, Caddy's admin API and checks, burst, home's SOCKS path, and tailscaled."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
        self.loop, self.folder = loop, folder / "run"
        self.folder.mkdir()
        self.program = folder / FILE
        self.program.write_bytes(archive())
        self.token_life: float = 3600
        self.tokens: list[str] = []
        self.metadata_wedged = self.caddy_wedged = False
        self.in_flight = {"home": 0, "burst": 0, "vm": 0}
        self.waiting = self.fails = self.spoken = 0
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
                server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        # A closed transport closes its socket in the loop's next round.
        await asyncio.sleep(0.05)

    def fake_admin(self) -> None:
        self.run(self.admin.start(self.folder / "admin.sock"))

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
                {"address": DIALS[lane], "num_requests": count, "fails": self.fails if lane == "burst" else 0}
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
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep({"silent": 60, "slow": 2.5}.get(self.home, 0))
            status = 503 if self.home == "fails" else 404
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())


@dataclass
class Running:
    """A pilot process."""

    world: World
    process: subprocess.Popen[bytes]
    port: int
    log_file: Path
    slowest: float = 0.0
    connection: http.client.HTTPConnection | None = field(default=None)

    def get(self, path: str) -> tuple[int, str]:
        """On one connection, as Caddy keeps it."""
        self.connection = self.connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        begun = time.monotonic()
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        self.slowest = max(self.slowest, time.monotonic() - begun)
        return answer.status, text

    def status(self) -> dict[str, Any]:
        return json.loads(self.get("/status")[1])

    @property
    def state(self) -> str:
        return self.status()["lanes"]["burst"]["state"]

    def reaches(self, state: str, seconds: float = 5) -> float:
        begun = time.monotonic()
        until(lambda: self.state == state, seconds, f"burst never got {state}")
        return time.monotonic() - begun

    def log(self) -> list[dict[str, Any]]:
        lines = self.log_file.read_text().splitlines()
        # Python's own debug mode (`-X dev`) reports a step of over 0.1 s there, which a busy machine is enough for.
        return [json.loads(line) for line in lines if not line.startswith("Executing <")]

    def moves(self, lane: str = "burst") -> list[tuple[str, str]]:
        return [(line["from"], line["to"]) for line in self.log() if line.get("lane") == lane and "from" in line]

    def stop(self) -> float:
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        return time.monotonic() - begun


def until(true: Callable[[], bool], seconds: float = 5, what: str = "it never happened") -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def world() -> Iterator[World]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    with tempfile.TemporaryDirectory() as folder:
        here = World(loop, Path(folder))
        here.run(here.start())
        try:
            yield here
        finally:
            here.run(here.finish())
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)
            loop.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(world: World, port: int, **changes: object) -> dict[str, str]:
    values: dict[str, object] = {
        "PILOT_LISTEN": f"127.0.0.1:{port}",
        "PILOT_FOLDER": world.folder,
        "BURST_URL": world.url,
        "HOME_ADDRESS": "home:80",
        "SOCKS5": f"127.0.0.1:{world.socks_port}",
        **{f"{lane.upper()}_DIAL": dial for lane, dial in DIALS.items()},
        "HOME_CAPACITY": 0,
        "VM_CAPACITY": 2,
        "PILOT_WAKE": "pressure",
        "PILOT_IDLE_S": 60,
        "PILOT_WAKE_DEADLINE_S": 30,
        "PILOT_RETRY_S": 30,
        "PILOT_SLOW_S": 1,
        "PILOT_RECOVERED_S": 0.5,
        "TAILSCALED_SOCKET": world.folder / "tailscaled.sock",
        "GCE_METADATA_HOST": f"127.0.0.1:{world.metadata.port}",
        "PILOT_CHECKS": f"127.0.0.1:{world.checks.port}",
        **changes,
    }
    return {key: str(value) for key, value in values.items()}


@contextlib.contextmanager
def piloted(world: World, *, admin: bool = True, **changes: object) -> Generator[Running]:
    """A running pilot; at the end it leaves within a second, whatever happened to it."""
    if admin:
        world.fake_admin()
    port = free_port()
    log_file = world.folder / "log"
    with log_file.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-X", "dev", world.program],
            env=environment(world, port, **changes),
            stderr=stderr,
        )
    running = Running(world, process, port, log_file)
    try:
        until(lambda: process.poll() is None and _listens(port), 10, "the pilot does not listen")
        yield running
        assert running.stop() < 1
        assert process.returncode == 0
        assert {line["severity"] for line in running.log()} <= {"INFO", "WARNING", "ERROR"}
        assert "could not do one of its duties" not in log_file.read_text()
    finally:
        if running.connection:
            running.connection.close()
        if process.poll() is None:
            process.kill()
            process.wait()
        print(log_file.read_text())


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_token_is_written_whole_and_renewed(world: World) -> None:
    world.token_life = 300 + 2.5
    with piloted(world):
        path = world.folder / "id-token"
        until(path.exists)
        seen = {path.read_text()}
        assert path.stat().st_mode & 0o777 == 0o600
        asked = world.metadata.asked[0]
        assert asked.headers["metadata-flavor"] == "Google"
        prefix = "/computeMetadata/v1/instance/service-accounts/default/identity?audience="
        assert asked.path == f"{prefix}http%3A%2F%2F127.0.0.1%3A{world.burst.port}&format=full"
        deadline = time.monotonic() + 6
        # As often as this process can: a file that is gone or empty for a moment is seen.
        while path.read_text() == world.tokens[0] and time.monotonic() < deadline:
            pass
        seen.add(path.read_text())
        assert len(world.tokens) == 2, "renewed five minutes before its end, and once"
        assert seen == set(world.tokens), "never empty, never half, no newline"
        assert 2 < world.metadata.asked[1].at - asked.at < 4
        assert sorted(p.name for p in world.folder.iterdir()) == ["admin.sock", "id-token", "log", "tailscaled.sock"]


def test_wake_follows_demand_one_at_a_time(world: World) -> None:
    world.health = [429, 503, 500]
    with piloted(world) as pilot_:
        until((world.folder / "id-token").exists)
        world.in_flight["vm"] = 1
        time.sleep(0.8)
        assert (pilot_.state, world.burst.asked) == ("cold", [])
        world.in_flight["vm"] = 2
        pilot_.reaches("warming", 1)
        assert pilot_.get("/lane/burst")[0] == 503
        pilot_.reaches("warm", 6)
        assert world.burst.paths() == ["/health"] * 4
        assert world.burst.most == 1
        pauses = [b.at - a.at for a, b in zip(world.burst.asked, world.burst.asked[1:], strict=False)]
        assert min(pauses) >= 1
        assert pilot_.get("/lane/burst")[0] == 200
        assert pilot_.moves() == [("cold", "warming"), ("warming", "warm")]
        assert 3 < pilot_.status()["lanes"]["burst"]["wake_s"] < 6


def test_held_wake_is_not_repeated(world: World) -> None:
    world.health_delay = 2.5
    with piloted(world) as pilot_:
        world.waiting = 1
        pilot_.reaches("warm", 6)
        assert world.burst.paths() == ["/health"]
        assert pilot_.status()["waiting"] == 1


@pytest.mark.parametrize(("wake", "load"), [("first-fallback", {"vm": 1}), ("pressure", {"vm": 2}), ("never", {})])
def test_wake_setting(world: World, wake: str, load: dict[str, int]) -> None:
    with piloted(world, PILOT_WAKE=wake) as pilot_:
        until((world.folder / "id-token").exists)
        world.in_flight |= {"home": 9}
        time.sleep(0.7)
        assert pilot_.state == "cold"
        world.in_flight |= load or {"vm": 9}
        world.waiting = 0 if load else 5
        time.sleep(1.2)
        assert pilot_.state == ("warm" if load else "cold")
        assert len(world.burst.asked) == (1 if load else 0)
        assert pilot_.get("/lane/vm-large")[0] == (503 if load else 200)


def test_answers_of_the_vm_too_short_to_be_seen_are_demand(world: World) -> None:
    with piloted(world, PILOT_WAKE="first-fallback") as pilot_:
        until((world.folder / "id-token").exists)
        world.done["api"] += 1
        time.sleep(1.2)
        assert pilot_.state == "cold", "home is up and served it"
        world.checked = {DIALS["home"]: 503}
        until(lambda: pilot_.status()["lanes"]["home"]["state"] == "down")
        world.done = {"api": 9, "burst": 6}
        time.sleep(1.2)
        assert pilot_.state == "cold", "burst served them"
        world.done["api"] += 1
        pilot_.reaches("warm", 2)


def test_deadline_ends_the_wake(world: World) -> None:
    world.health_delay = 60
    with piloted(world, PILOT_WAKE_DEADLINE_S=1.5, PILOT_RETRY_S=1) as pilot_:
        world.in_flight["vm"] = 2
        pilot_.reaches("warming")
        assert pilot_.get("/lane/vm-large")[0] == 503
        pilot_.reaches("down", 3)
        until(lambda: world.burst.running == 0, 1, "the wake was not given up")
        assert (pilot_.get("/lane/burst")[0], pilot_.get("/lane/vm-large")[0]) == (503, 200)
        world.health_delay = 0
        pilot_.reaches("warm", 4)
        assert pilot_.get("/lane/vm-large")[0] == 503
        assert pilot_.moves() == [
            ("cold", "warming"), ("warming", "down"), ("down", "cold"), ("cold", "warming"), ("warming", "warm")
        ]  # fmt: skip
        assert world.burst.most == 1
        down = next(line for line in pilot_.log() if line.get("to") == "down")
        assert (down["severity"], down["from"], down["lane"]) == ("WARNING", "warming", "burst")
        assert "no answer within 1.5 s" in down["reason"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", down["time"])


def test_idle_burst_may_sleep(world: World) -> None:
    """No request while warm and unused; then it is taken for cold."""
    with piloted(world, PILOT_IDLE_S=3) as pilot_:
        world.in_flight["vm"] = 2
        pilot_.reaches("warm")
        world.in_flight |= {"vm": 0, "burst": 1}
        until(lambda: world.burst.paths().count("/metrics") >= 2)
        world.in_flight["burst"] = 0
        time.sleep(1)
        before = len(world.burst.asked)
        assert pilot_.state == "warm"
        pilot_.reaches("cold", 4)
        time.sleep(0.5)
        assert len(world.burst.asked) == before
        assert pilot_.moves()[-1] == ("warm", "cold")
        assert pilot_.get("/lane/burst")[0] == 503


def test_slow_burst_is_left_and_taken_again(world: World) -> None:
    with piloted(world) as pilot_:
        world.in_flight["vm"] = 2
        pilot_.reaches("warm")
        world.in_flight |= {"vm": 0, "burst": 2}

        def serve_some(seconds: float, first_token_s: float, enough: Callable[[], bool]) -> None:
            world.first_token_s = world.first_token_s or first_token_s
            deadline = time.monotonic() + seconds
            while not enough() and time.monotonic() < deadline:
                # Sum and count grow, so that what is new took `first_token_s`.
                total = world.first_tokens * world.first_token_s + first_token_s
                world.first_tokens += 1
                world.first_token_s = total / world.first_tokens
                time.sleep(0.1)

        serve_some(3, 0.8, lambda: False)
        assert pilot_.state == "warm", "between the thresholds nothing changes"
        assert 0.7 < pilot_.status()["lanes"]["burst"]["first_token_s"] < 0.9
        world.one_token_s = 0.8
        serve_some(6, 3.0, lambda: pilot_.state == "slow")
        assert (pilot_.state, pilot_.get("/lane/burst")[0], pilot_.get("/lane/vm-large")[0]) == ("slow", 503, 200)
        world.in_flight |= {"vm": 2, "burst": 0}
        time.sleep(5.5)
        assert pilot_.state == "slow", "between the thresholds nothing changes"
        world.one_token_s = 0.0
        pilot_.reaches("warm", 6)
        assert pilot_.moves() == [("cold", "warming"), ("warming", "warm"), ("warm", "slow"), ("slow", "warm")]
        assert world.burst.most == 1


def test_burst_that_fails_is_left(world: World) -> None:
    with piloted(world) as pilot_:
        world.in_flight["vm"] = 2
        pilot_.reaches("warm")
        world.in_flight["vm"] = 0
        world.health, world.fails = [429] * 99, 3
        pilot_.reaches("cold", 1)
        assert "Caddy saw requests to burst fail" in pilot_.log()[-1]["reason"]


def test_refused_token_is_renewed(world: World) -> None:
    with piloted(world) as pilot_:
        until((world.folder / "id-token").exists)
        time.sleep(0.2)
        world.token_refused = set(world.tokens)
        world.in_flight["vm"] = 2
        # The metadata server is asked every five seconds at most.
        pilot_.reaches("warm", 10)
        assert len(world.tokens) == 2
        assert (world.folder / "id-token").read_text() == world.tokens[1]


def test_wedged_neighbours_delay_no_answer(world: World) -> None:
    world.metadata_wedged = world.caddy_wedged = True
    world.home = "black hole"
    with piloted(world) as pilot_:
        for _ in range(150):
            for path in ("/lane/burst", "/lane/vm-large", "/ready"):
                pilot_.get(path)
            time.sleep(0.01)
        assert pilot_.slowest < 0.05
        assert pilot_.get("/lane/burst")[0] == 503
        assert pilot_.status()["caddy"] == {"seen": False, "error": "no answer in time"}
        world.metadata_wedged = world.caddy_wedged = False
        world.in_flight["vm"] = 2
        pilot_.reaches("warm", 12)


def test_ready_once_caddy_asked(world: World) -> None:
    with piloted(world) as pilot_:
        time.sleep(0.3)
        assert pilot_.get("/ready")[0] == 503
        pilot_.get("/lane/burst")
        assert pilot_.get("/ready")[0] == 503, "Caddy's second handler has not asked yet"
        time.sleep(0.25)
        assert pilot_.get("/ready")[0] == 200


def test_what_it_shows(world: World) -> None:
    world.checked = {DIALS["home"]: 503}
    with piloted(world) as pilot_:
        world.in_flight |= {"home": 1, "vm": 2}
        pilot_.reaches("warm")
        until(lambda: pilot_.status()["lanes"]["vm"]["state"] == "warm")
        shown = pilot_.status()
        assert list(shown["lanes"]) == ["home", "burst", "vm"]
        home, burst, vm = shown["lanes"].values()
        assert (home["state"], home["error"], home["in_flight"]) == ("down", "its check says 503", 1)
        assert (vm["state"], vm["in_flight"], vm["capacity"]) == ("warm", 2, 2)
        assert (burst["wakes"], burst["error"], burst["first_token_s"]) == (1, "", None)
        assert abs(burst["since"] + burst["seconds"] - time.time()) < 1
        assert shown["token"]["error"] == ""
        assert abs(shown["token"]["expires"] - time.time() - 3600) < 60
        _, text = pilot_.get("/metrics")
        for line in text.splitlines():
            assert re.fullmatch(r"# TYPE pilotlight_\w+ (gauge|counter)|pilotlight_\w+(\{[^{}]+\})? [0-9.e+-]+", line)
        assert 'pilotlight_lane_state{lane="burst",state="warm"} 1\n' in text
        assert 'pilotlight_lane_state{lane="home",state="warm"} 0\n' in text
        assert 'pilotlight_lane_in_flight{lane="vm"} 2\n' in text
        assert 'pilotlight_lane_transitions_total{lane="burst",from="cold",to="warming"} 1\n' in text
        kinds = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(kinds) == len(set(kinds))
        assert pilot_.get("/nothing")[0] == 404


def test_black_hole_is_shut_once(world: World) -> None:
    with piloted(world) as pilot_:
        world.in_flight["home"] = 2
        time.sleep(1.2)
        begun = time.monotonic()
        world.home = "black hole"
        until(lambda: bool(world.daemon.asked), 4)
        assert 2 < time.monotonic() - begun + 0.5 < 4
        asked = world.daemon.asked[0]
        assert (asked.method, asked.path) == ("POST", "/localapi/v0/shutdown")
        assert asked.headers["host"] == "local-tailscaled.sock"
        time.sleep(3)
        assert len(world.daemon.asked) == 1
        world.in_flight["home"] = 0
        time.sleep(0.7)
        world.home = "answers"
        time.sleep(0.8)
        assert pilot_.status()["tunnel"] == {"shutdowns": 1}
        world.in_flight["home"], world.home = 1, "black hole"
        until(lambda: len(world.daemon.asked) == 2, 4, "the second outage is another one")


@pytest.mark.parametrize(
    ("home", "in_flight"), [("fails", 2), ("slow", 2), ("refuses", 2), ("answers", 2), ("black hole", 0)]
)
def test_living_or_idle_home_is_not_shut(world: World, home: str, in_flight: int) -> None:
    world.home = home
    with piloted(world):
        world.in_flight["home"] = in_flight
        time.sleep(3.5)
        assert world.daemon.asked == []


def test_home_that_accepts_and_is_silent_is_shut_later(world: World) -> None:
    world.home = "silent"
    with piloted(world):
        world.in_flight["home"] = 1
        time.sleep(4)
        assert world.daemon.asked == []
        until(lambda: len(world.daemon.asked) == 1, 4)


def test_without_burst_home_s_tunnel_is_still_freed(world: World) -> None:
    """For a request to any service at home; and nothing is asked of Google."""
    with piloted(world, BURST_URL="", BURST_DIAL="", PILOT_WAKE="never") as pilot_:
        world.waiting, world.home = 3, "black hole"
        time.sleep(1)
        assert world.daemon.asked == []
        world.spoken = 1
        until(lambda: bool(world.daemon.asked), 4)
        assert list(pilot_.status()["lanes"]) == ["home", "vm"]
        assert "burst" not in pilot_.get("/metrics")[1].replace("burst_first", "")
        assert world.metadata.asked == world.burst.asked == []


def test_request_with_a_body_ends_its_connection(world: World) -> None:
    """What follows a request on the same connection must not be taken for another one."""
    with piloted(world) as pilot_, socket.create_connection(("127.0.0.1", pilot_.port), 3) as raw:
        raw.sendall(
            b"GET /lane/burst HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\nGET /status HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
        assert answer.count(b"HTTP/1.1") == 1
        assert b"Connection: close" in answer


def test_wrong_environment_ends_it_with_a_sentence(world: World) -> None:
    changed = environment(world, 1, VM_CAPACITY="many")
    del changed["PILOT_WAKE"]
    done = subprocess.run([sys.executable, world.program], env=changed, capture_output=True, timeout=10, check=False)
    line = json.loads(done.stderr)
    assert (done.returncode, line["severity"]) == (2, "CRITICAL")
    assert "PILOT_WAKE is not set" in line["message"]
    assert "VM_CAPACITY is 'many'; it must be a whole number" in line["message"]


def test_taken_address_ends_it_with_a_sentence(world: World) -> None:
    taken = environment(world, world.checks.port)
    done = subprocess.run([sys.executable, world.program], env=taken, capture_output=True, timeout=10, check=False)
    assert done.returncode == 1
    assert "can't listen on 127.0.0.1" in json.loads(done.stderr.splitlines()[-1])["message"]


def test_demand_as_a_real_caddy_shows_it(world: World) -> None:
    """Held requests in a real Caddy with its admin API on a relative unix socket: counted per lane, and waiting."""
    release = asyncio.Event()

    async def lane(_: Asked) -> Reply:
        await release.wait()
        return 200, "{}"

    vm = Toy(lane)
    world.toys.append(vm)
    world.run(vm.start())
    port, dial = free_port(), f"127.0.0.1:{vm.port}"
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": dial, "max_requests": 2}],
        "load_balancing": {"try_duration": "20s", "try_interval": "10ms"},
    }
    checks = {"handler": "reverse_proxy", "upstreams": [{"dial": f"tcp/{dial}"}]}
    servers = {
        "api": {"listen": [f"127.0.0.1:{port}"], "routes": [{"handle": [proxy]}]},
        "checks": {"listen": [f"127.0.0.1:{free_port()}"], "routes": [{"handle": [checks]}]},
    }
    config = {
        "admin": {"listen": "unix/admin.sock", "config": {"persist": False}},
        "apps": {"http": {"metrics": {}, "servers": servers}},
    }
    (world.folder / "caddy.json").write_text(json.dumps(config))
    env = {"PATH": os.environ["PATH"], "HOME": str(world.folder)}
    with (world.folder / "caddy.log").open("wb") as output:
        caddy = subprocess.Popen(
            [CADDY, "run", "--config", "caddy.json"], cwd=world.folder, env=env, stderr=output, stdout=output
        )

    def call() -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.request("POST", "/v1/chat/completions", b"{}")
            assert connection.getresponse().status == 200

    callers = [threading.Thread(target=call) for _ in range(3)]
    try:
        until((world.folder / "admin.sock").exists)
        until(lambda: _listens(port))
        with piloted(world, admin=False, VM_DIAL=dial, VM_CAPACITY=9) as pilot_:
            until((world.folder / "id-token").exists)
            callers[0].start()
            until(lambda: pilot_.status()["lanes"]["vm"]["in_flight"] == 1)
            time.sleep(1.2)
            assert (pilot_.state, pilot_.status()["waiting"]) == ("cold", 0)
            for caller in callers[1:]:
                caller.start()
            pilot_.reaches("warm", 4)
            shown = pilot_.status()
            assert (shown["lanes"]["vm"]["in_flight"], shown["waiting"]) == (2, 1)
            world.loop.call_soon_threadsafe(release.set)
            for caller in callers:
                caller.join(10)
            until(lambda: pilot_.status()["lanes"]["vm"]["in_flight"] == 0)
            until(lambda: pilot_.status()["waiting"] == 0)
    finally:
        world.loop.call_soon_threadsafe(release.set)
        caddy.terminate()
        caddy.wait(10)
