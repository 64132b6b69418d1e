"""The random weights: the model's shape, formats that llama.cpp reads, values that stay small, a file that is whole."""

from math import prod
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Format

from bench.vm import blocks, shapes, weights
from bench.vm.shapes import Tensor

QWEN_TEXT = 7_615_616_512
QWEN_VISION = 676_550_144
"""Parameters of Qwen/Qwen2.5-VL-7B-Instruct, 8,292,166,656 in all, as published."""
PUBLISHED_GB = {shapes.MODEL: 4.68, shapes.PROJECTOR: 0.853}
"""Sizes of the declared files, as their repository lists them."""


def test_it_has_as_many_weights_as_the_model() -> None:
    assert sum(prod(tensor.shape) for tensor in shapes.model()) == QWEN_TEXT
    assert sum(prod(tensor.shape) for tensor in shapes.projector()) == QWEN_VISION


@pytest.mark.parametrize("filename", [shapes.MODEL, shapes.PROJECTOR])
def test_a_file_is_as_large_as_the_declared_one(filename: str) -> None:
    assert weights.nbytes(filename) / 1e9 == pytest.approx(PUBLISHED_GB[filename], rel=0.01)


def test_no_tensor_comes_twice() -> None:
    for tensors in (list(shapes.model()), list(shapes.projector())):
        assert len({tensor.name for tensor in tensors}) == len(tensors)


@pytest.mark.parametrize("kind", [Format.Q4_K, Format.Q6_K, Format.F16, Format.Q8_0], ids=lambda kind: kind.name)
def test_contents_hand_on_activations_at_their_size(kind: Format) -> None:
    tensor = Tensor("w.weight", (64, 2048), kind)
    stored = blocks.content(tensor)
    assert stored.nbytes == tensor.nbytes
    values = gguf.dequantize(stored.view(np.float16 if kind == Format.F16 else np.uint8), kind).astype(np.float64)
    assert values.shape == tensor.shape
    out = values @ np.random.default_rng(2).standard_normal(2048)
    assert 0.7 < out.std() < 1.4
    assert len(np.unique(out)) == 64, "no two rows are the same"


def test_norms_change_nothing_and_biases_add_nothing() -> None:
    assert blocks.content(Tensor("n.weight", (8,), Format.F32)).tolist() == [1] * 8
    assert blocks.content(Tensor("n.bias", (8,), Format.F32)).tolist() == [0] * 8


def test_the_vocabulary_is_whole() -> None:
    tokens = weights.vocabulary()
    assert len(tokens) == len(set(tokens)) == shapes.VOCABULARY
    assert set("abcxyz") <= set(tokens[:256])
    assert [len(token) for token in tokens[:257]] == [1] * 256 + [len("[256]")], "each byte is a token"
    assert tokens[weights.WORDS : weights.WORDS + 3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


SMALL = [Tensor("a.weight", (4, 256), Format.Q4_K), Tensor("a.bias", (4,), Format.F32)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "model", lambda: iter(SMALL))


@pytest.mark.usefixtures("small")
def test_a_file_is_what_a_reader_of_the_format_expects(tmp_path: Path) -> None:
    written = weights.write(tmp_path / "new", shapes.MODEL)
    reader = gguf.GGUFReader(written)
    assert [(t.name, tuple(int(n) for n in reversed(t.shape)), t.tensor_type) for t in reader.tensors] == [
        (tensor.name, tensor.shape, tensor.format) for tensor in SMALL
    ]
    assert np.array_equal(reader.tensors[0].data.reshape(-1), blocks.content(SMALL[0]).reshape(-1))
    architecture = reader.get_field("general.architecture")
    assert architecture
    assert architecture.contents() == "qwen2vl"
    layers = reader.get_field("qwen2vl.block_count")
    assert layers
    assert layers.contents() == 28


@pytest.mark.usefixtures("small")
def test_a_file_is_written_once(tmp_path: Path) -> None:
    written = weights.write(tmp_path, shapes.MODEL)
    written.write_text("kept")
    assert weights.write(tmp_path, shapes.MODEL).read_text() == "kept"


@pytest.mark.usefixtures("small")
def test_a_file_that_is_not_finished_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Tensor) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(blocks, "content", full)
    with pytest.raises(OSError, match="No space left"):
        weights.write(tmp_path, shapes.MODEL)
    assert not weights.path_of(tmp_path, shapes.MODEL).exists()
