"""Processes of a run: each pinned to a core, with a log of its own, and what /proc tells of it.

Owns: starting, ending, processor time, memory, the two cores' roles. Does not own: what is started (`systems`, `load`).
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.errors import BenchError
from lab.read.images import BIN
from lab.read.stack import ROOT

_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG: Final = 1
TICKS: Final = os.sysconf("SC_CLK_TCK")
STOP_S: Final = 5.0


class Process:
    """A started process and all that it starts, as one group."""

    def __init__(self, title: str, argv: Sequence[str], env: Mapping[str, str], core: int, log: Path,
                 cwd: Path = ROOT) -> None:  # fmt: skip
        def before() -> None:
            os.sched_setaffinity(0, {core})
            if _LIBC:
                _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)

        self.title, self.log = title, log
        with log.open("ab") as stream:
            try:
                self.handle = subprocess.Popen(
                    argv, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                    start_new_session=True, preexec_fn=before,
                )  # fmt: skip
            except OSError as error:
                raise BenchError(f"{title}: {argv[0]} can't be started: {error.strerror}") from error

    @property
    def running(self) -> bool:
        return self.handle.poll() is None

    def pids(self) -> list[int]:
        """All of the group."""
        return [pid for pid in _all_pids() if _group(pid) == self.handle.pid]

    def cpu_s(self) -> float:
        """Processor time of the whole group so far, seconds, in steps of a hundredth."""
        return sum(map(_cpu_s, self.pids()))

    def memory(self) -> int:
        """Proportional set size of the whole group, bytes."""
        return sum(map(_pss, self.pids()))

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to what is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.handle.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.handle.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.handle.pid, signal.SIGKILL)
        self.handle.wait()

    def kill(self) -> None:
        """SIGKILL to all of it, for what keeps nothing that matters."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.handle.pid, signal.SIGKILL)
        self.handle.wait()


@contextlib.contextmanager
def started(
    title: str, argv: Sequence[str], core: int, folder: Path, env: Mapping[str, str] | None = None
) -> Generator[Process]:
    """A process until the block ends, with nothing of the user's environment but the path."""
    process = Process(title, argv, environment() | dict(env or {}), core, folder / f"{title}.log")
    try:
        yield process
    finally:
        process.kill()


def environment() -> dict[str, str]:
    """A small fixed base."""
    return {"PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT)}  # fmt: skip


def until(holds: Callable[[], bool], what: str, limit_s: float, processes: Sequence[Process] = ()) -> None:
    """Waits; raises `BenchError` when time is up, or one of the processes has ended."""
    deadline = time.monotonic() + limit_s
    while not holds():
        for process in processes:
            if not process.running:
                raise BenchError(f"{process.title} ended before {what}; its log: {_end_of(process.log)}")
        if time.monotonic() > deadline:
            logs = "; ".join(f"{process.title}: {_end_of(process.log)}" for process in processes)
            raise BenchError(f"{what}: not within {limit_s:.0f} s; {logs}")
        time.sleep(0.005)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:].strip()


def _all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat behind the name, which may hold anything; empty if the process is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _group(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[2]) if fields else -1


def _cpu_s(pid: int) -> float:
    """Own time, and that of ended children, which would be lost otherwise."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / TICKS if fields else 0.0


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
