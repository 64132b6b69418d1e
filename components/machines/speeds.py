"""How fast each machine serves the default model, Qwen2.5-VL-7B: a table with the source of every row, and its scale.

Owns: speeds, cores, memory and disk kind of the machines that a lane can stand on. Does not own: prices (`prices`),
what a request needs of them (`requests`). A range of estimates stands here with its slow end.

Formula of what is told `by cores`: one core of an EPYC Milan was measured, and two of them; prompts then go with
cores ** 0.76, pictures with cores ** 0.9 and answers with cores ** 0.85. Sapphire and Emerald Rapids have AMX, which
the official image uses; how much it does for a picture was not found, so they count for 1.12 of a Milan there.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from components.machines.names import HYPERDISK, PD
from components.models.catalogue import DEFAULT, PRESETS
from components.models.shape import Model


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


_MILAN: Final = (
    "EPYC Milan 2.45 GHz, one core: prompt 4.6, answer 2.0, 999 picture tokens in 215 s with a projector of bf16; two: "
    + "7.8, 4.1, 115 s. A projector of q8_0 took 33 s of a core where bf16 took 53"
)
_REPORT: Final = "SpareCores: {}"
"""github.com/SpareCores/sc-inspector-data, April 2025: llama-bench of llama.cpp b4753 on the machine itself, a thread
for each core, Llama-7B Q4_K_M of 4.1 GB. `pp` is the prompt, `tg` the answer; the default model's 4.7 GB give 0.87.
"""


def _cores(count: int, *, factor: float = 1.0, told: str = "") -> Speed:
    """The formula by cores; `factor`: of a core, in cores of a Milan."""
    speeds = (4.6 * count**0.76 * factor, _picture(count, factor), 2.0 * count**0.85)
    prompt, picture, answer = (round(speed, 1) for speed in speeds)
    return Speed(prompt, picture, answer, Source.ESTIMATED, f"by cores ({count}){told}")


def _picture(count: int, factor: float = 1.0) -> float:
    return round(4.65 * 53 / 33 * count**0.9 * factor, 1)


def _report(prompt: float, answer: float, cores: int, told: str, *, factor: float = 1.0) -> Speed:
    """Prompt and answer as reported for Llama-7B, the picture by cores."""
    return Speed(
        prompt,
        _picture(cores, factor),
        round(0.87 * answer, 1),
        Source.PUBLIC,
        _REPORT.format(told) + "; picture by cores",
    )


_GENOA: Final = " x 1.74: one core of a Genoa took 37.5 s for 300 tokens, measured, a Milan's 65 s"
_ONE: Final = Speed(4.6, 7.5, 2.0, Source.MEASURED, _MILAN)
_TWO: Final = Speed(7.8, 13.9, 4.1, Source.MEASURED, _MILAN)
_T4: Final = Speed(
    1172.0, 227.0, 37.0, Source.PUBLIC, _REPORT.format("T4, pp128 1,172, tg128 42.5") + "; picture 5.5 s, estimated"
)
_L4: Final = Speed(
    2296.0, 700.0, 45.4, Source.PUBLIC, _REPORT.format("L4, pp128 2,296, tg128 52.2") + "; picture 2 s, estimated"
)

MACHINES: Final = (
    Machine("e2-highmem-2", "", 2, 1, 16, PD, _ONE),
    Machine("e2-highmem-4", "", 4, 2, 32, PD, _TWO),
    Machine("e2-standard-4", "", 4, 2, 16, PD, _TWO),
    Machine("e2-standard-8", "", 8, 4, 32, PD, _cores(4)),
    Machine("n2d-standard-4", "", 4, 2, 16, PD, _TWO),
    Machine("n2d-standard-8", "", 8, 4, 32, PD, _report(16.9, 9.9, 4, "n2d-highmem-8, pp128 16.9, tg128 9.9")),
    Machine("c2d-standard-8", "", 8, 4, 32, PD, _report(18.7, 10.5, 4, "c2d-highmem-8, pp128 18.7, tg128 10.5")),
    Machine(
        "t2d-standard-4", "", 4, 4, 16, PD,
        _report(16.8, 10.3, 4, "gemma-2b's 54.1 and 25.8 there, / 3.2 and 2.5, the ratio on t2d-standard-8"),
    ),
    Machine("t2d-standard-8", "", 8, 8, 32, PD, _report(33.5, 15.0, 8, "pp128 33.5, tg128 15.0")),
    Machine("c3-standard-4", "", 4, 2, 16, PD, _report(27.0, 4.2, 2, "pp512 27, tg16 4.2", factor=1.12)),
    Machine("c3-standard-8", "", 8, 4, 32, PD, _report(45.2, 7.4, 4, "pp512 45.2, tg128 7.4", factor=1.12)),
    Machine("c3-highcpu-8", "", 8, 4, 16, PD, _report(44.8, 7.7, 4, "pp512 44.8, tg128 7.7", factor=1.12)),
    Machine("c3d-standard-4", "", 4, 2, 16, PD, _report(10.6, 5.7, 2, "pp128 10.6, tg128 5.7", factor=1.74)),
    Machine("c3d-standard-8", "", 8, 4, 32, PD, _report(20.8, 6.0, 4, "pp128 20.8, tg128 6.0", factor=1.74)),
    Machine("c4-standard-4", "", 4, 2, 15, HYPERDISK, _report(29.8, 3.8, 2, "pp512 29.8, tg16 3.8", factor=1.12)),
    Machine("c4-standard-8", "", 8, 4, 30, HYPERDISK, _report(49.6, 7.3, 4, "pp512 49.6, tg16 7.3", factor=1.12)),
    Machine("n4-standard-4", "", 4, 2, 16, HYPERDISK, _report(26.6, 3.4, 2, "pp512 26.6, tg16 3.4", factor=1.12)),
    Machine("n4-standard-8", "", 8, 4, 32, HYPERDISK, _report(44.0, 6.6, 4, "pp512 44, tg16 6.6", factor=1.12)),
    Machine("c4d-standard-8", "", 8, 4, 31, HYPERDISK, _cores(4, factor=1.74, told=_GENOA)),
    Machine("n1-standard-2", "t4", 2, 1, 7.5, PD, _T4),
    Machine("n1-standard-4", "t4", 4, 2, 15, PD, _T4),
    Machine("g2-standard-4", "l4", 4, 2, 16, PD, _L4),
)  # fmt: skip
"""Machines of the VM lane with llama.cpp, Q4_K_M weights and the projector of q8_0."""

CARDS: Final = {
    "rtx-3090": Speed(
        3600.0, 3000.0, 110.0, Source.ESTIMATED, "vLLM, AWQ: SpareCores' A10G (3,630-3,840), answers by bandwidth"
    ),
    "nvidia-l4": Speed(
        2500.0, 1500.0, 45.0, Source.ESTIMATED, "vLLM, AWQ: SpareCores' L4 (3,250 in BF16), answers by bandwidth"
    ),
}
"""Cards that vLLM serves on: home's and burst's. The pictures are estimates without a report."""
BURST_START_S: Final = 50.0
"""From the request that wakes burst to the first token, seconds: estimated step by step, 35 to 90
(docs/decisions/15-burst-cold-start.md)."""


def machine(name: str, gpu: str = "") -> Machine | None:
    """The table's row; None for a machine that it doesn't know."""
    return next((row for row in MACHINES if (row.name, row.gpu) == (name, gpu)), None)


def scaled(speed: Speed, model: Model) -> Speed:
    """The table's speed of a machine with llama.cpp, for another model than the table's. An estimate.

    Reading a prompt is computing: it goes with the parameters of the language model. Writing an answer reads all
    weights for each token: it goes with the bytes of their file. Encoding a picture goes with the parameters of the
    vision tower, for in the known ones four patches become a token, whatever their side.
    """
    return _scaled(speed, model, PRESETS[DEFAULT].gguf_bytes, model.gguf_bytes)


def scaled_card(speed: Speed, model: Model) -> Speed:
    """The same for a card with vLLM, whose answers go with the bytes of vLLM's weights."""
    return _scaled(speed, model, PRESETS[DEFAULT].weights_bytes, model.weights_bytes)


def _scaled(speed: Speed, model: Model, table_bytes: int, model_bytes: int) -> Speed:
    table, shape = PRESETS[DEFAULT].shape, model.shape
    prompts = table.parameters / shape.parameters
    # Of an own model that doesn't say its size; it is refused (`settings.model_rules`).
    answers = table_bytes / (model_bytes or table_bytes)
    pictures = table.vision_parameters / (shape.vision_parameters or table.vision_parameters)
    if (prompts, pictures, answers) == (1.0, 1.0, 1.0):
        return speed
    return replace(
        speed,
        prompt=speed.prompt * prompts,
        picture=speed.picture * pictures,
        answer=speed.answer * answers,
        source=Source.ESTIMATED,
        told=f"{speed.told}; for {model.name} in proportion to parameters and bytes",
    )
