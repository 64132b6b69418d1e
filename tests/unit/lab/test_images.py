"""Table 1 of the lab: what becomes of a declared command line of a model server."""

from itertools import pairwise
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.read import images

LLAMA_CPP = "ghcr.io/ggml-org/llama.cpp:server-b1"
VLLM = "docker.io/vllm/vllm-openai:v1"


def line_of(image: str, *args: str, scripted: bool = False) -> list[str]:
    return images.local_command(
        "vm/model", image, (), args, host="127.0.0.1", port=7, cache=Path("/cache"), scripted=scripted
    )


def test_llama_cpp_gets_every_word_but_the_replaced_ones() -> None:
    declared = (
        "--host",
        "0.0.0.0",
        "--port=9931",
        "--ctx-size",
        "512",
        "--threads",
        "8",
        "--jinja",
        "--seed",
        "-1",
        "-lv",
        "4",
    )
    line = line_of(LLAMA_CPP, *declared)
    assert line[2:8] == ["lab.programs.model_server", "/cache", "--host", "127.0.0.1", "--port", "7"]
    end = line.index("--threads")
    assert line[8:end] == ["--ctx-size", "512", "--jinja", "--seed", "-1", "-lv", "4"]
    added = [word for one in images.program_of(LLAMA_CPP).added for word in one.words]
    assert line[end:] == added, "and no word that the table doesn't print"


def test_no_scripted_model_is_told_what_it_does_not_understand() -> None:
    assert line_of(LLAMA_CPP, "--ubatch-size", "64", "--parallel", "2", scripted=True)[-2:] == ["--parallel", "2"]
    with pytest.raises(LabError, match="vm/model: no scripted model understands the argument --seed; leave out --fake"):
        line_of(LLAMA_CPP, "--seed", "1", scripted=True)


def test_vllm_s_limits_become_llama_cpp_s() -> None:
    line = line_of(VLLM, "some/model", "--max-model-len", "4096", "--max-num-seqs", "3", "--served-model-name", "a/b",
                   "--mm-processor-kwargs", '{"size":{"shortest_edge":6272,"longest_edge":589568}}')  # fmt: skip
    told = dict(pairwise(line))
    assert (told["--ctx-size"], told["--parallel"], told["--alias"]) == ("4096", "3", "a/b")
    assert ("--mmproj" in told, told["--image-max-tokens"]) == (True, "752")
    assert "--kv-unified" in line, "each request may have the whole context"
    text_only = line_of(VLLM, "some/embedder", "--runner", "pooling")
    assert "--mmproj" not in text_only
    assert {"--embeddings", "--pooling", "mean"} <= set(text_only)
