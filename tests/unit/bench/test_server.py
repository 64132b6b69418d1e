"""The declared command line: what of it llama.cpp gets, what is replaced, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.vm import __main__ as bench
from bench.vm import server, shapes, weights
from lab.read.stack import Stack

Render = Callable[..., Stack]


def test_llama_cpp_gets_all_that_the_default_stack_declares(stack_of: Render, tmp_path: Path) -> None:
    declared = bench.read(stack_of())
    assert declared.machine_type == "t2d-standard-8"
    assert server.split(declared.arguments)["--model"] == f"/models/{shapes.MODEL}"
    given = bench.translated(declared.arguments, tmp_path)
    found = server.parameters(given, 1)
    assert found.model.path == str(weights.path_of(tmp_path, shapes.MODEL))
    assert found.mmproj.path == str(weights.path_of(tmp_path, shapes.PROJECTOR))
    assert found.model_alias == {"Qwen/Qwen2.5-VL-7B-Instruct"}
    assert (found.n_ctx, found.n_parallel, found.endpoint_metrics) == (2 * 16384, 2, True)
    assert (found.n_batch, found.n_ubatch, found.cache_ram_mib, found.image_max_tokens) == (64, 64, 8192, 752)
    assert (found.cpuparams.n_threads, found.cpuparams_batch.n_threads) == (1, 1)


def test_what_is_declared_is_what_is_given(stack_of: Render, tmp_path: Path) -> None:
    declared = bench.read(
        stack_of(model={"context_tokens": 2048}, vm={"max_requests": 4, "machine_type": "e2-highmem-4"})
    )
    assert declared.machine_type == "e2-highmem-4"
    found = server.parameters(bench.translated(declared.arguments, tmp_path), 2)
    assert (found.n_ctx, found.n_parallel) == (8192, 4)


def test_what_is_not_declared_stays_as_llama_cpp_has_it() -> None:
    plain, found = server.parameters([], 2), server.parameters(["--metrics"], 2)
    fields = [name for name in dir(plain) if not name.startswith("_") and name != "endpoint_metrics"]
    simple = [name for name in fields if isinstance(getattr(plain, name), int | float | str)]
    assert len(simple) > 100
    assert [getattr(found, name) for name in simple] == [getattr(plain, name) for name in simple]
    assert (plain.n_batch, plain.n_ubatch, plain.cache_ram_mib) == (2048, 512, 8192)


def test_a_command_line_is_read_word_by_word() -> None:
    declared = ["--model", "/models/a.gguf", "--no-webui", "--batch-size=64", "--alias", "a=b"]
    found = {"--model": "/models/a.gguf", "--no-webui": "", "--batch-size": "64", "--alias": "a=b"}
    assert server.split(declared) == found


def test_an_argument_that_llama_cpp_lacks_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        server.parameters(["--model", "/models/a.gguf", "--new-argument"], 1)
    assert "invalid argument: --new-argument" in capfd.readouterr().err


def test_a_value_without_a_name_is_refused() -> None:
    with pytest.raises(BenchError, match="'16384' stands where"):
        server.split(["16384"])


@pytest.mark.parametrize(("setting", "argument"), [("gguf", "--model"), ("projector", "--mmproj")])
def test_weights_of_another_shape_are_refused(stack_of: Render, tmp_path: Path, setting: str, argument: str) -> None:
    other = {"url": "https://huggingface.co/a/b/resolve/main/other.gguf", "sha256": "a" * 64, "bytes": 9}
    declared = bench.read(stack_of(model={setting: other}))
    assert argument in declared.arguments
    with pytest.raises(BenchError, match=rf"model\.{setting}: the shape of other\.gguf .* figures .* add the shape in"):
        bench.translated(declared.arguments, tmp_path)


@pytest.mark.parametrize("vm", [{"spot": False}, {"replicas": 2}], ids=json.dumps)
def test_one_machine_and_a_group_of_them_are_read_alike(stack_of: Render, vm: dict[str, object]) -> None:
    assert "--batch-size" in bench.read(stack_of(vm=vm)).arguments


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lanes": ["home"]}, r"declares 0 kinds of VM, .* nothing was started\. Name a stack with `vm`"),
        ({"vm": {"gpu": "t4"}}, r"a VM with a card, .* nothing was started\. Name a stack without `vm\.gpu`"),
        ({"vm": {"gpu": "l4", "spot": True}}, "a VM with a card"),
    ],
    ids=str,
)
def test_a_stack_whose_vm_can_not_be_measured_is_refused(
    stack_of: Render, change: dict[str, object], told: str
) -> None:
    with pytest.raises(BenchError, match=told):
        bench.read(stack_of(**change))
