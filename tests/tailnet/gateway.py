"""The gateway's containers as the stack declares them, as processes in the gateway's namespace.

Owns: starting and ending them, what is added to their environment, what a caller of theirs sees. Does not own: what is
declared; `ADDED` is all that differs.
"""

import bz2
import contextlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

import json5

from components.gateway import tunnel
from components.gateway.service import CONFIG_FILE, CONFIG_FOLDER
from lab.read import images, plan
from lab.read.cloud import Cloud
from lab.read.container import Container
from lab.read.gateway import Gateway as DeclaredGateway
from lab.read.stack import Resource, config_of, render
from lab.run import folders
from tests.gateway.world import Answer
from tests.tailnet import network
from tests.tailnet.tailnet import CONTROL_URL, Tailnet, until

CLIENT_KEY: Final = "test-key-0123456789"
PORT: Final = 8080
POLICY: Final = "tailscale:index/acl:Acl"
LARGE: Final = os.urandom(20_000_000)
SMALL: Final = b'{"model":"m"}'
ADDED: Final = {
    "TS_EXTRA_ARGS": f"+ --login-server={CONTROL_URL}",
    "TS_NO_LOGS_NO_SUPPORT": "true",
    "TS_SOCKET": "in the gateway's folder, where the declaration leaves it in the container's own /tmp",
    "PATH": "the programs built from the pinned module, .venv/bin for Caddy and Python",
    "mounts": "folders; their paths are replaced in environment and arguments",
}
"""All that differs from the declaration."""


@dataclass(frozen=True)
class Declared:
    """What these tests take from a stack."""

    gateway: DeclaredGateway
    policy: dict[str, Any]
    """The tailnet's policy file."""


@cache
def declared(auth_key: str, *lanes: str) -> Declared:
    """The stack `dev` if its tailnet makes this auth key. The VM has its address in these tests' network."""
    cloud = Cloud(port=8787, auth_key=auth_key)

    def compute(token: str, inputs: dict[str, Any], before: Sequence[Resource]) -> dict[str, Any]:
        found = cloud.compute(token, inputs, before)
        return {"address": network.VM} if token == "gcp:compute/address:Address" else found

    clients = json.dumps([{"name": "demo", "key": CLIENT_KEY}])
    config = {**cloud.config(), **config_of("dev"), "pilotlight:clients": clients}
    if lanes:
        config["pilotlight:lanes"] = "[" + ",".join(f'"{lane}"' for lane in lanes) + "]"
    stack = render("dev", config, compute)
    [policy] = stack.of_type(POLICY)
    return Declared(plan.read(stack).gateway, json5.loads(policy.inputs["acl"]))


@dataclass(frozen=True)
class Seen:
    """One request of a steady caller, sent `at` seconds after the first."""

    at: float
    answer: Answer


class Gateway:
    """One instance of the gateway, between `start` and `stop`."""

    def __init__(self, tailnet: Tailnet, programs: Path, folder: Path, service: DeclaredGateway) -> None:
        self._at, self._programs, self.folder = tailnet.wires.gateway, programs, folder
        self.containers = {container.name: container for container in service.containers}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.key_file = Path()

    def change(self, name: str, **changes: Any) -> None:
        """Plants something in a container's declaration: `env`, `command`, `args`."""
        self.containers[name] = replace(self.containers[name], **changes)

    def environment(self, name: str, **variables: str) -> None:
        self.change(name, env={**self.containers[name].env, **variables})

    def secret(self, text: str) -> None:
        """Another text than the stack's in the auth key's file."""
        self._file("tailscale", tunnel.KEY_FOLDER, tunnel.KEY_FILE, lambda _: text.encode())

    def caddy_text(self, old: str, new: str) -> None:
        """Another word in Caddy's configuration."""

        def edit(held: bytes) -> bytes:
            return bz2.compress(bz2.decompress(held).replace(old.encode(), new.encode()))

        self._file("caddy", CONFIG_FOLDER, CONFIG_FILE, edit)

    def _file(self, name: str, folder: str, file: str, edit: Callable[[bytes], bytes]) -> None:
        mounts = self.containers[name].mounts
        [mount] = [mount for mount in mounts if mount.path == folder]
        edited = edit(mount.files[file])
        assert edited != mount.files[file], "nothing was planted"
        planted = replace(mount, files={**mount.files, file: edited})
        self.change(name, mounts=tuple(planted if each is mount else each for each in mounts))

    def start(self) -> None:
        for name, container in self.containers.items():
            mounted = folders.mount(self.folder, container, fresh=True)
            if tunnel.KEY_FOLDER in mounted:
                self.key_file = Path(mounted[tunnel.KEY_FOLDER]) / tunnel.KEY_FILE
            argv = [folders.translate(word, mounted) for word in (*container.command, *container.args)]
            env = {key: folders.translate(value, mounted) for key, value in container.env.items()}
            base = {"PATH": f"{self._programs}:{images.BIN}:/usr/bin:/bin", "HOME": str(self.folder)}
            cwd = Path(folders.translate(container.working_dir, mounted)) if container.working_dir else self.folder
            self.processes[name] = self._at.start(
                argv, base | env | self._added(container, env), self.log_of(name), cwd=cwd
            )

    def _added(self, container: Container, env: Mapping[str, str]) -> dict[str, str]:
        if container.name != "tailscale":
            return {"PORT": str(PORT)}
        return {
            "TS_EXTRA_ARGS": f"{env['TS_EXTRA_ARGS']} --login-server={CONTROL_URL}",
            "TS_NO_LOGS_NO_SUPPORT": "true",
            "TS_SOCKET": env.get("TS_SOCKET", str(self.folder / "tailscaled.sock")),
        }

    def stop(self) -> None:
        """Ends what is left, without a word."""
        for process in self.processes.values():
            network.end(process)
        # The daemon has a process group of its own.
        for daemon in self.daemons():
            with contextlib.suppress(ProcessLookupError):
                os.kill(daemon, signal.SIGKILL)

    def daemons(self) -> list[int]:
        """Process ids of this gateway's `tailscaled`."""
        mine = str(self.folder).encode()
        found: list[int] = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = entry.read_bytes().split(b"\0")
                if words[0].endswith(b"tailscaled") and any(mine in word for word in words):
                    found.append(int(entry.parent.name))
        return found

    def kill_daemon(self) -> None:
        [daemon] = self.daemons()
        os.kill(daemon, signal.SIGKILL)

    def terminate(self, grace_s: float) -> Future[dict[str, float]]:
        """SIGTERM to all containers at once, as Cloud Run does it; container -> seconds until its end."""

        def run() -> dict[str, float]:
            with ThreadPoolExecutor(len(self.processes)) as pool:
                ended = {name: pool.submit(network.end, process, grace_s) for name, process in self.processes.items()}
                return {name: end.result() for name, end in ended.items()}

        return self._at.submit(run)

    def log_of(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def retries(self) -> list[str]:
        """The loop's lines in the tunnel's log."""
        return [line for line in self.log_of("tailscale").read_text().splitlines() if line.startswith("pilotlight:")]

    def connections(self, address: str) -> list[str]:
        """TCP connections from here to `address`, with the program that holds each."""
        shown = self._at.run(
            lambda: subprocess.run(
                ["ss", "-tnpH", "dst", address], check=True, capture_output=True, text=True, timeout=10
            )
        )
        return shown.stdout.splitlines()

    def call(self, body: bytes | None = SMALL, *, path: str = "/v1/chat/completions", patience: float = 60) -> Answer:
        """One request as a caller sends it; status 0: the connection broke."""
        return self._at.run(_call, path, body, patience)

    def later(self, body: bytes = SMALL, *, patience: float = 60) -> "Future[Answer]":
        """The same, meanwhile."""
        return self._at.submit(lambda: _call("/v1/chat/completions", body, patience))

    def listening(self) -> float:
        """Waits until Caddy takes requests, as Cloud Run's probe does; returns the seconds."""
        return until(lambda: self.call(None, path="/ready").status == 200, "Caddy listens")

    def on_home(self) -> float:
        """Waits until home answers; returns the seconds."""
        return until(lambda: self.call().lane == "home", "home answers", 40)

    @contextlib.contextmanager
    def callers(self, a_second: float = 5) -> Generator[list[Seen]]:
        """A steady load that doesn't wait for answers; all of them are there when the block has ended."""
        seen: list[Seen] = []
        begun = time.monotonic()
        ended: list[bool] = []

        def one() -> None:
            at = time.monotonic() - begun
            seen.append(Seen(at, _call("/v1/chat/completions", SMALL, 60)))

        def run() -> None:
            sent: list[Future[None]] = []
            while not ended:
                sent.append(self._at.submit(one))
                time.sleep(1 / a_second)
            for request in sent:
                request.result()

        sending = self._at.submit(run)
        try:
            yield seen
        finally:
            ended.append(True)
            sending.result()
            seen.sort(key=lambda one: one.at)


def _call(path: str, body: bytes | None, patience: float) -> Answer:
    started = time.monotonic()
    connection = HTTPConnection("127.0.0.1", PORT, timeout=patience)
    headers = {"Authorization": f"Bearer {CLIENT_KEY}", "Content-Type": "application/json"}
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read(), time.monotonic() - started)
    except (OSError, HTTPException) as error:
        return Answer(0, {}, repr(error).encode(), time.monotonic() - started)
    finally:
        connection.close()


def told(seen: list[Seen]) -> str:
    """What steady callers saw, in a few words."""
    lanes = Counter(one.answer.lane or f"status {one.answer.status}" for one in seen)
    slowest = max(one.answer.seconds for one in seen)
    shares = ", ".join(f"{count} {lane}" for lane, count in sorted(lanes.items()))
    return f"{len(seen)} callers: {shares}; slowest {slowest:.1f} s"


def lost(seen: list[Seen]) -> None:
    """No request may end without an answer from a lane."""
    assert {one.answer.status for one in seen} == {200}, told(seen)


@contextlib.contextmanager
def gateway(
    tailnet: Tailnet,
    programs: Path,
    folder: Path,
    service: DeclaredGateway,
    *plants: Callable[[Gateway], None],
) -> Generator[Gateway]:
    """An instance of `service`, each of `plants` done to it first; not yet listening."""
    made = Gateway(tailnet, programs, folder, service)
    for plant in plants:
        plant(made)
    try:
        made.start()
        yield made
    finally:
        made.stop()
