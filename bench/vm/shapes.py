"""The tensors of Qwen2.5-VL-7B as the default preset's two files hold them.

Owns: names, shapes and formats. Does not own: contents (`blocks`), metadata and the tokenizer (`weights`). Sizes are
those of the model's published configuration; formats are those that llama.cpp's quantizer gives `Q4_K_M` and `Q8_0`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Format

from components.models.catalogue import DEFAULT, PRESETS

_DEFAULT: Final = PRESETS[DEFAULT]
MODEL: Final = _DEFAULT.gguf.filename if _DEFAULT.gguf else ""
PROJECTOR: Final = _DEFAULT.projector.filename if _DEFAULT.projector else ""
"""File names of the declared weights whose shape is known here."""

LAYERS: Final = _DEFAULT.shape.layers
EMBEDDING: Final = 3584
FEED_FORWARD: Final = 18944
HEADS: Final = 28
KV_HEADS: Final = _DEFAULT.shape.kv_heads
VOCABULARY: Final = 152064

VISION_LAYERS: Final = 32
VISION_EMBEDDING: Final = 1280
VISION_FEED_FORWARD: Final = 3420
VISION_HEADS: Final = 16
PATCH: Final = 14
"""Side of a square that the tower sees as one, pixels; four of them become one token."""


@dataclass(frozen=True)
class Tensor:
    """One tensor; `shape` has the rows first, as numpy has it."""

    name: str
    shape: tuple[int, ...]
    format: Format

    @property
    def nbytes(self) -> int:
        """Its size in the file, bytes."""
        per_block, size = GGML_QUANT_SIZES[self.format]
        return prod(self.shape) // per_block * size


def model() -> Iterator[Tensor]:
    """The language model."""
    kv = EMBEDDING // HEADS * KV_HEADS
    yield Tensor("token_embd.weight", (VOCABULARY, EMBEDDING), Format.Q4_K)
    for layer in range(LAYERS):
        finer = Format.Q6_K if _is_finer(layer) else Format.Q4_K
        yield from _linear(f"blk.{layer}.attn_q", EMBEDDING, EMBEDDING, Format.Q4_K, bias=True)
        yield from _linear(f"blk.{layer}.attn_k", kv, EMBEDDING, Format.Q4_K, bias=True)
        yield from _linear(f"blk.{layer}.attn_v", kv, EMBEDDING, finer, bias=True)
        yield from _linear(f"blk.{layer}.attn_output", EMBEDDING, EMBEDDING, Format.Q4_K)
        yield from _linear(f"blk.{layer}.ffn_gate", FEED_FORWARD, EMBEDDING, Format.Q4_K)
        yield from _linear(f"blk.{layer}.ffn_up", FEED_FORWARD, EMBEDDING, Format.Q4_K)
        yield from _linear(f"blk.{layer}.ffn_down", EMBEDDING, FEED_FORWARD, finer)
        yield Tensor(f"blk.{layer}.attn_norm.weight", (EMBEDDING,), Format.F32)
        yield Tensor(f"blk.{layer}.ffn_norm.weight", (EMBEDDING,), Format.F32)
    yield Tensor("output_norm.weight", (EMBEDDING,), Format.F32)
    yield Tensor("output.weight", (VOCABULARY, EMBEDDING), Format.Q6_K)


def projector() -> Iterator[Tensor]:
    """The vision tower with its projection into the language model."""
    merged = 4 * VISION_EMBEDDING
    for frame in ("", ".1"):  # a still picture is a film of two frames
        yield Tensor(f"v.patch_embd.weight{frame}", (VISION_EMBEDDING, 3, PATCH, PATCH), Format.F16)
    for layer in range(VISION_LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield from _linear(f"v.blk.{layer}.{part}", VISION_EMBEDDING, VISION_EMBEDDING, Format.Q8_0, bias=True)
        for part in ("ffn_gate", "ffn_up"):
            yield from _linear(f"v.blk.{layer}.{part}", VISION_FEED_FORWARD, VISION_EMBEDDING, Format.Q8_0, bias=True)
        # Rows of 3,420 are no multiple of a block's 32 values, so these stay in 16 bits.
        yield from _linear(f"v.blk.{layer}.ffn_down", VISION_EMBEDDING, VISION_FEED_FORWARD, Format.F16, bias=True)
        for norm in ("ln1", "ln2"):
            yield Tensor(f"v.blk.{layer}.{norm}.weight", (VISION_EMBEDDING,), Format.F32)
    yield Tensor("v.post_ln.weight", (VISION_EMBEDDING,), Format.F32)
    yield from _linear("mm.0", merged, merged, Format.Q8_0, bias=True)
    yield from _linear("mm.2", EMBEDDING, merged, Format.Q8_0, bias=True)


def _is_finer(layer: int) -> bool:
    """Whether `Q4_K_M` keeps a layer's values and last matrix in 6 bits (llama.cpp, `use_more_bits`)."""
    eighth = LAYERS // 8
    return layer < eighth or layer >= 7 * LAYERS // 8 or (layer - eighth) % 3 == 2


def _linear(name: str, out: int, width: int, kind: Format, *, bias: bool = False) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", (out, width), kind)
    if bias:
        yield Tensor(f"{name}.bias", (out,), Format.F32)
