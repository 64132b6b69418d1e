"""The pilot as a process: the very archive that is shipped, between toys.

Owns: starting and ending it, and asking it. Does not own: the toys (`world`).
"""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.gateway.pilot_container import FILE, archive
from lab.run.ports import free_port
from tests.gateway.pilot.world import DIALS, World
from tests.kit import WAIT_S, until

LEAVES_S = 8
"""Within this the pilot is gone: below the 10 s after which Cloud Run kills, above what a busy machine takes."""
HOME_SECONDS = "short=0.1 long=0.5 picture=0.6 answer=1.9"


@dataclass
class Running:
    """A pilot process."""

    world: World
    process: subprocess.Popen[bytes]
    port: int
    log_file: Path
    connection: http.client.HTTPConnection | None = None

    def get(self, path: str) -> tuple[int, str]:
        """On one connection, as Caddy keeps it."""
        self.connection = self.connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        return answer.status, answer.read().decode()

    def status(self) -> dict[str, Any]:
        return json.loads(self.get("/status")[1])

    @property
    def state(self) -> str:
        return self.status()["lanes"]["burst"]["state"]

    def reaches(self, state: str, seconds: float | None = None) -> None:
        until(lambda: self.state == state, f"burst is {state}", seconds)

    def log(self) -> list[dict[str, Any]]:
        lines = self.log_file.read_text().splitlines()
        # Python's own debug mode (`-X dev`) reports a step of over 0.1 s there, which a busy machine is enough for.
        return [json.loads(line) for line in lines if not line.startswith("Executing <")]

    def moves(self, lane: str = "burst") -> list[tuple[str, str]]:
        return [(line["from"], line["to"]) for line in self.log() if line.get("lane") == lane and "from" in line]

    def stop(self) -> float:
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT_S)
        return time.monotonic() - begun


def environment(world: World, port: int, **changes: object) -> dict[str, str]:
    values: dict[str, object] = {
        "PILOT_LISTEN": f"127.0.0.1:{port}",
        "PILOT_ADMIN_SOCKET": world.folder / "admin.sock",
        "PILOT_ID_TOKEN": world.folder / "id-token",
        "PILOT_LINE": world.folder / "line",
        "BURST_URL": world.url,
        "HOME_ADDRESS": "home:80",
        "HOME_HOST": "",
        "SOCKS5": f"127.0.0.1:{world.socks_port}",
        **{f"{lane.upper()}_DIAL": dial for lane, dial in DIALS.items()},
        **{f"{lane.upper()}_FURTHER": "" for lane in ("home", "burst", "vm")},
        "HOME_CAPACITY": 0,
        "HOME_FULL": changes.get("HOME_CAPACITY", 0),
        "BURST_CAPACITY": 4,
        "VM_CAPACITY": 2,
        "HOME_SECONDS": "",
        "BURST_SECONDS": "short=0.2 long=0.6 picture=1 answer=4",
        "VM_SECONDS": "short=6 long=30 picture=400 answer=20",
        "BURST_START_S": 20,
        "VM_PROMPT": "",
        "VM_STUCK_S": "",
        "PILOT_TIMEOUT_S": 300,
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


def program(world: World) -> Path:
    """The archive as it is mounted: beside the shared folder, not in it."""
    file = world.folder.parent / FILE
    file.write_bytes(archive())
    return file


@contextlib.contextmanager
def piloted(world: World, *, admin: bool = True, **changes: object) -> Generator[Running]:
    """A running pilot; at the end it leaves at once, whatever happened to it."""
    if admin:
        world.fake_admin()
    port = free_port()
    log_file = world.folder / "log"
    with log_file.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-X", "dev", program(world)],
            env=environment(world, port, **changes),
            stderr=stderr,
        )
    running = Running(world, process, port, log_file)
    try:
        until(lambda: process.poll() is None and listens(port), "the pilot listens")
        yield running
        assert running.stop() < LEAVES_S
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


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
