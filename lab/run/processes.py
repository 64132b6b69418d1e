"""Starts and ends the lab's processes, and waits until they answer.

Owns: a process with its group, log and environment. Does not own: which processes there are (`lab`).
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import aiohttp

from lab.errors import LabError
from lab.read.images import BIN
from lab.read.stack import ROOT

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
"""Opened here: between fork and exec another thread's lock could be held for ever."""


def _die_with_parent() -> None:
    """A killed lab must not leave processes behind (Linux only; elsewhere Ctrl-C and `lab down` end them)."""
    if _LIBC:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def environment(declared: Mapping[str, str], bin_folder: Path) -> dict[str, str]:
    """The whole environment of a process: a small fixed base, then what was declared; nothing of the user's own."""
    return {"PATH": f"{bin_folder}:{BIN}:/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", **declared}


@dataclass
class Process:
    """One running process and everything it started (its process group)."""

    title: str
    handle: asyncio.subprocess.Process
    log: Path

    @property
    def running(self) -> bool:
        """Whether the process itself is alive."""
        return self.handle.returncode is None

    async def stop(self, grace_s: float = 10.0) -> float:
        """SIGTERM to the group, SIGKILL after `grace_s`. Returns the seconds it took."""
        start = asyncio.get_running_loop().time()
        self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.handle.wait(), grace_s)
        self.signal(signal.SIGKILL)
        await self.handle.wait()
        return asyncio.get_running_loop().time() - start

    def signal(self, number: int) -> None:
        """To the process and all that it started; to nobody if they have ended."""
        # The group outlives its leader as long as one child runs, and its number is not given away before that.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.handle.pid, number)


async def start(title: str, argv: Sequence[str], env: Mapping[str, str], *, cwd: Path = ROOT, logs: Path) -> Process:
    """Starts `argv` in a group of its own, its output appended to `logs/<title>.log`."""
    path = logs / f"{title.replace('/', '-')}.log"
    with path.open("ab") as log:
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *argv,
                env=dict(env),
                cwd=cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        )
        try:
            return Process(title, await asyncio.shield(starting), path)
        except asyncio.CancelledError:
            # Ctrl-C in this moment: nobody else knows of the process yet.
            await Process(title, await starting, path).stop(0)
            raise
        except OSError as error:
            raise LabError(f"{title}: {argv[0]} can't be started: {error.strerror}") from error


class Running(Protocol):
    """What `ready` waits for: a process, or several that make one instance."""

    @property
    def running(self) -> bool: ...


async def ready(url: str, timeout_s: float, process: Running) -> None:
    """Waits until `url` answers 200; raises `LabError` when the process ends first or time is up."""
    deadline = time.monotonic() + timeout_s
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with client.get(url) as answer:
                    if answer.status == 200:
                        return
            if not process.running:
                raise LabError(f"a process ended before {url} answered; its log is in the lab's folder `logs`")
            await asyncio.sleep(0.05)
    raise LabError(f"{url} did not answer within {timeout_s:.0f} s; see the lab's folder `logs`")
