"""llama.cpp's metrics: how fast the VM really reads, beside what the table of machines says.

Owns: what its counters say. Does not own: asking for them (`vm`), what follows (`expect`). Pure.
"""

from dataclasses import dataclass
from typing import Final

from .prometheus import samples

_COUNTERS: Final = {"llamacpp:prompt_tokens_total": "", "llamacpp:prompt_seconds_total": ""}
TOKENS: Final = 50
"""Fewer in a sample say more about the start of a request than about reading."""
KEPT: Final = 5
"""Samples that are looked at. The fastest counts: waiting for another slot stands in the same counter as reading;
a request that nothing delays is the machine's own speed."""
LEAST: Final = 0.5
MOST: Final = 4.0


@dataclass(frozen=True)
class Prompts:
    """The counters at the last look, and tokens a second since the looks before."""

    tokens: float | None = None
    seconds: float = 0.0
    speeds: tuple[float, ...] = ()

    def correction(self, text: float, picture: float) -> float:
        """How many times as long as declared it takes; 1 while nothing is known.

        Declared are the tokens a second of a text, and of a picture with a text, whose encoding counts as reading. The
        counters don't tell the two apart, so a speed between them says nothing.
        """
        if not self.speeds:
            return 1.0
        speed = max(self.speeds)
        return min(MOST, max(LEAST, min(text, max(picture, speed)) / speed))


def prompts(before: Prompts, text: str) -> Prompts:
    """After one look more. Counters that fell are another server's, or the same one's after a start."""
    totals = {name: value for name, _, value in samples(text, _COUNTERS)}
    if len(totals) < len(_COUNTERS):
        return before
    tokens, seconds = (totals[name] for name in _COUNTERS)
    read, took = tokens - (before.tokens or 0.0), seconds - before.seconds
    if before.tokens is None or read < 0 or took < 0:
        return Prompts(tokens, seconds, before.speeds)
    if read < TOKENS or took == 0:
        return before
    return Prompts(tokens, seconds, (*before.speeds, read / took)[-KEPT:])
