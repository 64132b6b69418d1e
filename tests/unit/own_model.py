"""An own model, declared whole, for tests of what the settings make of it."""

from typing import Any, Final

Section = dict[str, Any]
REVISION: Final = "0123456789abcdef0123456789abcdef01234567"
GGUF: Final[Section] = {"url": "https://models.example/a/main.gguf", "sha256": "a" * 64, "bytes": 2 * 10**9}
PROJECTOR: Final[Section] = {"url": "https://models.example/b/pictures.gguf", "sha256": "b" * 64, "bytes": 8 * 10**8}
SHAPE: Final[Section] = {
    "layers": 36,
    "kv_heads": 2,
    "head_size": 128,
    "parameters": 3_000_000_000,
    "context_tokens": 32_768,
}
VISION: Final[Section] = {"vision": True, "picture_side": 28, "projector": PROJECTOR}


def own_model(**changes: Any) -> dict[str, Any]:
    """The setting `model` of a text-only model, some of it changed; None takes a key out."""
    whole = {
        "preset": None,
        "name": "some/name",
        "weights": "a/b",
        "revision": REVISION,
        "weights_bytes": 4_000_000_000,
        "gguf": GGUF,
        "tool_parser": "hermes",
        "shape": SHAPE,
    }
    return {"preset": None} | {key: value for key, value in (whole | changes).items() if value is not None}
