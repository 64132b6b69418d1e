"""Which model each lane has: the lab reads it from the declared arguments, and takes the pace of that one."""

import copy
import json
from collections.abc import Callable, Sequence

import pytest

from components.machines.speeds import MACHINES, scaled
from components.models.catalogue import PRESETS
from components.settings.presets import PRESETS as SERVICES
from lab.errors import LabError
from lab.greeting import truth
from lab.read import model, plan, tables
from lab.read.model import Served
from lab.read.stack import Stack
from tests.unit.own_model import own_model

Render = Callable[..., Stack]
ALL = ["home", "burst", "vm"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_lane_s_model_is_read_with_its_preset(stack_of: Render, preset: str) -> None:
    found = plan.read(stack_of(lanes=ALL, model={"preset": preset, "context_tokens": 8192})).models
    known = PRESETS[preset]
    assert list(found) == ALL
    assert {served.name for served in found.values()} == {known.name}
    assert {served.known for served in found.values()} == {known}
    assert {served.context_tokens for served in found.values()} == {8192}
    most = 589_824 // known.vision.side**2 if known.vision else 0
    assert {(served.most_picture_tokens, served.picture_tokens) for served in found.values()} == {(most, most)}
    [line] = model.lines(found)
    pictures = f"pictures of at most {most}" if most else "no pictures"
    assert line == f"home, burst, vm: {known.name} (preset {preset}): 8192 tokens of context, {pictures}"


def test_lanes_that_differ_have_a_line_each(stack_of: Render) -> None:
    stack = copy.deepcopy(stack_of(lanes=ALL))
    [burst] = [one for one in stack.resources if one.name == "burst-service"]
    words = burst.inputs["template"]["containers"][0]["args"]
    words[words.index("--served-model-name") + 1] = "other"
    assert [line.partition(":")[0] for line in model.lines(plan.read(stack).models)] == ["home, vm", "burst"]


def test_weights_at_another_commit_are_an_own_model(stack_of: Render) -> None:
    found = plan.read(stack_of(lanes=ALL, model={"revision": "0" * 40})).models
    assert [(lane, served.preset) for lane, served in found.items()] == [
        ("home", ""), ("burst", ""), ("vm", "qwen2.5-vl-7b"),
    ]  # fmt: skip
    assert found["home"].weights == f"Qwen/Qwen2.5-VL-7B-Instruct-AWQ@{'0' * 40}"


def test_the_machine_s_pace_is_that_of_its_model(stack_of: Render) -> None:
    row = next(row for row in MACHINES if row.name == "t2d-standard-8")
    for preset, known in PRESETS.items():
        found = plan.read(stack_of(lanes=["vm"], model={"preset": preset})).paces["vm/model"]
        assert found.speed == scaled(row.speed, known)
        assert ("with a picture" in found.told) == bool(known.vision)


def test_nobody_knows_the_pace_of_an_own_model_and_only_who_asks_is_told(stack_of: Render) -> None:
    found = plan.read(stack_of(lanes=ALL, model=own_model()))
    text = "\n".join(tables.paces(found))
    assert "vm/model: t2d-standard-8 (llama.cpp): nobody knows; main.gguf is an own model" in text
    assert "home/vllm: rtx-3090 (vllm): nobody knows; a/b@0123" in text
    assert truth(found, scripted=False) == ["`python -m lab plan` says how late the declared machines answer"]
    for title in found.paces:
        with pytest.raises(LabError, match=r"catalogue\.py has no model with the weights .*--answer-in"):
            found.paces[title].scaled(1.0)


def test_what_is_not_proven_of_a_model_is_told_lane_by_lane(stack_of: Render) -> None:
    found = plan.read(stack_of(lanes=ALL, model={"preset": "qwen3-4b"})).unproven
    told = {one.name: one.missing for one in found if one.name.endswith("/qwen3-4b")}
    assert set(told) == {f"{lane}/qwen3-4b" for lane in ALL}
    assert all("its weights, the quality of its answers" in missing for missing in told.values())


def test_another_service_s_model_is_not_the_lanes_(stack_of: Render) -> None:
    services = [{"name": "vllm", "preset": "model"}, {"name": "embed", "preset": "embeddings"}]
    found = plan.read(stack_of(lanes=["home"], services=services))
    assert list(found.models) == ["home"]
    assert found.paces["home/embed"].served.name == SERVICES["embeddings"].model


@pytest.mark.parametrize(
    ("reading", "args", "lacks"),
    [
        (model.of_llama_cpp, ["--alias", "a", "--ctx-size", "4096"], "--model"),
        (model.of_llama_cpp, ["--model", "/models/a.gguf", "--ctx-size", "4096"], "--alias"),
        (model.of_llama_cpp, ["--model", "/models/a.gguf", "--alias", "a"], "--ctx-size"),
        (model.of_vllm, ["a/b", "--served-model-name", "a", "--max-model-len", "4096"], "--revision"),
        (model.of_vllm, ["/weights/a/b/c", "--max-model-len", "4096"], "--served-model-name"),
        (model.of_vllm, ["/weights/a/b/c", "--served-model-name", "a"], "--max-model-len"),
    ],
)
def test_a_server_that_doesn_t_say_what_it_takes_is_refused(
    reading: Callable[[str, Sequence[str]], Served], args: list[str], lacks: str
) -> None:
    with pytest.raises(LabError, match=f"vm/model: the lab needs {lacks} to know which model"):
        reading("vm/model", args)


def test_pictures_without_a_projector_or_a_limit_are_none() -> None:
    llama = ["--model", "/models/a.gguf", "--alias", "a", "--ctx-size", "4096", "--image-max-tokens", "752"]
    assert model.of_llama_cpp("vm", llama).most_picture_tokens == 0
    assert model.of_llama_cpp("vm", [*llama, "--mmproj", "/models/b.gguf"]).most_picture_tokens == 752
    size = json.dumps({"size": {"shortest_edge": 8192, "longest_edge": 589_824}})
    base = ["/weights/a/b/c", "--served-model-name", "a", "--max-model-len", "4096", "--mm-processor-kwargs", size]
    assert model.of_vllm("burst", [*base, "--limit-mm-per-prompt", '{"image":0}']).most_picture_tokens == 0
    assert model.of_vllm("burst", [*base, "--limit-mm-per-prompt", '{"image":9}']).most_picture_tokens == 576
