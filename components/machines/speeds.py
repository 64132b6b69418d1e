"""How fast each machine serves the default model, Qwen2.5-VL-7B: a table with the source of every row.

Owns: speeds, cores, memory and disk kind of the machines that a lane can stand on. Does not own: prices (`prices`),
what a request needs of them (`requests`). A range of estimates stands here with its slow end.

Formula of the rows that say `by cores`: one core of an EPYC Milan was measured, and two of them; prompts then go with
cores ** 0.76, pictures with cores ** 0.9 and answers with cores ** 0.85.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Source(StrEnum):
    """Where a speed comes from."""

    MEASURED = "measured"
    """Random weights of the true shapes under the declared server arguments, as `make bench-vm` does it."""
    PUBLIC = "public report"
    ESTIMATED = "estimated"


@dataclass(frozen=True)
class Speed:
    """One request alone. All in tokens a second: of the prompt, of a picture's encoding, of the answer."""

    prompt: float
    picture: float
    answer: float
    source: Source
    told: str
    """What the source says, and the formula of an estimate."""


@dataclass(frozen=True)
class Machine:
    """A Compute Engine machine that the VM lane can stand on. `gpu`: `t4`, `l4`, or empty for processors alone."""

    name: str
    gpu: str
    vcpus: int
    cores: int
    """Physical ones: llama.cpp starts as many threads."""
    memory_gib: float
    disk: str
    """The disk type that it takes."""
    speed: Speed

    @property
    def title(self) -> str:
        """As people say it: the type, and a card that is attached to it."""
        return f"{self.name} + T4" if self.gpu == "t4" else self.name


PD: Final = "pd-balanced"
HYPERDISK: Final = "hyperdisk-balanced"
_MILAN: Final = (
    "EPYC Milan 2.45 GHz, one core: prompt 4.6, 999 picture tokens in 215 s, answer 2.0; two: 7.8, 115 s, 4.1"
)


def _cores(count: int, *, factor: float = 1.0, told: str = "") -> Speed:
    """The formula by cores; `factor`: of a core, in cores of a Milan."""
    speeds = (4.6 * count**0.76 * factor, 4.65 * count**0.9 * factor, 2.0 * count**0.85)
    prompt, picture, answer = (round(speed, 1) for speed in speeds)
    return Speed(prompt, picture, answer, Source.ESTIMATED, f"by cores ({count}){told}")


_GENOA: Final = " x 1.74: one core of a Genoa took 37.5 s for 300 tokens, measured, a Milan's 65 s"
_AMX: Final = "public reports on AMX: 300 tokens in 2.5-6 s, a 1024 px picture in 30-60 s; the slow ends"
_T4: Final = "7B AWQ on a T4, 2023: prompt 407-432, answer 33-36; picture 2-5.5 s"
_L4: Final = "first token of 300 tokens under 0.5 s, of a 1024 px picture 1-2 s: slow ends"
_SPR: Final = Speed(50.0, 29.0, 8.0, Source.ESTIMATED, _AMX)

MACHINES: Final = (
    Machine("e2-highmem-2", "", 2, 1, 16, PD, Speed(4.6, 4.65, 2.0, Source.MEASURED, _MILAN)),
    Machine("e2-highmem-4", "", 4, 2, 32, PD, Speed(7.8, 8.7, 4.1, Source.MEASURED, _MILAN)),
    Machine("e2-standard-4", "", 4, 2, 16, PD, Speed(7.8, 8.7, 4.1, Source.MEASURED, _MILAN)),
    Machine("e2-standard-8", "", 8, 4, 32, PD, _cores(4)),
    Machine("n2d-standard-4", "", 4, 2, 16, PD, Speed(7.8, 8.7, 4.1, Source.MEASURED, _MILAN)),
    Machine("n2d-standard-8", "", 8, 4, 32, PD, _cores(4)),
    Machine("c2d-standard-8", "", 8, 4, 32, PD, _cores(4)),
    Machine("t2d-standard-4", "", 4, 4, 16, PD, _cores(4)),
    Machine("t2d-standard-8", "", 8, 8, 32, PD, _cores(8)),
    Machine("c3-standard-8", "", 8, 4, 32, PD, _SPR),
    Machine("c3-highcpu-8", "", 8, 4, 16, PD, _SPR),
    Machine("c3d-standard-4", "", 4, 2, 16, PD, _cores(2, factor=1.74, told=_GENOA)),
    Machine("c3d-standard-8", "", 8, 4, 32, PD, _cores(4, factor=1.74, told=_GENOA)),
    Machine("c4-standard-8", "", 8, 4, 30, HYPERDISK, _SPR),
    Machine("n4-standard-8", "", 8, 4, 32, HYPERDISK, _SPR),
    Machine("c4d-standard-8", "", 8, 4, 31, HYPERDISK, _cores(4, factor=1.74, told=_GENOA)),
    Machine("n1-standard-2", "t4", 2, 1, 7.5, PD, Speed(407.0, 434.0, 33.0, Source.PUBLIC, _T4)),
    Machine("n1-standard-4", "t4", 4, 2, 15, PD, Speed(407.0, 434.0, 33.0, Source.PUBLIC, _T4)),
    Machine("g2-standard-4", "l4", 4, 2, 16, PD, Speed(1300.0, 1000.0, 45.0, Source.ESTIMATED, _L4)),
)
"""Machines of the VM lane with llama.cpp and Q4_K_M weights."""

CARDS: Final = {
    "rtx-3090": Speed(
        3000.0, 3000.0, 80.0, Source.ESTIMATED, "vLLM, AWQ weights, half of the card; no report found yet"
    ),
    "nvidia-l4": Speed(2000.0, 1500.0, 40.0, Source.ESTIMATED, "vLLM, AWQ weights; no report found yet"),
}
"""Cards that vLLM serves on: home's and burst's."""
BURST_START_S: Final = 50.0
"""From the request that wakes burst to the first token, seconds: estimated step by step, 35 to 90
(docs/decisions/15-burst-cold-start.md)."""


def machine(name: str, gpu: str = "") -> Machine | None:
    """The table's row; None for a machine that it doesn't know."""
    return next((row for row in MACHINES if (row.name, row.gpu) == (name, gpu)), None)
