"""What a request costs a machine: the sizes that requests are sorted by, and the time to a first token.

Owns: the reference request of each size, and the arithmetic. Does not own: which body has which size (`gateway.caddy`).
"""

from enum import StrEnum
from typing import Final

from components.machines.speeds import Speed

TEXT_TOKENS: Final = 300
"""Tokens of the text that every table here speaks of."""
PICTURE_TOKENS: Final = 752
"""Tokens of a picture of 1024 x 768 after the lanes' own cap of 589,824 pixels, 28 x 28 each."""
ANSWER_TOKENS: Final = 150
"""Tokens of an answer."""
BYTES_PER_TOKEN: Final = 4
"""Bytes of a body for one token of text: English with Qwen's tokenizer, JSON around it included."""


class Size(StrEnum):
    """A request, by how much it asks of a lane before the first token."""

    SHORT = "short"
    LONG = "long"
    PICTURE = "picture"


def first_token_s(speed: Speed, text: int, picture: int = 0) -> float:
    """Seconds to the first token of a request alone: the picture is encoded, then everything is read."""
    return picture / speed.picture + (text + picture) / speed.prompt


def answer_s(speed: Speed, tokens: int = ANSWER_TOKENS) -> float:
    """Seconds from the first token to the last."""
    return tokens / speed.answer
