"""Where an engine answers otherwise than every lane should, as far as it is known, and why it stays so.

Owns: the list. Does not own: finding differences (`table`). One that the engine no longer has must go: the run says so.
"""

from dataclasses import dataclass
from typing import Final

LLAMA_CPP: Final = "llama.cpp"
VLLM: Final = "vLLM"


@dataclass(frozen=True)
class Difference:
    """What one engine answers to one kind or several, and why nothing is done about it."""

    engine: str
    kinds: tuple[str, ...]
    answer: str
    """As the table shows it."""
    why: str


DIFFERENCES: Final = (
    Difference(
        VLLM,
        ("n: as promised, temperature 0",),
        "400",
        "Without chance all answers would be the same, so vLLM refuses to write several, and no setting changes that; "
        + "llama.cpp writes them.",
    ),
    Difference(
        VLLM,
        ("picture: a file of the server's",),
        "500",
        "No file is read. vLLM takes it for its own fault as long as no folder is allowed; with one that is, the 500 "
        + "would be for what that folder lacks. The gateway repeats it on the next lane, where it is a 400.",
    ),
    Difference(
        LLAMA_CPP,
        ("picture: at an address", "responses: picture, at an address"),
        "500, fetched",
        "llama.cpp asks for any address, and no argument forbids it. On the VM its container has no way out; here it "
        + "is in a network of its own, where the only address is the one that sees who asks.",
    ),
    Difference(
        LLAMA_CPP,
        ("picture: WebP",),
        "400",
        "llama.cpp reads JPEG, PNG, BMP and GIF; vLLM reads what Pillow does. Send JPEG or PNG, as the examples do.",
    ),
    Difference(
        LLAMA_CPP,
        ("max_tokens: over the rest of the context",),
        "200",
        "llama.cpp ends the answer where the context ends; vLLM refuses what it could not write. Leave `max_tokens` "
        + "out for as much as there is room for.",
    ),
    Difference(
        LLAMA_CPP,
        ("a number for the model's name",),
        "200",
        "llama.cpp doesn't look at `model` at all.",
    ),
    Difference(
        LLAMA_CPP,
        ("empty messages",),
        "200",
        "llama.cpp fills the template with no message and goes on from there; vLLM refuses.",
    ),
    Difference(
        LLAMA_CPP,
        ("tools: required", "tools: a named one", "responses: tools: required"),
        "200, no call",
        "llama.cpp forces a call, but lets text stand before it, and the small model here writes text until it is cut "
        + "off. It knows no choice of a named tool, and takes it as `auto`.",
    ),
    Difference(
        LLAMA_CPP,
        ("responses: stream",),
        "200, no indices",
        "llama.cpp's events don't say which part of the answer they continue, and the stock SDK's "
        + "`client.responses.stream` ends with an error. So `/v1/responses` is served where vLLM is behind every lane, "
        + "and not with the VM.",
    ),
    Difference(
        LLAMA_CPP,
        ("responses: in the background",),
        "200",
        "llama.cpp answers at once, as if it had not been asked for. vLLM keeps no answer, so it refuses.",
    ),
    Difference(
        VLLM,
        ("responses: after another",),
        "404",
        "Neither keeps an answer to go on from; llama.cpp refuses the field, vLLM doesn't find the answer. Send the "
        + "whole conversation each time.",
    ),
)
