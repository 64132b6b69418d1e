"""The real Caddy with a rendered configuration, between toy lanes on the declared addresses.

Owns: the Caddy process, its working directory, and what a caller sees of it. Does not own: the toys (`backends`).
"""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import openai

from lab.run.ports import free_port
from tests import kit
from tests.gateway.backends import Lane, Pilot, Tunnel
from tests.kit import POLL_S, loop_beside, until

CADDY = Path(sys.executable).parent / "caddy"
VM_ADDRESS = "127.0.0.2"
BURST_ADDRESS = "127.0.0.3"
KEY = "test-key-0123456789"
START_S = 30.0
"""For Caddy to serve, seconds."""
LOCK = ("127.0.0.4", 9931)
"""Bound, and never listened on, by whoever uses the declared addresses."""
TOKEN = "eyJhbGciOiJub25lIn0.eyJhdWQiOiJ0ZXN0In0.c2lnbmF0dXJl"


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
    """The lanes, the tunnel, the pilot, and one Caddy with a given configuration."""

    def __init__(self, home: Lane, burst: Lane, vm: Lane, tunnel: Tunnel, pilot: Pilot) -> None:
        self.home, self.burst, self.vm, self.tunnel, self.pilot = home, burst, vm, tunnel, pilot
        self.port = 0
        self.folder = Path()
        """Caddy's working directory."""
        self._clients = contextlib.ExitStack()
        self._held = itertools.count()
        self.log = ""

    @property
    def patience(self) -> float:
        """Seconds a caller waits for the next byte: longer than any request here may wait for a lane."""
        return 2 * kit.WAIT_S

    def call(
        self,
        method: str = "POST",
        path: str = "/v1/chat/completions",
        body: bytes | Iterable[bytes] | None = b'{"model":"m"}',
        **headers: str,
    ) -> Answer:
        """One request with the right key (`Authorization` overrides it; underscores in names become dashes).

        A body that is not in one piece is sent in chunks.
        """
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

    def sdk(self, key: str = KEY) -> openai.OpenAI:
        """The stock client; closed when Caddy is."""
        url = f"http://127.0.0.1:{self.port}/v1"
        client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=self.patience)
        return self._clients.enter_context(client)

    def raw(self, head: str, *pieces: bytes, until: Callable[[], bool] | None = None) -> bytes:
        """Bytes as they are, after `head` with Host and key. With `until`, hangs up once it is true."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=self.patience) as connection:
            connection.sendall(f"{head}\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
            for piece in pieces:
                connection.sendall(piece)
            if until is not None:
                kit.until(until, "what the caller waits for before it hangs up")
                return b""
            with contextlib.suppress(TimeoutError):
                return connection.recv(65536)
            return b""

    def token(self, text: str | None) -> None:
        """Replace the ID token as the pilot does, or remove it."""
        path, fresh = self.folder / "id-token", self.folder / "fresh"
        if text is None:
            path.unlink(missing_ok=True)
        else:
            fresh.write_text(text)
            fresh.replace(path)

    def admin(self, path: str) -> str:
        """Caddy's admin API, as the pilot asks it."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.folder / "admin.sock"))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            response = HTTPResponse(connection)
            response.begin()
            assert response.status == 200
            return response.read().decode()

    def settle(self) -> None:
        """Until both lanes answer again: failures are remembered for a while."""
        self.heal()
        until(lambda: self.call().lane == "home", "home serves again")
        with self.held(self.home, 2):
            until(lambda: self.call().lane == "vm", "the VM serves again")
        self.home.reset()
        self.vm.reset()

    def heal(self) -> None:
        """Every toy is up and well."""
        for lane in (self.home, self.burst, self.vm, self.pilot):
            lane.release()
            lane.up()
            lane.reset()

    @contextlib.contextmanager
    def held(self, lane: Lane, count: int, **headers: str) -> Generator[None]:
        """`count` callers whose requests this lane keeps until the block ends or the lane is released.

        A slot is free a moment after its caller has the answer, so the next one may find another lane: it asks again.
        """
        names = [f"held-{next(self._held)}" for _ in range(count)]
        ended = threading.Event()

        def ask(name: str) -> None:
            while not ended.wait(POLL_S) and self.call(body=b"{}", X_Request_Id=name, **headers).lane != lane.name:
                pass

        lane.behaviour.hold = True
        callers = [threading.Thread(target=ask, args=(name,)) for name in names]
        for caller in callers:
            caller.start()
        try:
            until(lambda: lane.holds() >= set(names), f"{count} callers are held by {lane.name}")
            yield
        finally:
            ended.set()
            lane.behaviour.hold = False
            lane.release()
            for caller in callers:
                caller.join(self.patience)
            lane.up()

    @contextlib.contextmanager
    def caddy(
        self, config: dict[str, Any], environment: dict[str, str], *, first: str = "home", heal: bool = True
    ) -> Generator[subprocess.Popen[bytes]]:
        """Caddy with this configuration, until the block ends. One at a time: it would share its ports silently.

        `first`: which lane must answer before the block begins; empty: don't wait, not even for the port.
        """
        if heal:
            self.heal()
        self.port = free_port()
        with tempfile.TemporaryDirectory() as folder:
            self.folder = Path(folder)
            path, log = self.folder / "caddy.json", self.folder / "log"
            path.write_text(json.dumps(config))
            self.token(TOKEN)
            env = {"PATH": os.environ["PATH"], "HOME": folder, "PORT": str(self.port), **environment}
            command = [CADDY, "run", "--config", path]
            self.pilot.first_asked = None
            with log.open("wb") as stderr:
                process = subprocess.Popen(command, env=env, cwd=folder, stderr=stderr, stdout=stderr)
            try:
                if first:
                    self._wait_ready(process, log, first)
                yield process
            finally:
                # Not asked to stop: it would wait for callers whom the check has left hanging.
                process.kill()
                process.wait()
                self._clients.close()
                self.log = log.read_text()

    def _wait_ready(self, process: subprocess.Popen[bytes], log: Path, first: str) -> None:
        def ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"Caddy did not start:\n{log.read_text()}")
            return self.call("GET", "/ready", None).status == 200

        until(ready, "Caddy is ready", START_S)
        # Checks that ran before the listeners were up found every lane down.
        until(lambda: self.call().lane == first, f"{first} serves", START_S)
        self.home.reset()
        self.vm.reset()


@contextlib.contextmanager
def tls_front(lane: Lane) -> Generator[tuple[str, Path]]:
    """A lane behind HTTPS on loopback: its URL and the root of its certificate, both made by a Caddy of its own."""
    port = free_port()
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": f"{lane.host}:{lane.port}"}], "flush_interval": -1}
    server = {"listen": [f"127.0.0.1:{port}"], "routes": [{"match": [{"host": ["localhost"]}], "handle": [proxy]}]}
    config = {
        "admin": {"disabled": True},
        "apps": {
            "http": {"servers": {"front": {**server, "automatic_https": {"disable_redirects": True}}}},
            "tls": {"automation": {"policies": [{"subjects": ["localhost"], "issuers": [{"module": "internal"}]}]}},
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        path, root = Path(folder) / "caddy.json", Path(folder) / "data/caddy/pki/authorities/local/root.crt"
        path.write_text(json.dumps(config))
        env = {"PATH": os.environ["PATH"], "HOME": folder, "XDG_DATA_HOME": f"{folder}/data"}
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen([CADDY, "run", "--config", path], env=env, stderr=log, stdout=log)
        try:
            until(
                lambda: process.poll() is not None or (root.exists() and root.stat().st_size), "a certificate", START_S
            )
            assert process.poll() is None, (Path(folder) / "log").read_text()
            yield f"https://localhost:{port}", root
        finally:
            process.terminate()
            process.wait(30)


def _read(response: HTTPResponse, start: float) -> Answer:
    headers: dict[str, list[str]] = {}
    for name, value in response.getheaders():
        headers.setdefault(name.lower(), []).append(value)
    together = {name: ", ".join(values) for name, values in headers.items()}
    return Answer(response.status, together, response.read(), time.monotonic() - start)


@contextlib.contextmanager
def declared_addresses(wait_s: float = 240.0) -> Generator[None]:
    """The declaration fixes its ports: one user in a network at a time. Each network has a lock, a bound port."""
    with socket.socket() as lock:

        def locked() -> bool:
            with contextlib.suppress(OSError):
                lock.bind(LOCK)
                return True
            return False

        until(locked, "another test run leaves the declared addresses", wait_s)
        yield


@contextlib.contextmanager
def world(at_home: type[Lane] = Lane, elsewhere: type[Lane] = Lane) -> Generator[World]:
    """All toys, without Caddy."""
    with declared_addresses(), loop_beside() as loop:
        home, vm = at_home(loop, "home", "127.0.0.1", 0), elsewhere(loop, "vm", VM_ADDRESS, 9931)
        burst, pilot = elsewhere(loop, "burst", BURST_ADDRESS, 0), Pilot(loop, "pilot", "127.0.0.1", 9182)
        toys = (home, burst, vm, pilot)
        for toy in toys:
            toy.up()
        tunnel = Tunnel(loop, home)
        try:
            yield World(home, burst, vm, tunnel, pilot)
        finally:
            for toy in toys:
                toy.down()
            tunnel.close()
