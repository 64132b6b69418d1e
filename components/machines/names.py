"""What the name of a machine type says: processors, cores and memory, the disk that its series takes, and its chip.

Owns: reading the name, for machines that the table doesn't know (`speeds`). Does not own: how fast one is. Where series
differ, the memory is the least that a name can mean.
"""

import re
from dataclasses import dataclass
from typing import Final

PD: Final = "pd-balanced"
HYPERDISK: Final = "hyperdisk-balanced"
HYPERDISK_ONLY: Final = ("c4", "c4a", "c4d", "n4", "n4a", "n4d")
"""Series that refuse `pd-balanced` ("cannot be used by c4-standard-16 machine type", many reports of 2026)."""
WHOLE_CORES: Final = ("t2d", "t2a", "c4a", "n4a", "h3")
"""Series whose vCPU is a whole core (Google, "CPU platforms"); in all others two share one."""
ARM: Final = ("t2a", "c4a", "n4a")
BUILT_IN: Final = {"g2": "l4"}
"""Series -> the card that is part of every machine of it."""
_GIB: Final = {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9}
"""Memory of a vCPU, GiB: N1's, which has the least."""
_HIGHCPU_GIB: Final = {"c2d": 2.0, "c3": 2.0, "c3d": 1.96, "c4": 2.0, "c4d": 1.87, "n4": 2.0, "n4d": 2.0}
_NAME: Final = re.compile(r"(?:([a-z]\w*)-)?(standard|highmem|highcpu|custom)-(\d+)(?:-.+)?")


@dataclass(frozen=True)
class Shape:
    """A machine as its name tells it. `cores` are physical ones."""

    vcpus: int
    cores: int
    memory_gib: float
    disk: str
    is_arm: bool


def shape(machine_type: str) -> Shape | None:
    """None where the name doesn't say it, as with `e2-medium`."""
    found = _NAME.fullmatch(machine_type)
    if not found:
        return None
    series, kind, vcpus = found[1] or "n1", found[2], int(found[3])
    gib = vcpus * (_HIGHCPU_GIB.get(series, _GIB[kind]) if kind == "highcpu" else _GIB.get(kind, 0.0))
    if kind == "custom":
        gib = int(re.findall(r"-(\d+)", machine_type)[-1]) / 1024
    return Shape(
        vcpus=vcpus,
        cores=vcpus if series in WHOLE_CORES else max(1, vcpus // 2),
        memory_gib=gib,
        disk=HYPERDISK if series in HYPERDISK_ONLY else PD,
        is_arm=series in ARM,
    )
