"""What the lab does not prove: every resource is named once, in a group, and the short form is short."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from lab.read import home, unproven
from lab.read.stack import Stack
from lab.read.unproven import BY_KIND, BY_TYPE, CARRIED_OUT, Group, Unproven
from tests.golden.rendered import STACKS, rendered

LINES, COLUMNS = 10, 80


@pytest.fixture(scope="module")
def stacks() -> dict[str, Stack]:
    return {name: rendered(name) for name in STACKS}


def read(stack: Stack) -> list[Unproven]:
    return list(unproven.read(stack.resources))


@pytest.mark.parametrize("name", STACKS)
def test_every_resource_is_in_exactly_one_group(stacks: dict[str, Stack], name: str) -> None:
    stack = stacks[name]
    told = Counter(one.name for one in read(stack))
    for resource in stack.resources:
        if not resource.type.startswith("pilotlight:"):
            shown = f"{resource.name} ({resource.type.rsplit(':', 1)[-1]})"
            assert told[shown] == 1, f"{resource.type} {resource.name} is told {told[shown]} times"
    assert set(told.values()) == {1}


@pytest.mark.parametrize("name", STACKS)
def test_every_type_was_classified(stacks: dict[str, Stack], name: str) -> None:
    types = {resource.type for resource in stacks[name].resources if not resource.type.startswith("pilotlight:")}
    missing = sorted(types - set(BY_TYPE))
    assert not missing, f"say in lab/read/unproven.py what the lab can't prove of: {', '.join(missing)}"
    assert [one.name for one in read(stacks[name]) if one.group is Group.UNCLASSIFIED] == []


def test_no_row_is_left_of_a_type_that_nothing_registers(
    stacks: dict[str, Stack], stack_of: Callable[..., Stack]
) -> None:
    group = stack_of(lanes=["vm"], vm={"replicas": 2, "max_replicas": 3})
    registered = {resource.type for stack in (*stacks.values(), group) for resource in stack.resources}
    assert [one.name for one in read(group) if one.group is Group.UNCLASSIFIED] == []
    assert sorted(set(BY_TYPE) - registered) == []


def test_every_kind_the_lab_knows_is_carried_out_or_told() -> None:
    assert home.KINDS | {"IngressClass"} == CARRIED_OUT | set(BY_KIND)
    assert not CARRIED_OUT & set(BY_KIND)


@pytest.mark.parametrize("name", STACKS)
def test_summary_is_short_and_counts_everything(stacks: dict[str, Stack], name: str) -> None:
    found = read(stacks[name])
    lines = unproven.summary(found)
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS, max(lines, key=len)
    assert sum(int(line.split()[0]) for line in lines[1:-1]) == len(found)
    assert lines[-1] == "the full list: `python -m lab plan`"


def test_summary_of_the_default_stack(stacks: dict[str, Stack]) -> None:
    lines = unproven.summary(read(stacks["dev"]))
    assert "  13 packets (firewall, NAT, tailnet policy, NetworkPolicy), e.g. vm-firewall" in lines
    assert any(line.endswith("Google's own services and IAM, e.g. gateway-service") for line in lines)


def test_full_list_has_every_entry_under_its_group(stacks: dict[str, Stack]) -> None:
    found = read(stacks["services"])
    sections = "\n".join(unproven.full(found)).split("\n\n")[1:]
    told = {title.partition(" ")[2]: lines for title, *lines in map(str.splitlines, sections)}
    for group in {one.group for one in found}:
        assert told[group] == [f"   {one.name}: {one.missing}" for one in found if one.group is group]
    assert any(line.startswith("   home/tts (") and ": not run, " in line for line in told[Group.GPU])


def test_a_type_that_nobody_classified_is_not_taken_for_another(stacks: dict[str, Stack]) -> None:
    stack = copy.deepcopy(stacks["dev"])
    like = next(resource for resource in stack.resources if resource.name == "home-namespace")
    stack.resources.append(replace(like, type="aws:s3/bucket:Bucket", name="surprise"))
    found = read(stack)
    assert [one.name for one in found if one.group is Group.UNCLASSIFIED] == ["surprise (Bucket)"]
    assert "   1 types that nobody has classified yet, e.g. surprise" in unproven.summary(found)


def test_the_gpu_service_of_burst_is_no_second_gateway(stacks: dict[str, Stack]) -> None:
    groups = {one.name: one.group for one in read(stacks["burst"])}
    assert groups["gateway-service (Service)"] is Group.GOOGLE
    assert groups["burst-service (Service)"] is Group.GPU


def test_the_instances_that_no_lab_runs_are_told(stacks: dict[str, Stack], stack_of: Callable[..., Stack]) -> None:
    one, two = ({row.name: row.missing for row in read(stack)} for stack in (
        stacks["dev"], stack_of(gateway={"max_instances": 2}),
    ))  # fmt: skip
    told = ", any but the first of up to 2 instances: the lab runs one, with its share of every lane"
    assert two["gateway-service (Service)"] == one["gateway-service (Service)"] + told


def test_a_downloaded_chart_is_told_from_our_own(stacks: dict[str, Stack]) -> None:
    told = {one.name: one.missing for one in read(stacks["dev"])}
    assert told["home-device-plugin (Release)"] == "chart nvidia-device-plugin is downloaded, and needs a GPU node"
    assert told["home-vllm (Release)"].startswith("the image itself")
