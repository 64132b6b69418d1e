"""How fast the declared machines serve the model: each lane's row of the table in `components.machines`.

Owns: which row a declared resource stands for, the scale of the declared model, and how several requests share a
machine. Does not own: the speeds themselves, the model (`model`), the stand-ins that take this long
(`programs.engine`). A machine that the table doesn't have is a `LabError`: a stand-in without its speed would be kinder
than the machine. So is a model that the catalogue doesn't have, but only where somebody asks for its pace.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from components.machines.names import BUILT_IN
from components.machines.requests import TEXT_TOKENS, first_token_s
from components.machines.speeds import CARDS, Machine, Speed, machine, scaled, scaled_card
from lab.errors import LabError
from lab.read.model import Served

_TABLE: Final = "components/machines/speeds.py"
_ACCELERATORS: Final = {"nvidia-tesla-t4": "t4", "nvidia-l4": "l4"}
"""Compute Engine's name of a card -> the table's."""


@dataclass(frozen=True)
class Pace:
    """A machine's row, and its engine's way to share it: `n` at once take `n ** exponent` times as long as one."""

    on: str
    """The machine, as people say it."""
    engine: str
    """`llama.cpp` or `vllm`."""
    table: Speed
    """Of the default model."""
    served: Served
    prompts: float
    answers: float

    @property
    def speed(self) -> Speed:
        """With the declared model; raises `LabError` for one whose size isn't known here."""
        if self.served.known is None:
            raise LabError(
                f"{self.on}: components/models/catalogue.py has no model with the weights {self.served.weights}, so "
                + "nobody knows how late its answers come; `lab up --answer-in SECONDS` asks for no pace"
            )
        return (scaled if self.engine == "llama.cpp" else scaled_card)(self.table, self.served.known)

    def scaled(self, factor: float) -> dict[str, float]:
        """For the stand-in (`programs.engine.Pace`): the machine, `factor` times as fast."""
        speed = self.speed
        rates = {"prompt": speed.prompt, "picture": speed.picture, "answer": speed.answer}
        scaled = {name: rate * factor for name, rate in rates.items()}
        return {**scaled, "prompts": self.prompts, "answers": self.answers}

    @property
    def told(self) -> str:
        """For `lab plan`: what a request takes there, and how that is known."""
        if self.served.known is None:
            return f"{self.on} ({self.engine}): nobody knows; {self.served.weights} is an own model"
        speed, tokens = self.speed, self.served.picture_tokens
        text, picture = (first_token_s(speed, TEXT_TOKENS, pictures) for pictures in (0, tokens))
        with_picture = f"with a picture after {picture:.1f} s, " if tokens else ""
        return (
            f"{self.on} ({self.engine}): first token of {TEXT_TOKENS} tokens of text after {text:.1f} s, "
            + f"{with_picture}then {speed.answer:.3g} tokens/s ({speed.source.value})"
        )


def kind_of(resource: Mapping[str, Any]) -> tuple[str, str]:
    """Type and card of a Compute Engine machine or its template, as the table names them; no card: empty."""
    kind = cast(str, resource["machineType"])
    cards = cast(list[dict[str, Any]], resource.get("guestAccelerators") or [])
    told = cast(str, cards[0]["type"]) if cards else ""
    return kind, _ACCELERATORS.get(told, told) or BUILT_IN.get(kind.partition("-")[0], "")


def of_machine(name: str, resource: dict[str, Any], served: Served) -> tuple[Machine, Pace]:
    """Of a Compute Engine machine or its template: llama.cpp's server."""
    if sum(card["count"] for card in resource.get("guestAccelerators") or ()) > 1:
        raise LabError(f"{name}: the lab knows machines with one card at most")
    kind, gpu = kind_of(resource)
    row = machine(kind, gpu)
    if row is None:
        what = f"{kind} with {gpu}" if gpu else kind
        raise LabError(
            f"{name}: {_TABLE} has no machine {what}, so nobody knows how late its answers come; add its row"
        )
    # On processors two prompts at once took 1.56 times as long as one, two answers 1.64 times (measured, `bench-vm`).
    # A card computes prompts at its limit already, so there they take turns.
    return row, Pace(row.title, "llama.cpp", row.speed, served, prompts=1.0 if row.gpu else 0.7, answers=0.7)


def of_card(name: str, card: str, served: Served) -> Pace:
    """Of a card that vLLM serves on."""
    speed = CARDS.get(card)
    if speed is None:
        known = ", ".join(CARDS)
        told = f"no card {card!r}" if card else "no card that is declared"
        raise LabError(f"{name}: {_TABLE} has {told} (it knows {known}), so nobody knows how late its answers come")
    # An answer's step reads all weights, whoever shares it: eight at once take less than twice as long. An estimate.
    return Pace(card, "vllm", speed, served, prompts=1.0, answers=0.3)
