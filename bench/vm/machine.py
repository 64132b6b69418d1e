"""The hardware that is measured.

Owns: processor, cores, memory and disk of this machine, and refusing one that is too small. Does not own: what a
declared machine type has (`components.machines`), what the weights need (`weights`), the figures (`rows`).
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import BenchError

GIB: Final = 1 << 30
MEMORY_GIB: Final = 11
"""What must be free: 10.2 GiB were seen with two slots and a picture, and Python takes its share."""
REFERENCE: Final = ("AuthenticAMD", 25, range(16))
"""Vendor, family and models of the reference's processor, AMD Milan."""


@dataclass(frozen=True)
class Cpu:
    """A processor as /proc/cpuinfo names it."""

    name: str
    vendor: str
    family: int
    model: int

    @property
    def is_reference_kind(self) -> bool:
        """Whether the reference's figures were measured on this kind."""
        vendor, family, models = REFERENCE
        return (self.vendor, self.family) == (vendor, family) and self.model in models

    def __str__(self) -> str:
        return f"{self.name} ({self.vendor}, family {self.family}, model {self.model})"


def cpu_of(cpuinfo: str) -> Cpu:
    """The first processor of /proc/cpuinfo; raises `BenchError` where it is none of x86's."""
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())}
    try:
        return Cpu(found["model name"], found["vendor_id"], int(found["cpu family"]), int(found["model"]))
    except KeyError as error:
        raise BenchError(
            f"processor: /proc/cpuinfo has no {error}, so this is no x86 machine; its figures could be compared with "
            + "nothing here. Run it on an x86 machine"
        ) from error


def cpu() -> Cpu:
    """This machine's processor."""
    return cpu_of(Path("/proc/cpuinfo").read_text())


def cores_of(siblings: dict[int, str]) -> list[int]:
    """One processor of each physical core, from every allowed processor's `thread_siblings_list`."""
    return sorted(
        {frozenset(_numbers(text)): number for number, text in sorted(siblings.items(), reverse=True)}.values()
    )


def cores() -> list[int]:
    """One processor of each physical core that this process may use. A virtual machine may hide that two share one."""
    place = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return cores_of({number: Path(place.format(number)).read_text() for number in os.sched_getaffinity(0)})


def _numbers(text: str) -> set[int]:
    ends = [part.split("-") for part in text.strip().split(",")]
    return {number for pair in ends for number in range(int(pair[0]), int(pair[-1]) + 1)}


def available_memory(meminfo: str) -> int:
    """Bytes that a program can still take, of /proc/meminfo."""
    [kib] = re.findall(r"^MemAvailable: +(\d+) kB$", meminfo, re.MULTILINE)
    return int(kib) << 10


def require_room(folder: Path, missing_bytes: int) -> None:
    """Raises `BenchError` unless memory and disk suffice; `missing_bytes`: of files not written yet."""
    memory = available_memory(Path("/proc/meminfo").read_text())
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    require(memory, shutil.disk_usage(there).free, missing_bytes, folder)


def require(memory_bytes: int, disk_bytes: int, missing_bytes: int, folder: Path) -> None:
    """`require_room` for given figures."""
    if memory_bytes < MEMORY_GIB * GIB:
        raise BenchError(
            f"memory: {memory_bytes / GIB:.1f} GiB are free, {MEMORY_GIB} are needed; with less the weights are read "
            + "from the disk again for each token, and the figures say nothing. End other programs, or use a larger "
            + "machine"
        )
    if disk_bytes < missing_bytes * 1.05:
        raise BenchError(
            f"disk: {disk_bytes / GIB:.1f} GiB are free under {folder}, the random weights take "
            + f"{missing_bytes * 1.05 / GIB:.1f}; writing would fill the disk. Free some, or name another folder: "
            + "--folder"
        )
