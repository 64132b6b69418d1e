"""The settings of the model that every lane serves, and of what every lane takes of one request.

Owns: the values, each for itself, and how they stand over a preset's. Does not own: the presets (`models.catalogue`),
the rules between the values (`model_rules`), the engines' arguments (`vllm`, `vm.server`).
"""

import difflib
from dataclasses import replace
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from components.machines.requests import ANSWER_TOKENS, TEXT_TOKENS
from components.models.catalogue import DEFAULT, PRESETS
from components.models.contract import CONTEXT_TOKENS, IMAGE_MAX_PIXELS, Contract
from components.models.shape import File, Model, Shape, Vision
from components.settings.section import MODEL_NAME, REPOSITORY, Refusal, Section

CONTEXT_STEP: Final = 256
"""llama.cpp rounds a slot's context up to a multiple of it, tokens; vLLM takes any number."""
_GGUF: Final = r"^https://[A-Za-z0-9.-]+(:[0-9]+)?/([A-Za-z0-9._~%+@=-]+/)*[A-Za-z0-9][A-Za-z0-9._-]*\.gguf$"


def least_context(contract: Contract) -> int:
    """Context that holds one picture of the largest size, with a question and an answer, tokens."""
    wanted = contract.most_picture_tokens + TEXT_TOKENS + ANSWER_TOKENS
    return -(-wanted // CONTEXT_STEP) * CONTEXT_STEP


def nearest(value: str, known: tuple[str, ...]) -> str:
    """The start of a fix: the name that was probably meant; empty if none is near."""
    near = difflib.get_close_matches(value, known, n=1, cutoff=0.4)
    return f"did you mean `{near[0]}`? " if near else ""


def _known_preset(value: str) -> str:
    if value in PRESETS:
        return value
    raise Refusal(
        f"one of {', '.join(PRESETS)}; {value!r} is none",
        "nothing says which weights the lanes serve",
        nearest(value, tuple(PRESETS)) + "Or set `preset` to null and declare the model (docs/model.md)",
    )


class GgufSettings(Section):
    """One file of llama.cpp's."""

    url: str = Field(
        pattern=_GGUF, description="Address of the GGUF file, which is fetched once: https, without password and query."
    )
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="The file's SHA-256; a file that differs is never served."
    )
    bytes: int = Field(gt=0, description="The file's size, bytes: memory and speed are reckoned with it.")


class ShapeSettings(Section):
    """What a model's memory and speed follow from; the `config.json` of its repository has most of it."""

    layers: int = Field(gt=0, le=1000, description="Layers that keep keys and values (`num_hidden_layers`).")
    kv_heads: int = Field(gt=0, le=1000, description="Heads of keys and values (`num_key_value_heads`).")
    head_size: int = Field(gt=0, le=10_000, description="Values of a head (`head_dim`).")
    parameters: int = Field(gt=0, description="Parameters of the language model.")
    vision_parameters: int = Field(default=0, ge=0, description="Parameters of the vision tower; 0: there is none.")
    context_tokens: int = Field(gt=0, description="Largest context, tokens (`max_position_embeddings`).")


class ModelSettings(Section):
    """The model that every lane serves under one name. What is left out is the preset's."""

    preset: Annotated[str, AfterValidator(_known_preset)] | None = Field(
        default=DEFAULT,
        description=f"The model, for every lane: {', '.join(f'`{name}`' for name in PRESETS)} (docs/model.md). null: "
        + "an own one, declared by the keys below.",
    )
    name: str | None = Field(
        default=None,
        pattern=MODEL_NAME,
        max_length=128,
        description="The name that clients send as `model`. Left out: the preset's.",
    )
    aliases: tuple[Annotated[str, Field(pattern=MODEL_NAME, max_length=128)], ...] = Field(
        default=(),
        description="Further names that `/v1/models` shows, for clients that insist on one, like `gpt-4o`. Every lane "
        + "answers to any name, and as `model.name`.",
    )
    context_tokens: int = Field(
        default=CONTEXT_TOKENS,
        ge=1024,
        le=1_048_576,
        multiple_of=CONTEXT_STEP,
        description="Context of one request on every lane, tokens, its answer included; a multiple of 256.",
    )
    images_per_prompt: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Maximum of pictures in one request, without `vm` in `lanes` only. Left out: the context is the "
        + "limit.",
    )
    image_max_pixels: int = Field(
        default=IMAGE_MAX_PIXELS,
        ge=65_536,
        le=16_777_216,
        description="Largest picture, pixels; every lane scales a larger one down to it (768 x 768 are 752 tokens of "
        + "the default model).",
    )
    weights: str | None = Field(
        default=None,
        pattern=REPOSITORY,
        description="vLLM's weights, at home and on burst: a public repository on Hugging Face.",
    )
    revision: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{40}$",
        description="Commit of that repository; on burst each file is checked against the sum that it has there.",
    )
    weights_bytes: int | None = Field(
        default=None, gt=0, description="Size of those weight files together, bytes: a card must hold them."
    )
    gguf: GgufSettings | None = Field(default=None, description="llama.cpp's weights, for the VM.")
    projector: GgufSettings | None = Field(
        default=None, description="llama.cpp's image projector (`--mmproj`), for a model with vision."
    )
    tool_parser: str | None = Field(
        default=None,
        max_length=64,
        description="vLLM's parser of tool calls (`--tool-call-parser`); llama.cpp finds its own in the template.",
    )
    reasoning_parser: str | None = Field(
        default=None, max_length=64, description="vLLM's parser of reasoning (`--reasoning-parser`). Empty: none."
    )
    chat_template: str | None = Field(
        default=None,
        pattern=r"^[^\n']*$",
        description="Chat template of both engines, Jinja in one line without single quotes. Empty: the one in the "
        + "weights. Left out: the preset's.",
    )
    vision: bool | None = Field(
        default=None, description="Whether requests may hold pictures. Left out: as the preset; an own model: no."
    )
    picture_side: Literal[28, 32] | None = Field(
        default=None,
        description="Side of the square of a picture that is one token, pixels: 28 in Qwen2.5-VL, 32 in Qwen3-VL.",
    )
    shape: ShapeSettings | None = Field(default=None, description="Shape of an own model.")

    @property
    def resolved(self) -> Model:
        """The preset with the settings over it; what neither says is empty, and the rules refuse it."""
        base = PRESETS[self.preset] if self.preset else replace(_UNSAID, name=self.weights or "")
        side = self.picture_side or (base.vision.side if base.vision else None)
        sees = base.vision is not None if self.vision is None else self.vision
        return Model(
            name=self.name or base.name,
            weights=self.weights or base.weights,
            # Another repository's files have another commit and another size.
            revision=self.revision or ("" if self.weights else base.revision),
            weights_bytes=self.weights_bytes or (0 if self.weights else base.weights_bytes),
            gguf=_file(self.gguf) or base.gguf,
            projector=(_file(self.projector) or base.projector) if sees else None,
            tool_parser=base.tool_parser if self.tool_parser is None else self.tool_parser,
            reasoning_parser=base.reasoning_parser if self.reasoning_parser is None else self.reasoning_parser,
            vision=Vision(side) if sees and side else None,
            shape=Shape(**self.shape.model_dump()) if self.shape else base.shape,
            chat_template=base.chat_template if self.chat_template is None else self.chat_template,
            licence=base.licence,
        )


_UNSAID: Final = replace(
    PRESETS[DEFAULT],
    weights="",
    revision="",
    weights_bytes=0,
    gguf=None,
    projector=None,
    tool_parser="",
    vision=None,
    chat_template="",
    licence="",
)
"""An own model of which nothing is said yet. Its shape is the default's, so that every rule can be looked at."""


def _file(given: GgufSettings | None) -> File | None:
    return File(**given.model_dump()) if given else None
