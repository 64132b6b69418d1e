"""What is read of the declaration, and how little of it is not as declared when vLLM runs here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from components.vllm import REASONING_PARSERS, TOOL_PARSERS
from lab.errors import LabError
from lab.read import plan
from lab.read.plan import Plan
from lab.read.stack import Stack
from tests.contract import declared, vllm

LANES = ["home", "burst", "vm"]
TINY, FOLDERS = Path("/here/tiny"), Path("/here/folders")


@pytest.fixture(scope="module")
def found(stack_of: Callable[..., Stack]) -> Plan:
    return plan.read(stack_of(lanes=LANES))


def test_the_promise_is_the_most_that_a_lane_takes(stack_of: Callable[..., Stack], found: Plan) -> None:
    promise = declared.promise(found)
    assert promise.model == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert (promise.context, promise.sequences, promise.pixels) == (16384, 2, 589_568)
    more = declared.promise(plan.read(stack_of(lanes=LANES, vm={"max_requests": 3})))
    assert more.sequences == 3


def test_both_lanes_with_vllm_are_found_and_no_other_service(stack_of: Callable[..., Stack]) -> None:
    services = [{"name": "vllm", "preset": "model"}, {"name": "embed", "preset": "embeddings"}]
    found = plan.read(stack_of(lanes=LANES, services=services))
    assert [pod.name for pod in found.pods] == ["vllm", "embed"]
    read = declared.with_vllm(found)
    assert [(one.lane, one.port, one.drain_s) for one in read] == [("burst", 8000, 9), ("home", 8000, 300)]
    with pytest.raises(LabError, match="0 pods serve"):
        declared.with_vllm(replace(found, pods=found.pods[1:]))


@pytest.mark.parametrize("lane", ["burst", "home"])
def test_only_what_is_printed_is_not_as_declared(found: Plan, lane: str) -> None:
    [one] = [one for one in declared.with_vllm(found) if one.lane == lane]
    here = vllm.here(one, TINY, FOLDERS)
    assert here.args == (str(TINY), *one.args[1:])
    told = "\n".join(here.changes)
    changed = {name for name in here.env if here.env[name] != one.env.get(name)} - {"HOME"}
    assert [name for name in changed if name not in told] == []
    assert one.env.keys() <= here.env.keys()
    assert len(here.changes) == 1 + len(changed) + ("HOME" in one.env)


def test_liveness_is_the_declared_command_by_the_image_s_own_python(found: Plan) -> None:
    [home] = [one for one in declared.with_vllm(found) if one.lane == "home"]
    assert home.liveness[:2] == ("python3", "-I")
    here = vllm.here(home, TINY, FOLDERS).liveness
    assert [(was, now) for was, now in zip(home.liveness, here, strict=True) if was != now] == [
        ("python3", str(vllm.BIN / "python3")),
        ("/tmp/liveness", str(FOLDERS / "tmp" / "liveness")),
    ]


def test_a_mounted_folder_is_one_of_this_machine(found: Plan) -> None:
    [home] = [one for one in declared.with_vllm(found) if one.lane == "home"]
    assert vllm.here(home, TINY, FOLDERS).env["HOME"] == "/here/folders/cache"


def test_a_parser_that_only_one_side_knows_is_told() -> None:
    known = {"tool": [*TOOL_PARSERS[1:], "brand_new"], "reasoning": list(REASONING_PARSERS)}
    assert vllm.parsers_differ(known) == [
        f"vLLM has no tool parser {TOOL_PARSERS[0]}, and the settings accept it",
        "vLLM's tool parser brand_new is refused by the settings",
    ]
