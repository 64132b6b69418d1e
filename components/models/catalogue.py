"""The models that are one line of settings, with all that the engines need of each.

Owns: names, files, sums, parsers and shapes, and where each comes from. Does not own: how an own model is declared
(`settings.model`), which parsers vLLM knows (`vllm`).

None of them ran on a GPU here. Repositories are those of huggingface.co; sums, sizes and commits are those that several
independent public projects pin, unless it says otherwise, and shapes are those of the published config.json. `hermes`
is the parser of what Qwen's templates ask a model to write for a tool call (vLLM, docs/features/tool_calling.md, and
tool_parsers/hermes_tool_parser.py at 0.29.0). None of these models thinks aloud, so none has a parser for it.
"""

from collections.abc import Mapping
from typing import Final

from components.models.contract import CONTEXT_TOKENS, IMAGE_MAX_PIXELS, Contract, most_images
from components.models.shape import File, Model, Shape, Vision
from components.models.templates import QWEN_TOOLS

_APACHE: Final = "Apache-2.0"
DEFAULT: Final = "qwen2.5-vl-7b"


def _file(repository: str, revision: str, name: str, sha256: str, size: int) -> File:
    return File(f"https://huggingface.co/{repository}/resolve/{revision}/{name}", sha256, size)


PRESETS: Final[Mapping[str, Model]] = {
    DEFAULT: Model(
        name="Qwen/Qwen2.5-VL-7B-Instruct",
        weights="Qwen/Qwen2.5-VL-7B-Instruct-AWQ",
        revision="536a35794df8831aa814970ee8f89eff577e7718",
        # Two files; the table of one public project.
        weights_bytes=6_923_972_384,
        gguf=_file(
            "bartowski/Qwen_Qwen2.5-VL-7B-Instruct-GGUF",
            "main",
            "Qwen_Qwen2.5-VL-7B-Instruct-Q4_K_M.gguf",
            "3f4513330aa7f109922bd701d773575484ae2b4a4090d6511260a2a4f8e3d069",
            4_683_072_320,
        ),
        # 8 bits encode a picture in 0.62 of the time of bf16 (measured), and take half the memory.
        projector=_file(
            "ggml-org/Qwen2.5-VL-7B-Instruct-GGUF",
            "508edd0afaa66bb9e9f40587acc2184f02daf1f6",
            "mmproj-Qwen2.5-VL-7B-Instruct-Q8_0.gguf",
            "2ddb555391bae966e412deab9e07b58afa18bcc06930ba0f1c78a3695ab9e506",
            853_119_712,
        ),
        tool_parser="hermes",
        reasoning_parser="",
        vision=Vision(side=28),
        shape=Shape(
            layers=28,
            kv_heads=4,
            head_size=128,
            parameters=7_615_616_512,
            vision_parameters=676_550_144,
            context_tokens=128_000,
        ),
        chat_template=QWEN_TOOLS,
        licence=_APACHE,
    ),
    "qwen2.5-vl-3b": Model(
        name="Qwen/Qwen2.5-VL-3B-Instruct",
        weights="Qwen/Qwen2.5-VL-3B-Instruct-AWQ",
        revision="e7b623934290c5a4da0ee3c6e1e57bfb6b5abbf2",
        # Not found: the upper end of what the parameters give by the 7B's bytes (3.4 to 4.0 GB).
        weights_bytes=4_000_000_000,
        gguf=_file(
            "ggml-org/Qwen2.5-VL-3B-Instruct-GGUF",
            "5037fcf163dd95d1e41d1974465f0898ed108ca2",
            "Qwen2.5-VL-3B-Instruct-Q4_K_M.gguf",
            "d02fe9b69ad8cadbbd228e387667af66612c44bed29ffc8eb1e7caf9ac486c12",
            1_929_901_056,
        ),
        projector=_file(
            "ggml-org/Qwen2.5-VL-3B-Instruct-GGUF",
            "5037fcf163dd95d1e41d1974465f0898ed108ca2",
            "mmproj-Qwen2.5-VL-3B-Instruct-Q8_0.gguf",
            "980c9b2f78c04e6cff93d277ada09e768394f112d75db3b4e9dea8a69f9fb904",
            844_757_728,
        ),
        tool_parser="hermes",
        reasoning_parser="",
        vision=Vision(side=28),
        # Parameters: of the whole 3,754,622,976, less the 7B's tower with a merger of its own width.
        shape=Shape(
            layers=36,
            kv_heads=2,
            head_size=128,
            parameters=3_085_938_688,
            vision_parameters=668_684_288,
            context_tokens=128_000,
        ),
        chat_template=QWEN_TOOLS,
        # Discussions 12 of its repository and 31 of the 7B's; converters say "Apache-2.0" of it, wrongly.
        licence="Qwen Research License, not for commercial use",
    ),
    "qwen3-vl-4b": Model(
        name="Qwen/Qwen3-VL-4B-Instruct",
        # 8 bits: Ampere and Turing compute them with 16 (vLLM's Marlin kernel), an L4 as they are.
        weights="Qwen/Qwen3-VL-4B-Instruct-FP8",
        revision="fefbb44cbcce8d1bb7e20b920b94f77432b3446d",
        weights_bytes=6_021_235_456,
        # Pinned: one project has another sum for this name at another commit.
        gguf=_file(
            "Qwen/Qwen3-VL-4B-Instruct-GGUF",
            "1cd86afb9a95c410a6038ab3b40d8b578c892266",
            "Qwen3VL-4B-Instruct-Q4_K_M.gguf",
            "66358cb18bb6b3b1b6675aa412c7a88ef01d228f481184d13668e5201c730a0a",
            2_497_281_664,
        ),
        projector=_file(
            "Qwen/Qwen3-VL-4B-Instruct-GGUF",
            "1cd86afb9a95c410a6038ab3b40d8b578c892266",
            "mmproj-Qwen3VL-4B-Instruct-Q8_0.gguf",
            "30ba2c7dd3127a4561b6cba9d13d0f711c91bdb38742e2f56d73c8cb596bd06d",
            453_974_304,
        ),
        tool_parser="hermes",
        reasoning_parser="",
        vision=Vision(side=32),
        # Parameters: of the whole 4,437,815,808, less those of the text-only model of the same shape.
        shape=Shape(
            layers=36,
            kv_heads=8,
            head_size=128,
            parameters=4_022_468_096,
            vision_parameters=415_347_712,
            context_tokens=262_144,
        ),
        licence=_APACHE,
    ),
    "qwen3-4b": Model(
        name="Qwen/Qwen3-4B-Instruct-2507",
        weights="Qwen/Qwen3-4B-Instruct-2507-FP8",
        revision="8591804019c8b22094c3b5b4454e0edc05dffc98",
        weights_bytes=5_190_053_264,
        gguf=_file(
            "unsloth/Qwen3-4B-Instruct-2507-GGUF",
            "a06e946bb6b655725eafa393f4a9745d460374c9",
            "Qwen3-4B-Instruct-2507-Q4_K_M.gguf",
            "3605803b982cb64aead44f6c1b2ae36e3acdb41d8e46c8a94c6533bc4c67e597",
            2_497_281_120,
        ),
        projector=None,
        tool_parser="hermes",
        reasoning_parser="",
        vision=None,
        shape=Shape(
            layers=36,
            kv_heads=8,
            head_size=128,
            parameters=4_022_468_096,
            vision_parameters=0,
            context_tokens=262_144,
        ),
        licence=_APACHE,
    ),
}

STANDARD: Final = Contract(PRESETS[DEFAULT], CONTEXT_TOKENS, IMAGE_MAX_PIXELS, most_images(CONTEXT_TOKENS), None)
"""The default model with the default limits: of it all tables speak."""
