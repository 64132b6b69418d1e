"""A projector of random weights under 1 MB: llama.cpp takes pictures with it, and sees noise.

Owns: the file. Does not own: the model that it is made for. The path that a picture takes through the server is the
real one: fetched or decoded, scaled, cut, encoded, and read as tokens.
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
_SIDE: Final = 4 * _PATCH
"""Pixels of a picture's side as it is encoded: sixteen patches, which make one token."""

Array = npt.NDArray[np.float32]


def write(path: Path, *, embedding: int = GEMMA3_270M) -> Path:
    """Write the projector of a Gemma 3 whose tokens have `embedding` numbers; the same bytes every time."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_string("general.type", "mmproj")
    writer.add_string("clip.projector_type", "gemma3")
    for key, yes in (("has_vision_encoder", True), ("has_audio_encoder", False), ("use_gelu", True)):
        writer.add_bool(f"clip.{key}", yes)
    for key, number in {
        "image_size": _SIDE,
        "patch_size": _PATCH,
        "embedding_length": _WIDTH,
        "feed_forward_length": _WIDTH,
        "projection_dim": embedding,
        "block_count": 1,
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

    yield "v.patch_embd.weight", some(_WIDTH, 3, _PATCH, _PATCH)
    yield "v.patch_embd.bias", some(_WIDTH)
    yield "v.position_embd.weight", some((_SIDE // _PATCH) ** 2, _WIDTH)
    for square in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down"):
        yield f"v.blk.0.{square}.weight", some(_WIDTH, _WIDTH)
        yield f"v.blk.0.{square}.bias", some(_WIDTH)
    for norm in ("v.blk.0.ln1", "v.blk.0.ln2", "v.post_ln"):
        yield f"{norm}.weight", some(_WIDTH)
        yield f"{norm}.bias", some(_WIDTH)
    yield "mm.input_projection.weight", some(_WIDTH, embedding)
    yield "mm.soft_emb_norm.weight", some(_WIDTH)
