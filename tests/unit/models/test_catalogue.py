"""The presets: each is whole, pinned and shaped as its files are; and what a contract makes of pictures."""

import re
from dataclasses import replace

import pytest

from components import vllm
from components.models.catalogue import DEFAULT, PRESETS, STANDARD
from components.models.shape import File, Model, Vision
from components.settings.model import GgufSettings
from components.settings.stack import Settings


@pytest.mark.parametrize("model", PRESETS.values(), ids=PRESETS)
def test_a_preset_has_what_every_engine_needs(model: Model) -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", model.revision)
    assert model.gguf
    for file in [model.gguf, *([model.projector] if model.projector else [])]:
        GgufSettings(url=file.url, sha256=file.sha256, bytes=file.bytes)
    assert model.tool_parser in vllm.TOOL_PARSERS
    assert model.reasoning_parser in ("", *vllm.REASONING_PARSERS)
    assert model.licence
    assert bool(model.vision) == bool(model.projector) == bool(model.shape.vision_parameters)


@pytest.mark.parametrize("model", PRESETS.values(), ids=PRESETS)
def test_a_file_is_as_large_as_its_parameters_make_it(model: Model) -> None:
    """Q4_K_M takes 4.9 bits of a parameter, Q8_0 8.5; 8 bits and AWQ lie between, for parts keep 16."""
    assert model.gguf
    assert model.gguf.bytes * 8 / model.shape.parameters == pytest.approx(4.95, abs=0.1)
    if model.projector:
        assert model.projector.bytes * 8 / model.shape.vision_parameters == pytest.approx(9.5, abs=0.9)
    rate = model.weights_bytes * 8 / (model.shape.parameters + model.shape.vision_parameters)
    assert 6 < rate < 11


def test_no_two_presets_share_a_file_or_a_name() -> None:
    """The lab knows a preset by its files."""
    for values in (
        [model.name for model in PRESETS.values()],
        [model.weights for model in PRESETS.values()],
        [model.gguf and model.gguf.filename for model in PRESETS.values()],
        [model.projector.filename for model in PRESETS.values() if model.projector],
    ):
        assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    ("preset", "cache"),
    [("qwen2.5-vl-7b", 57_344), ("qwen2.5-vl-3b", 36_864), ("qwen3-vl-4b", 147_456), ("qwen3-4b", 147_456)],
)
def test_a_token_takes_its_keys_and_values(preset: str, cache: int) -> None:
    assert PRESETS[preset].shape.cache_bytes == cache


@pytest.mark.parametrize(
    ("side", "pixels", "most", "usual", "edges"),
    [
        (28, 589_824, 752, 752, (6_272, 589_568)),
        (32, 589_824, 576, 576, (8_192, 589_824)),
        # More than the picture that tables speak of: it stays as it is.
        (28, 2_000_000, 2551, 1003, (6_272, 1_999_984)),
        (None, 589_824, 0, 0, (0, 0)),
    ],
)
def test_a_picture_is_counted_in_whole_tokens(
    side: int | None, pixels: int, most: int, usual: int, edges: tuple[int, int]
) -> None:
    model = replace(STANDARD.model, vision=Vision(side) if side else None)
    found = replace(STANDARD, model=model, image_max_pixels=pixels)
    assert (found.most_picture_tokens, found.picture_tokens, found.pixels) == (most, usual, edges)


def test_the_tables_speak_of_what_a_stack_has_by_default() -> None:
    settings = Settings(stack="dev", project="project", region="us-east1")
    assert settings.model.preset == DEFAULT
    assert replace(settings.contract, choices=None) == STANDARD


def test_a_file_s_name_is_the_last_part_of_its_address() -> None:
    assert File("https://a.example/b/c%20d.gguf", "", 1).filename == "c%20d.gguf"
