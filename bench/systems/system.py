"""What a measured system is: a name, how it is started, where it is asked and with which headers.

Owns: the common form, and the place that a system is started in. Does not own: any system.
"""

import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from bench.processes import Process

MODEL: Final = "m"
PATH: Final = "/v1/chat/completions"


@dataclass(frozen=True)
class Lane:
    """A model server of the backend."""

    name: str
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


HOME: Final = Lane("home", "127.0.0.5", 9000)
VM: Final = Lane("vm", "127.0.0.2", 9931)
BURST: Final = Lane("burst", "127.0.0.6", 9002)
OTHER: Final = Lane("metadata", "127.0.0.7", 9003)
LANES: Final = (HOME, VM, BURST, OTHER)


@dataclass(frozen=True)
class Place:
    """Where a system runs: its core, the load's core, a folder, and a free port."""

    core: int
    load_core: int
    folder: Path
    port: int


@dataclass
class Running:
    """A started system."""

    address: str
    processes: list[Process]
    """All of the system's own, whose time and memory count."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    ready: Callable[[], bool] | None = None
    """Whether it is as it should be measured, beyond a first answer."""

    def cpu_s(self) -> float:
        return sum(process.cpu_s() for process in self.processes)

    def memory(self) -> int:
        return sum(process.memory() for process in self.processes)


@dataclass(frozen=True)
class System:
    """A row of the tables. `start(place)` yields what runs, not yet ready."""

    name: str
    start: Callable[[Place], AbstractContextManager[Running]]
    missing: str = ""
    """Why it can't be measured here; empty: it can."""
    lanes: tuple[Lane, ...] = (VM,)
    """Where its requests may go."""
    start_s: float = 60.0
    ours: bool = False
    slow: bool = False
    """It takes so long to start that a quick run leaves it out."""
    prepare: Callable[[], Any] = lambda: None
    """What is done once and is no part of a start."""
    ready_by_status: bool = False
    """Any 200 will do, whoever served it."""


def find(program: str) -> str:
    """Where a program of Debian's is; empty: nowhere."""
    return shutil.which(program, path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin") or ""


def ask(address: str, headers: Mapping[str, str], *, method: str = "POST", path: str = PATH, body: bytes = b"",
        patience_s: float = 2.0) -> int:  # fmt: skip
    """Status of one request; 0: none came."""
    connection = HTTPConnection(address, timeout=patience_s)
    try:
        connection.request(method, path, body or None, dict(headers))
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def steer(verb: str, lane: Lane | None = None) -> Any:
    """Tells the backend; `load.backend` says the verbs. Through an address that no fault closes."""
    import json

    connection = HTTPConnection(OTHER.address, timeout=20.0)
    try:
        connection.request("POST", f"/bench/{verb}?{lane.name if lane else ''}")
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()
