"""What a request costs a machine: the sizes that requests are sorted by, and the time to a first token.

Owns: the borders between the sizes, the reference request of each, and the arithmetic. Does not own: where a border is
looked at (`gateway.caddy`), what follows from a time (`gateway.pilot`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from components.machines.speeds import Speed
from components.models.contract import Contract

TEXT_TOKENS: Final = 300
"""Tokens of the text that every table here speaks of."""
LONG_TOKENS: Final = 1200
"""Tokens of a long text: two pages, or a conversation of some turns."""
ANSWER_TOKENS: Final = 150
"""Tokens of an answer."""
BYTES_PER_TOKEN: Final = 4
"""Bytes of a body for one token of text: English with Qwen's tokenizer, JSON around it included."""
SHORT_S: Final = 15
"""A text that the VM reads in this time is short, seconds."""
SHORT_LEAST_KIB: Final = 2
"""A body with a text of `TEXT_TOKENS` fits."""
KIB: Final = 1024


class Size(StrEnum):
    """A request, by how much it asks of a lane before the first token."""

    SHORT = "short"
    LONG = "long"
    PICTURE = "picture"


@dataclass(frozen=True)
class Borders:
    """The largest body of a short text and of any text, KiB: what is larger holds a picture."""

    short_kib: int
    text_kib: int
    picture_tokens: int
    """Tokens of the picture that every table speaks of."""

    def reference(self, size: Size) -> tuple[int, int]:
        """Tokens of text and of pictures in the request that a whole size is judged by."""
        short, text = (kib * KIB // BYTES_PER_TOKEN for kib in (self.short_kib, self.text_kib))
        return {
            Size.SHORT: (min(TEXT_TOKENS, short), 0),
            Size.LONG: (min(max(LONG_TOKENS, 2 * short), text), 0),
            Size.PICTURE: (TEXT_TOKENS, self.picture_tokens),
        }[size]


def borders(vm: Speed | None, contract: Contract, limit_kib: int) -> Borders:
    """Powers of two: any text is what fills the context, at most `limit_kib`; a short one is read in `SHORT_S`.

    The text that every table speaks of is short on any machine, and nothing longer on one whose speed nobody knows.
    """
    fills_kib = -(-contract.context_tokens * BYTES_PER_TOKEN // KIB)
    text = min(_power_of_two(fills_kib, up=True), _power_of_two(limit_kib, up=False))
    read_kib = int(vm.prompt * SHORT_S * BYTES_PER_TOKEN) // KIB if vm else 1
    short = min(max(SHORT_LEAST_KIB, _power_of_two(read_kib, up=False)), text // 2)
    return Borders(short, text, contract.picture_tokens)


def _power_of_two(number: int, *, up: bool) -> int:
    below = 1 << (max(1, number).bit_length() - 1)
    return below * 2 if up and below < number else below


def first_token_s(speed: Speed, text: int, picture: int = 0) -> float:
    """Seconds to the first token of a request alone: the picture is encoded, then everything is read."""
    return picture / speed.picture + (text + picture) / speed.prompt


def answer_s(speed: Speed, tokens: int = ANSWER_TOKENS) -> float:
    """Seconds from the first token to the last."""
    return tokens / speed.answer
