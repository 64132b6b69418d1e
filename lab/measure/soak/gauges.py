"""What the lab's processes take of this machine: memory, descriptors, and that none is left.

Owns: reading /proc, and Caddy's own word about what it holds. Does not own: what is allowed (`verdict`).
"""

import asyncio
import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

MIB: Final = 1024 * 1024
LOOK_S: Final = 0.25
COLLECTIONS: Final = 3
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Look:
    """At one process group."""

    memory_mib: float = 0.0
    descriptors: int = 0


def groups() -> dict[int, list[int]]:
    """Process group -> the processes in it, of all that run."""
    found: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                state, _, group = (folder / "stat").read_text().rpartition(") ")[2].split()[:3]
                if state != "Z":
                    found[int(group)].append(int(folder.name))
    return found


def look(titles: Mapping[str, int]) -> dict[str, Look]:
    """At groups, by title; those that have ended are left out."""
    members = groups()
    return {title: _look(members[group]) for title, group in titles.items() if group in members}


def _look(processes: Iterable[int]) -> Look:
    memory, descriptors = 0, 0
    for pid in processes:
        with contextlib.suppress(OSError):
            memory += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))
    return Look(memory / MIB, descriptors)


class Watch:
    """Looks again and again: the most memory that each title had in each phase, and every group that there was."""

    def __init__(self, titles: Callable[[], Mapping[str, int]]) -> None:
        self._titles = titles
        self.phase = ""
        self.peak_mib: dict[tuple[str, str], float] = {}
        """By phase and title."""
        self.groups: dict[int, str] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            titles = self._titles()
            self.groups |= {group: title for title, group in titles.items()}
            for title, seen in look(titles).items():
                at = self.phase, title
                self.peak_mib[at] = max(self.peak_mib.get(at, 0.0), seen.memory_mib)
            await asyncio.sleep(LOOK_S)

    def left(self) -> list[str]:
        """What still runs of all that there ever was."""
        running = groups()
        return sorted(f"{title} ({running[group]})" for group, title in self.groups.items() if group in running)


@dataclass(frozen=True)
class Held:
    """What Caddy holds when its garbage is collected."""

    goroutines: int = 0
    heap_mib: float = 0.0


async def held(folder: Path) -> Held:
    """By the profiles of Caddy's own admin socket, somewhere in `folder`; raises `OSError` where there is none."""
    sockets = [path for path in folder.rglob("*.sock") if path.is_socket()]
    for path in sockets:
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client:
                # What lies in Go's pools outlives one collection, and is given back by the next.
                heaps = [
                    await _profile(client, "heap?gc=1&debug=1", r"# HeapInuse = (\d+)") for _ in range(COLLECTIONS)
                ]
                count = await _profile(client, "goroutine?debug=1", r"goroutine profile: total (\d+)")
                return Held(count, heaps[-1] / MIB)
    raise OSError(f"no admin socket of Caddy's answers in {folder}")


async def _profile(client: aiohttp.ClientSession, name: str, pattern: str) -> int:
    async with client.get(f"http://localhost/debug/pprof/{name}") as answer:
        found = re.search(pattern, await answer.text())
    if not found:
        raise aiohttp.ClientError(f"no profile {name}")
    return int(found[1])
