"""A projector of random weights under 2 MB: llama.cpp takes pictures with it, and sees noise.

Owns: the file. Does not own: the model that it is made for. The path that a picture takes through the server is the
real one: fetched or decoded, scaled, encoded, and read as tokens. It is of the kind that the declared model has, so
that a picture is as many tokens: one for each square of 28 pixels a side, within the declared bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import gguf
import numpy as np
import numpy.typing as npt

GEMMA3_270M: Final = 640
"""Width of that model's tokens, which the projector writes."""
_WIDTH: Final = 64
_PATCH: Final = 14
_MERGED: Final = 4 * _WIDTH
"""Four patches make one token."""
_SIDE: Final = 560
"""The side, in pixels, of the pictures that such a model was made with; others keep their own size."""
_LAYERS: Final = 2
"""One looks at windows of the picture, one at all of it. llama.cpp refuses a picture where either kind is missing."""

Array = npt.NDArray[np.float32]


def write(path: Path, *, embedding: int = GEMMA3_270M) -> Path:
    """Write a projector as Qwen2.5-VL has it, for tokens of `embedding` numbers; the same bytes every time."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_string("general.type", "mmproj")
    writer.add_string("clip.projector_type", "qwen2.5vl_merger")
    for key, yes in (("has_vision_encoder", True), ("has_audio_encoder", False), ("use_silu", True)):
        writer.add_bool(f"clip.{key}", yes)
    for key, number in {
        "image_size": _SIDE,
        "patch_size": _PATCH,
        "embedding_length": _WIDTH,
        "feed_forward_length": _WIDTH,
        "projection_dim": embedding,
        "block_count": _LAYERS,
        "n_wa_pattern": _LAYERS,
        "attention.head_count": 4,
    }.items():
        writer.add_uint32(f"clip.vision.{key}", number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.5] * 3)
    writer.add_array("clip.vision.image_std", [0.5] * 3)
    for name, tensor in _tensors(embedding):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(embedding: int) -> Iterator[tuple[str, Array]]:
    random = np.random.default_rng(0)

    def some(*shape: int) -> Array:
        return (random.standard_normal(shape) * 0.02).astype(np.float32)

    for frame in ("weight", "weight.1"):
        yield f"v.patch_embd.{frame}", some(_WIDTH, 3, _PATCH, _PATCH)
    for block in (f"v.blk.{layer}" for layer in range(_LAYERS)):
        for square in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_gate", "ffn_up", "ffn_down"):
            yield f"{block}.{square}.weight", some(_WIDTH, _WIDTH)
            yield f"{block}.{square}.bias", some(_WIDTH)
        for norm in ("ln1", "ln2"):
            yield f"{block}.{norm}.weight", some(_WIDTH)
    yield "v.post_ln.weight", some(_WIDTH)
    for layer, width in ((0, _MERGED), (2, embedding)):
        yield f"mm.{layer}.weight", some(width, _MERGED)
        yield f"mm.{layer}.bias", some(width)
