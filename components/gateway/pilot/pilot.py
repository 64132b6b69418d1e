"""The pilot: knows burst's state, wakes it when demand calls, and tells Caddy whether to send requests there.

Owns: burst's state machine, the wake request, the Google ID token's file, the search for a slow burst, the rescue of
requests that hang in a dead tunnel, and what `/status` and `/metrics` show. Does not own: any request (Caddy proxies
them all), the order of the lanes, the health of home and vm (Caddy asks them itself). If the pilot dies, they serve on.
Without burst among the lanes only home's tunnel and what people may see are left to do.

First the decisions, pure functions without clock or I/O; then the I/O that feeds them.
"""

import asyncio
import base64
import contextlib
import json
import math
import os
import re
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import quote, urlsplit

from .burst import sends, spares_vm, step
from .demand import demand
from .engine import Engine, engine, first_token
from .home import HomePath, Seen, path_step
from .prometheus import samples
from .state import Answer, Ask, Burst, Cancel, Event, Load, Phase, Policy, Renew, Request, Tick

# --- settings --------------------------------------------------------------------------------------------------------


class SettingsError(Exception):
    """The environment is not what the declaration sets."""


@dataclass(frozen=True)
class Settings:
    """The environment, parsed."""

    listen: tuple[str, int]
    folder: Path
    burst_url: str
    """Empty without burst; then `dials` has none either."""
    home: tuple[str, int] | None
    socks: tuple[str, int]
    dials: dict[str, str]
    home_capacity: int
    vm_capacity: int
    policy: Policy
    tailscaled: str
    metadata: tuple[str, int]
    checks: tuple[str, int]


def settings(env: Mapping[str, str]) -> Settings:
    """Raise `SettingsError` with all that is wrong."""
    wrong: list[str] = []

    def take(name: str, parse: Callable[[str], Any], what: str) -> Any:
        try:
            return parse(env[name].strip())
        except KeyError:
            wrong.append(f"{name} is not set; it must be {what}")
        except ValueError:
            wrong.append(f"{name} is {env[name]!r}; it must be {what}")
        return None

    seconds = "a number of seconds above 0"
    policy = Policy(
        wake=take("PILOT_WAKE", _one_of("first-fallback", "pressure", "never"), "first-fallback, pressure or never"),
        idle_s=take("PILOT_IDLE_S", _positive, seconds),
        deadline_s=take("PILOT_WAKE_DEADLINE_S", _positive, seconds),
        retry_s=take("PILOT_RETRY_S", _positive, seconds),
        slow_s=take("PILOT_SLOW_S", _positive, seconds),
        recovered_s=take("PILOT_RECOVERED_S", _positive, seconds),
    )
    dials = {lane: take(f"{lane.upper()}_DIAL", str, "a dial address, or empty") for lane in ("home", "vm")}
    burst_dial = take("BURST_DIAL", str, "a dial address, or empty")
    dials = {"home": dials["home"], "burst": burst_dial, "vm": dials["vm"]}
    found = Settings(
        listen=take("PILOT_LISTEN", _address, "host:port"),
        folder=take("PILOT_FOLDER", _folder, "a folder that exists"),
        burst_url=take("BURST_URL", lambda text: text and _url(text), "an http or https URL without a path, or empty"),
        home=take("HOME_ADDRESS", lambda text: _address(text) if text else None, "host:port, or empty"),
        socks=take("SOCKS5", _address, "host:port"),
        dials={lane: dial for lane, dial in dials.items() if dial},
        home_capacity=take("HOME_CAPACITY", _count, "a whole number, 0 without a home lane"),
        vm_capacity=take("VM_CAPACITY", _count, "a whole number, 0 without a VM"),
        policy=policy,
        tailscaled=take("TAILSCALED_SOCKET", str, "a path, or empty"),
        metadata=_address(env.get("GCE_METADATA_HOST") or "metadata.google.internal", 80),
        checks=_address(env.get("PILOT_CHECKS") or "127.0.0.1:9180"),
    )
    if not wrong and bool(found.burst_url) != ("burst" in found.dials):
        wrong.append(f"BURST_DIAL is {found.dials.get('burst', '')!r}; it must be set exactly where BURST_URL is")
    if not wrong and policy.recovered_s > policy.slow_s:
        wrong.append("PILOT_RECOVERED_S is above PILOT_SLOW_S; between the two nothing may change")
    if wrong:
        raise SettingsError("; ".join(wrong))
    return found


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _one_of(*choices: str) -> Callable[[str], str]:
    return lambda text: choices[choices.index(text)]


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise ValueError(text)
    return Path(text)


def _address(text: str, port: int | None = None) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or (parts.port or port) is None:
        raise ValueError(text)
    return parts.hostname, parts.port or port or 0


def _is(dial: str, target: tuple[str, int] | None) -> bool:
    """Whether a dial address of Caddy's leads there."""
    try:
        return _address(dial) == target
    except ValueError:
        return False


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(text)
    return text.rstrip("/")


# --- HTTP, as little as is needed ------------------------------------------------------------------------------------

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
FAILURES: Final = (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError)
"""What a peer can cause. `TimeoutError` is an `OSError`."""
LARGEST: Final = 8 * 1024 * 1024


async def fetch(
    connection: Awaitable[Stream], host: str, path: str, headers: Mapping[str, str], method: str = "GET", body: str = ""
) -> tuple[int, str]:
    """Status and body of one request on a connection of its own. The caller bounds the time."""
    reader, writer = await connection
    try:
        lines = {"Host": host, "Connection": "close", "Content-Length": str(len(body)), **headers}
        if method == "GET":
            del lines["Content-Length"]
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n{body}".encode())
        await writer.drain()
        status_line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        received = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields if line)}
        return int(status_line.split()[1]), (await _body(reader, received)).decode(errors="replace")
    finally:
        # No goodbye: a peer that does not read must not hold us.
        writer.transport.abort()


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    parts: list[bytes] = []
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            if size + sum(map(len, parts)) > LARGEST:
                raise ValueError("the answer is too large")
            parts.append((await reader.readexactly(size + 2))[:-2])
        return b"".join(parts)
    if "content-length" in headers:
        return await reader.readexactly(min(int(headers["content-length"]), LARGEST))
    while piece := await reader.read(65536):
        parts.append(piece)
        if sum(map(len, parts)) > LARGEST:
            raise ValueError("the answer is too large")
    return b"".join(parts)


async def through_socks(proxy: tuple[str, int], target: tuple[str, int]) -> Stream:
    """A connection to `target`, resolved and dialled by the SOCKS5 proxy. It stands only once the peer accepted."""
    reader, writer = await asyncio.open_connection(*proxy)
    try:
        writer.write(b"\x05\x01\x00")
        if await reader.readexactly(2) != b"\x05\x00":
            raise ConnectionError("the SOCKS proxy wants a password")
        name = target[0].encode()
        writer.write(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + target[1].to_bytes(2, "big"))
        answer = await reader.readexactly(4)
        if answer[1] != 0:
            raise ConnectionError(f"the SOCKS proxy could not connect (code {answer[1]})")
        size = {1: 4, 4: 16}.get(answer[3]) or (await reader.readexactly(1))[0]
        await reader.readexactly(size + 2)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


def described(error: BaseException) -> str:
    """An error for a log line."""
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


def log(severity: str, message: str, **fields: Any) -> None:
    """One line, with the names Cloud Logging looks for."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03d}Z"
    print(json.dumps({"severity": severity, "time": stamp, "message": message, **fields}), file=sys.stderr, flush=True)


# --- the pilot at work -----------------------------------------------------------------------------------------------

SAMPLE_S: Final = 0.25
CADDY_S: Final = 1.0
"""Longest wait for Caddy's admin API."""
METADATA_S: Final = 5.0
RENEW_BEFORE_S: Final = 300.0
UNKNOWN_EXPIRY_S: Final = 1800.0
LEAST_RENEWAL_S: Final = 5.0
PROBE_S: Final = 0.5
CONNECT_S: Final = 1.0
"""A path that does not even connect in this time counts as silent."""
ANSWER_S: Final = 5.0
"""A home that connects may take this long: it is busy, or its line is full, not gone."""
SHUT_AGAIN_S: Final = 5.0
DOWN_AFTER: Final = 2
"""Failed checks in a row that make home or vm count as down."""
READY_AFTER_S: Final = 0.2
"""Both of Caddy's proxy handlers ask within this time of each other."""
KEEP_ALIVE_S: Final = 75.0


@dataclass
class Lane:
    """Home or vm as Caddy's own checks see it: for people to look at, nothing is decided by it."""

    phase: Phase = Phase.DOWN
    since: float = field(default_factory=time.monotonic)
    failures: int = 0
    error: str = "not asked yet"


class Pilot:
    """Feeds the decisions with what it sees and does what they say."""

    def __init__(self, chosen: Settings) -> None:
        self.settings, self.policy = chosen, chosen.policy
        now = time.monotonic()
        self.burst = Burst(since=now, now=now)
        self.path = HomePath()
        self.lanes = {lane: Lane() for lane in ("home", "vm") if lane in chosen.dials}
        self.in_flight: dict[str, int] = {}
        self.at_home = 0
        """Requests at home, its other services' included: Caddy keeps those under other spellings of its address."""
        self.waiting = self.shutdowns = 0
        self.sampled = self.asked = -math.inf
        self.caddy_error = self.token = self.token_error = ""
        self.token_expires = 0.0
        self.transitions: dict[tuple[str, str, str], int] = {}
        self._renew = asyncio.Event()
        self._request: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._engines: dict[float, Engine] = {}
        self._model = ""
        self._fails = self._waited = self._turn = 0
        self._totals: tuple[float, float] | None = None
        self._tls = ssl.create_default_context() if chosen.burst_url.startswith("https:") else None

    async def run(self) -> None:
        """Until cancelled."""
        server = await asyncio.start_server(self._serve, *self.settings.listen)
        log("INFO", "the pilot serves", lanes=list(self.settings.dials), wake=self.policy.wake)
        # Each on its own: whatever hangs holds up nothing but itself.
        self._start(self._every(SAMPLE_S, self._watch_caddy))
        if self.settings.burst_url:
            self._start(self._every(SAMPLE_S, self._tick))
            self._start(self._every(0, self._keep_token))
        if self.settings.home and self.settings.tailscaled:
            self._start(self._every(PROBE_S, self._watch_home))
        for name in self.lanes:
            self._start(self._every(1, lambda name=name: self._check(name)))
        await server.serve_forever()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _every(self, pause: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        said = ""
        while True:
            begun = time.monotonic()
            try:
                await work()
                said = ""
            except Exception as error:  # Whatever it is, the other duties and the next round must not suffer.
                if repr(error) != said:
                    log("ERROR", f"the pilot could not do one of its duties: {error!r}")
                said = repr(error)
                await asyncio.sleep(1)
            await asyncio.sleep(max(0, pause - (time.monotonic() - begun)))

    # burst

    def feed(self, event: Event) -> None:
        """One step of the state machine, with what follows from it."""
        before = self.burst
        self.burst, actions = step(before, event, time.monotonic(), self.policy)
        if self.burst.phase is not before.phase:
            self._moved("burst", before.phase, self.burst.phase, self.burst.reason, before.since)
        for action in actions:
            match action:
                case Request():
                    self._request = self._start(self._ask(action))
                case Cancel():
                    if self._request is not None:
                        self._request.cancel()
                case Renew():
                    self._renew.set()

    def _moved(self, lane: str, old: Phase, new: Phase, reason: str, since: float) -> None:
        key = (lane, old.value, new.value)
        self.transitions[key] = self.transitions.get(key, 0) + 1
        level = "WARNING" if new is Phase.DOWN else "INFO"
        fields = {"lane": lane, "from": old.value, "to": new.value, "reason": reason}
        log(level, f"{lane} is {new.value}: {reason}", **fields, seconds=round(time.monotonic() - since, 3))

    async def _tick(self) -> None:
        self.feed(Tick())

    async def _ask(self, request: Request) -> None:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(request.timeout_s):
                answer = await self._asked(request, begun)
        except FAILURES as error:
            late = isinstance(error, TimeoutError)
            spent = time.monotonic() - begun
            answer = Answer(request.serial, 0, spent if late else None, late, f"{request.ask}: {described(error)}")
        self.feed(answer)

    async def _asked(self, request: Request, begun: float) -> Answer:
        if not self.token:
            raise ConnectionError(f"no ID token yet: {self.token_error}")
        if request.ask is Ask.TRY:
            wanted = {"model": self._model} if self._model else {}
            body = json.dumps({**wanted, "prompt": "1", "max_tokens": 1, "temperature": 0})
            status, _ = await self._burst("POST", "/v1/completions", body)
            seconds = time.monotonic() - begun
        else:
            status, text = await self._burst("GET", "/health" if request.ask is Ask.WAKE else "/metrics")
            seconds = self._latency(text) if request.ask is Ask.LOOK and status == 200 else None
        return Answer(request.serial, status, seconds, error="" if status < 400 else f"{request.ask}: HTTP {status}")

    async def _burst(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        parts = urlsplit(self.settings.burst_url)
        port = parts.port or (443 if self._tls else 80)
        connection = asyncio.open_connection(parts.hostname, port, ssl=self._tls)
        headers = {"X-Serverless-Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        return await fetch(connection, parts.netloc, path, headers, method, body)

    def _latency(self, text: str) -> float | None:
        after = engine(text, time.monotonic())
        self._model = after.model or self._model
        # Several instances may answer in turn; each counts for itself.
        after, seconds = first_token(self._engines.get(after.identity), after)
        self._engines = dict([*self._engines.items()][-7:]) | {after.identity: after}
        return seconds

    # Caddy

    async def _watch_caddy(self) -> None:
        try:
            async with asyncio.timeout(CADDY_S):
                rows = json.loads(await self._caddy("/reverse_proxy/upstreams"))
                # The text is long and takes Caddy milliseconds: every other time.
                self._turn += 1
                text = await self._caddy("/metrics") if self._turn % 2 else ""
        except FAILURES as error:
            self.caddy_error = described(error)
            self.in_flight, self.at_home, self.waiting = {}, 0, 0
            return
        self.caddy_error, self.sampled = "", time.monotonic()
        seen = {row["address"]: row for row in rows}
        dials = self.settings.dials
        self.in_flight = {lane: seen[dial]["num_requests"] for lane, dial in dials.items() if dial in seen}
        self.at_home = sum(row["num_requests"] for row in rows if _is(row["address"], self.settings.home))
        running, served, elsewhere = sum(self.in_flight.values()), 0.0, 0.0
        if text:
            waiting = -running
            for name, labels, value in samples(text, _CADDY):
                known = set(labels.split(","))
                if name == "caddy_http_requests_in_flight":
                    waiting += int(value) if known >= _LANES else 0
                elif known >= _HOP:
                    served, elsewhere = served + value, elsewhere - value
                elif known >= _LANES:
                    elsewhere += value
            # The two answers are not from the same moment: only what is seen twice counts.
            self.waiting, self._waited = max(0, min(waiting, self._waited)), waiting
        if "burst" in dials:
            self._burst_seen(seen.get(dials["burst"], {}).get("fails", 0), (served, elsewhere) if text else None)

    def _burst_seen(self, fails: int, totals: tuple[float, float] | None) -> None:
        """Feeds what Caddy shows: burst's failures, and where counted, answers of burst and of other lanes so far."""
        failures, self._fails = max(0, fails - self._fails), fails
        home = self.lanes.get("home")
        free = home is not None and home.phase is Phase.WARM
        free = free and self.in_flight.get("home", 0) < self.settings.home_capacity
        # Requests shorter than a sample are use, too. What burst did not serve was the VM's only where home can't have.
        before, (served, elsewhere) = self._totals, totals or self._totals or (0.0, 0.0)
        short = before is not None and served > before[0]
        homeless = home is None or home.failures >= DOWN_AFTER
        short_on_vm = homeless and before is not None and elsewhere > before[1]
        self._totals = totals or before
        running_on_vm = max(self.in_flight.get("vm", 0), int(short_on_vm))
        wanted = demand(self.policy, running_on_vm, self.settings.vm_capacity, self.waiting, home_free=free)
        self.feed(Load(max(self.in_flight.get("burst", 0), int(short)), wanted, failures))

    async def _caddy(self, path: str) -> str:
        connection = asyncio.open_unix_connection(self.settings.folder / "admin.sock")
        status, text = await fetch(connection, "caddy", path, {})
        if status != 200:
            raise ValueError(f"Caddy's admin API says {status} to {path}")
        return text

    async def _check(self, name: str) -> None:
        """A lane through Caddy's checks listener, end to end as Caddy itself asks it."""
        lane, error = self.lanes[name], ""
        try:
            async with asyncio.timeout(1.2):
                connection = asyncio.open_connection(*self.settings.checks)
                status, _ = await fetch(connection, "checks", "/", {"X-Lane": self.settings.dials[name]})
            error = "" if 200 <= status < 300 else f"its check says {status}"
        except FAILURES as failure:
            error = described(failure)
        lane.failures = lane.failures + 1 if error else 0
        phase = Phase.WARM if not error else Phase.DOWN if lane.failures >= DOWN_AFTER else lane.phase
        lane.error = error
        if phase is not lane.phase:
            self._moved(name, lane.phase, phase, error or "it answers", lane.since)
            lane.phase, lane.since = phase, time.monotonic()

    # the ID token

    async def _keep_token(self) -> None:
        pause = 1.0
        while True:
            self._renew.clear()
            try:
                async with asyncio.timeout(METADATA_S):
                    token = await self._fetch_token()
                self._write_token(token)
                due = self.token_expires - time.time() - RENEW_BEFORE_S
                least, pause = LEAST_RENEWAL_S, 1.0
                due = due if due > 0 else least
                if self.token_error:
                    log("INFO", "the ID token is there")
                self.token_error = ""
            except FAILURES as error:
                if not self.token_error:
                    log("ERROR", f"no new ID token, burst can't be asked without: {described(error)}")
                self.token_error = described(error)
                due = least = pause
                pause = min(pause * 2, 30.0)
            # Burst may refuse the token at once and again; the metadata server must not be asked each time.
            await asyncio.sleep(min(least, due))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0, due - least)):
                    await self._renew.wait()

    async def _fetch_token(self) -> str:
        audience = quote(self.settings.burst_url, safe="")
        path = f"/computeMetadata/v1/instance/service-accounts/default/identity?audience={audience}&format=full"
        connection = asyncio.open_connection(*self.settings.metadata)
        status, text = await fetch(connection, self.settings.metadata[0], path, {"Metadata-Flavor": "Google"})
        token = text.strip()
        # It becomes a header: anything but a JWT's characters stays out.
        if status != 200 or not re.fullmatch(r"[A-Za-z0-9_=.-]+", token):
            raise ValueError(f"the metadata server says {status}, and no token")
        return token

    def _write_token(self, token: str) -> None:
        """In one piece: Caddy reads the file with every request."""
        self.token, self.token_expires = token, expiry(token, time.time())
        path, fresh = self.settings.folder / "id-token", self.settings.folder / ".id-token.new"
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
        fresh.replace(path)

    # home's tunnel

    async def _watch_home(self) -> None:
        """Probes only while requests are under way there: there is nothing to rescue otherwise."""
        if self.at_home > 0:
            self._start(self._probe_home())
        else:
            self.path = replace(self.path, silent=0)
            if self.path.shut:
                self._start(self._probe_home())

    async def _probe_home(self) -> None:
        """Each on a connection of its own, several at a time: a late answer to an early one still proves the path."""
        assert self.settings.home
        host = f"{self.settings.home[0]}:{self.settings.home[1]}"
        connecting = asyncio.ensure_future(through_socks(self.settings.socks, self.settings.home))
        try:
            done, _ = await asyncio.wait({connecting}, timeout=CONNECT_S)
            if not done:
                self._seen_home(Seen.SILENT)
            async with asyncio.timeout(ANSWER_S - CONNECT_S):
                await fetch(connecting, host, "/", {})
        except TimeoutError:
            if connecting.done() and not connecting.cancelled() and connecting.exception() is None:
                self._seen_home(Seen.SILENT)
        except FAILURES:
            self._seen_home(Seen.REFUSED)
        else:
            self._seen_home(Seen.ALIVE)
        finally:
            connecting.cancel()

    def _seen_home(self, seen: Seen) -> None:
        self.path, shut = path_step(self.path, seen, self.at_home)
        if shut:
            self._start(self._shut_tunnel())

    async def _shut_tunnel(self) -> None:
        """Ends the daemon, and with it every connection that hangs in it; its container starts it again."""
        running = self.at_home
        try:
            async with asyncio.timeout(2):
                connection = asyncio.open_unix_connection(self.settings.tailscaled)
                host = "local-tailscaled.sock"
                status, text = await fetch(connection, host, "/localapi/v0/shutdown", {}, "POST")
            if status != 200:
                raise ValueError(f"{status} {text.strip()[:200]}")
        except FAILURES as error:
            log("ERROR", f"home is silent and the tunnel could not be shut: {described(error)}", lane="home")
            await asyncio.sleep(SHUT_AGAIN_S)
            self.path = replace(self.path, shut=False)
        else:
            self.shutdowns += 1
            log("WARNING", "home is silent: the tunnel was shut to free the requests in it", lane="home", freed=running)

    # what others may ask

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(*FAILURES):
            keep = True
            while keep:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, target, version = head.split("\r\n", 1)[0].split(" ")
                # A body is never read, so nothing after it could be.
                keep = version == "HTTP/1.1" and not re.search(
                    r"(?im)^(connection: *close|content-length: *[1-9]|transfer-encoding:)", head
                )
                known = self._answers().get(target.partition("?")[0])
                status, kind, body = (405, "text/plain", "only GET") if method not in ("GET", "HEAD") else (
                    known() if known else (404, "text/plain", "unknown path")
                )  # fmt: skip
                head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n"
                end = "\r\n" if keep else "Connection: close\r\n\r\n"
                writer.write((head + end + ("" if method == "HEAD" else body)).encode())
                await writer.drain()
        writer.close()

    def _answers(self) -> dict[str, Callable[[], tuple[int, str, str]]]:
        return {
            "/lane/burst": self._lane_burst,
            "/lane/vm-large": lambda: _plain(not spares_vm(self.burst, self.policy)),
            "/ready": lambda: _plain(time.monotonic() - self.asked >= READY_AFTER_S and self.asked > 0),
            "/status": lambda: (200, "application/json", json.dumps(self.status())),
            "/metrics": lambda: (200, "text/plain; version=0.0.4", self.metrics()),
        }

    def _lane_burst(self) -> tuple[int, str, str]:
        if self.asked < 0:
            self.asked = time.monotonic()
        return _plain(sends(self.burst))

    def status(self) -> dict[str, Any]:
        """Everything that is known, for people."""
        now, wall, burst = time.monotonic(), time.time(), self.burst

        def lane(name: str, phase: Phase, since: float, error: str) -> dict[str, Any]:
            known = {"state": phase.value, "since": round(wall - (now - since), 3), "seconds": round(now - since, 3)}
            return {**known, "in_flight": self.in_flight.get(name), "error": error}

        lanes = {name: lane(name, seen.phase, seen.since, seen.error) for name, seen in self.lanes.items()}
        if "vm" in lanes:
            lanes["vm"]["capacity"] = self.settings.vm_capacity
        lanes["burst"] = lane("burst", burst.phase, burst.since, burst.error) | {
            "reason": burst.reason,
            "first_token_s": None if burst.first_token_s is None else round(burst.first_token_s, 4),
            "wake_s": None if burst.wake_s is None else round(burst.wake_s, 3),
            "wakes": burst.wakes,
        }
        return {
            "time": round(wall, 3),
            "lanes": {name: lanes[name] for name in self.settings.dials},
            "waiting": self.waiting,
            "caddy": {"seen": self.sampled > 0 and not self.caddy_error, "error": self.caddy_error},
            "token": {"expires": round(self.token_expires) or None, "error": self.token_error},
            "tunnel": {"shutdowns": self.shutdowns},
        }

    def metrics(self) -> str:
        """The same for Prometheus."""
        burst, lanes = self.burst, {name: lane.phase for name, lane in self.lanes.items()}
        if "burst" in self.settings.dials:
            lanes["burst"] = burst.phase
        rows: list[tuple[str, str, float | None]] = [
            *(
                (f'lane_state{{lane="{lane}",state="{phase}"}}', "gauge", float(phase is now))
                for lane, now in lanes.items()
                for phase in Phase
            ),
            *((f'lane_in_flight{{lane="{lane}"}}', "gauge", count) for lane, count in self.in_flight.items()),
            ("requests_waiting", "gauge", self.waiting),
            ("burst_first_token_seconds", "gauge", burst.first_token_s),
            ("burst_wake_seconds", "gauge", burst.wake_s),
            ("burst_wakes_total", "counter", burst.wakes if "burst" in lanes else None),
            ("tunnel_shutdowns_total", "counter", self.shutdowns),
            ("id_token_expiry_seconds", "gauge", self.token_expires or None),
            *(
                (f'lane_transitions_total{{lane="{lane}",from="{old}",to="{new}"}}', "counter", count)
                for (lane, old, new), count in self.transitions.items()
            ),
        ]
        lines: list[str] = []
        for name, kind, value in rows:
            title = f"# TYPE pilotlight_{name.partition('{')[0]} {kind}"
            if value is not None:
                lines += [f"pilotlight_{name} {value:.17g}"] if title in lines else [
                    title, f"pilotlight_{name} {value:.17g}",
                ]  # fmt: skip
        return "\n".join(lines) + "\n"


_CADDY: Final = {"caddy_http_requests_in_flight": "", "caddy_http_requests_total": ""}
_LANES: Final = {'handler="reverse_proxy"', 'server="api"'}
"""Caddy counts per top-level route, under the name of its first handler: these are the routes to the lanes."""
_HOP: Final = {'handler="reverse_proxy"', 'server="burst"'}


def _plain(yes: bool) -> tuple[int, str, str]:
    return (200, "text/plain", "yes") if yes else (503, "text/plain", "no")


def expiry(token: str, now: float) -> float:
    """Unix time at which a JWT ends; one that can't be read is taken for half an hour's."""
    with contextlib.suppress(ValueError, IndexError, KeyError, TypeError):
        payload = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])
    return now + UNKNOWN_EXPIRY_S + RENEW_BEFORE_S


async def main(chosen: Settings) -> int:
    """Run until SIGTERM; 1 if the address is taken."""
    pilot = asyncio.create_task(Pilot(chosen).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, pilot.cancel)
    try:
        await pilot
    except asyncio.CancelledError:
        return 0
    except OSError as error:
        log("CRITICAL", f"the pilot can't listen on {chosen.listen[0]}:{chosen.listen[1]}: {described(error)}")
    return 1


def start() -> NoReturn:
    """Read the environment, run, exit."""
    try:
        chosen = settings(os.environ)
    except SettingsError as error:
        log("CRITICAL", f"the pilot can't start: {error}")
        sys.exit(2)
    # The loop is not taken down: a name that is still being resolved would hold the exit up, and nothing needs saving.
    loop = asyncio.new_event_loop()
    os._exit(loop.run_until_complete(main(chosen)))
