"""Files of random weights, written once into a folder and used again.

Owns: metadata, a tokenizer of as many tokens as the model's, and when a file is written. Does not own: the tensors
(`shapes`), what they hold (`blocks`), whether there is room (`machine`).

The tokenizer knows no words: a letter is a token, so that a prompt's length is exact. llama.cpp needs one merge at
least; the one here joins a space and a `t`, and no prompt has a space.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from gguf import GGUFWriter, TokenType
from gguf.constants import LlamaFileType

from bench.vm import blocks, shapes
from bench.vm.shapes import Tensor

RECIPE: Final = 1
"""Part of a file's name; a change of what is written raises it."""
SPECIAL: Final = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
"""Qwen's, in their order; they follow the words."""
WORDS: Final = 151643
TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def path_of(folder: Path, filename: str) -> Path:
    """Where the random file stands that takes the place of a declared one."""
    return folder / f"random-{RECIPE}-{filename}"


def nbytes(filename: str) -> int:
    """Size of the random file, bytes, without its metadata of some 5 MB."""
    return sum(tensor.nbytes for tensor in _KINDS[filename][0]())


def is_known(filename: str) -> bool:
    """Whether the shape of a declared file is known here."""
    return filename in _KINDS


def write(folder: Path, filename: str) -> Path:
    """Writes the file unless it is there; one that is not finished is never used."""
    target = path_of(folder, filename)
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    tensors, metadata = _KINDS[filename]
    writer = metadata(part)
    for tensor in tensors():
        # As float32 the writer takes the shape as it is: in weights, and not in bytes.
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, raw_dtype=tensor.format)
    with contextlib.closing(writer):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors():
            writer.write_tensor_data(blocks.content(tensor))
    part.replace(target)
    return target


def _model(path: Path) -> GGUFWriter:
    writer = GGUFWriter(path, "qwen2vl")
    writer.add_name("Random weights of Qwen2.5-VL-7B's shape")
    writer.add_file_type(LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_block_count(shapes.LAYERS)
    writer.add_context_length(128_000)
    writer.add_embedding_length(shapes.EMBEDDING)
    writer.add_feed_forward_length(shapes.FEED_FORWARD)
    writer.add_head_count(shapes.HEADS)
    writer.add_head_count_kv(shapes.KV_HEADS)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_dimension_sections([16, 24, 24, 0])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    tokens = vocabulary()
    writer.add_token_list(tokens)
    writer.add_token_types(_types(len(tokens)))
    writer.add_token_merges(["\u0120 t"])
    writer.add_bos_token_id(WORDS)
    writer.add_pad_token_id(WORDS)
    writer.add_eos_token_id(WORDS + SPECIAL.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    return writer


def _projector(path: Path) -> GGUFWriter:
    writer = GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name("Random projector of Qwen2.5-VL-7B's shape")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("qwen2.5vl_merger")
    writer.add_vision_use_silu(True)
    writer.add_vision_block_count(shapes.VISION_LAYERS)
    writer.add_vision_embedding_length(shapes.VISION_EMBEDDING)
    writer.add_vision_feed_forward_length(shapes.VISION_FEED_FORWARD)
    writer.add_vision_head_count(shapes.VISION_HEADS)
    writer.add_vision_projection_dim(shapes.EMBEDDING)
    writer.add_vision_patch_size(shapes.PATCH)
    writer.add_vision_image_size(560)
    writer.add_vision_n_wa_pattern(8)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_image_mean([0.48145466, 0.4578275, 0.40821073])
    writer.add_vision_image_std([0.26862954, 0.26130258, 0.27577711])
    return writer


_KINDS: Final[dict[str, tuple[Callable[[], Sequence[Tensor]], Callable[[Path], GGUFWriter]]]] = {
    shapes.MODEL: (lambda: tuple(shapes.model()), _model),
    shapes.PROJECTOR: (lambda: tuple(shapes.projector()), _projector),
}
"""Declared file name -> its tensors and the beginning of its file."""


def vocabulary() -> list[str]:
    """Every token: the 256 bytes as byte-level BPE spells them, fillers, Qwen's special ones, and what is unused."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    spelt = {byte: chr(byte) for byte in plain}
    for number, byte in enumerate(byte for byte in range(256) if byte not in spelt):
        spelt[byte] = chr(256 + number)
    tokens = [spelt[byte] for byte in range(256)]
    tokens += [f"[{number}]" for number in range(len(tokens), WORDS)]
    tokens += SPECIAL
    return tokens + [f"[unused {number}]" for number in range(len(tokens), shapes.VOCABULARY)]


def _types(count: int) -> list[TokenType]:
    rest = count - WORDS - len(SPECIAL)
    return [TokenType.NORMAL] * WORDS + [TokenType.CONTROL] * len(SPECIAL) + [TokenType.UNUSED] * rest
