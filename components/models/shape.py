"""The form of a model: its files for each engine, its parsers, and the shape that memory and time follow from.

Owns: the fields, and arithmetic that needs the model alone. Does not own: any model (`catalogue`), the memory of a
machine or a card (`machines.memory`), speeds (`machines.speeds`).
"""

from dataclasses import dataclass
from typing import Final

LEAST_PICTURE_TOKENS: Final = 8
"""Tokens of the smallest picture: llama.cpp's least for Qwen's vision models (`tools/mtmd/clip.cpp`). A smaller one is
scaled up. vLLM's own least would be 4, for Qwen3-VL 64."""
_CACHED_BYTES: Final = 2
"""Bytes of one value in the KV cache: both engines keep 16 bits."""


@dataclass(frozen=True)
class File:
    """A file that is fetched once."""

    url: str
    sha256: str
    bytes: int

    @property
    def filename(self) -> str:
        """Last part of the URL: the file's name on the weights disk."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class Shape:
    """What a model's size and speed follow from; its repository's config.json has all of it but the parameters."""

    layers: int
    """Layers that keep keys and values."""
    kv_heads: int
    head_size: int
    parameters: int
    """Of the language model, embeddings included."""
    vision_parameters: int
    """Of the vision tower with its projection; 0: there is none."""
    context_tokens: int
    """The largest context that the model was made for."""

    @property
    def cache_bytes(self) -> int:
        """Of the KV cache for one token: keys and values of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_size * _CACHED_BYTES


@dataclass(frozen=True)
class Vision:
    """How a picture becomes tokens: squares of `side` pixels, each of which is one token."""

    side: int


@dataclass(frozen=True)
class Model:
    """A model, with all that the three lanes need to serve it. What is empty or None is not known, or not there."""

    name: str
    """The name that clients send."""
    weights: str
    """vLLM's: a repository on Hugging Face."""
    revision: str
    """A commit of it."""
    weights_bytes: int
    """Of all its weight files together."""
    gguf: File | None
    """llama.cpp's."""
    projector: File | None
    """llama.cpp's vision tower."""
    tool_parser: str
    """vLLM's, for calls of tools."""
    reasoning_parser: str
    """vLLM's, for models that think before they answer."""
    vision: Vision | None
    """None: it takes no pictures."""
    shape: Shape
    chat_template: str = ""
    """For both engines, Jinja in one line without single quotes. Empty: the one in the weights."""
    licence: str = ""

    @property
    def gguf_bytes(self) -> int:
        """Of the language model's file; where there is none, as if it were as large as vLLM's weights."""
        return self.gguf.bytes if self.gguf else self.weights_bytes
