"""Random contents of a tensor, in each of the formats that the files hold.

Owns: contents that keep the activations near 1, so that no value overflows. Does not own: which tensors there are
(`shapes`). A file of 5 GB takes seconds: a tensor repeats one small random piece, whose length is a prime number of
blocks, so that no two rows are the same.
"""

from functools import cache
from math import prod
from typing import Any, Final

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Format
from numpy.typing import NDArray

from bench.vm.shapes import Tensor

BLOCKS: Final = 32749
_NIBBLES: Final = 258.0
"""Standard deviation of a Q4_K block of random bytes whose scale is 1 and whose minimum's scale is 7.5."""
_SIX_BITS: Final = 1366.0
"""Standard deviation of a Q6_K block of random bytes whose scale is 1."""

_EIGHT_BITS: Final = 73.9
"""Standard deviation of a Q8_0 block of random bytes whose scale is 1: 256 / sqrt(12)."""


def content(tensor: Tensor) -> NDArray[Any]:
    """The tensor's bytes, as numpy has rows of them."""
    per_block, size = GGML_QUANT_SIZES[tensor.format]
    if len(tensor.shape) == 1:
        return np.ones(tensor.shape, np.float32) if "bias" not in tensor.name else np.zeros(tensor.shape, np.float32)
    row = tensor.shape[-1] // per_block * size
    return np.resize(_piece(tensor.format, prod(tensor.shape[1:])), prod(tensor.shape[:-1]) * row).reshape(
        *tensor.shape[:-1], row
    )


@cache
def _piece(kind: Format, inputs: int) -> NDArray[np.uint8]:
    """Random bytes of one format; its weights have the spread that hands on activations of `inputs` at their size."""
    random, spread = np.random.default_rng(1), inputs**-0.5
    if kind == Format.F16:
        return (random.standard_normal(BLOCKS) * spread).astype(np.float16).view(np.uint8)
    blocks = random.integers(0, 256, (BLOCKS, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    match kind:
        case Format.Q4_K:  # scale, minimum's scale, 12 bytes of both in 6 bits, 128 bytes of nibbles
            blocks[:, 0:4] = np.array([spread / _NIBBLES, 7.5 * spread / _NIBBLES], np.float16).view(np.uint8)
        case Format.Q6_K:  # 128 bytes of low bits, 64 of high ones, 16 of scales, the scale's scale
            blocks[:, 208:210] = np.array([spread / _SIX_BITS], np.float16).view(np.uint8)
        case Format.Q8_0:  # scale, 32 signed bytes
            blocks[:, 0:2] = np.array([spread / _EIGHT_BITS], np.float16).view(np.uint8)
        case _:
            raise AssertionError(f"no tensor of the two files is {kind.name}")
    return blocks.reshape(-1)
