"""Two stacks in one Google project and one tailnet: no name is taken twice, and what there is once has one owner."""

from collections.abc import Callable
from dataclasses import replace
from string import Template
from typing import Any, Final

import pytest

from lab.read.stack import Resource, Stack
from tests.engine.google import API, IDS
from tests.golden.rendered import rendered

Plant = Callable[[Stack, str, str, Any], Stack]
Check = Callable[[Stack, Stack], None]
UNNAMED: Final = (
    "gcp:monitoring/",
    "gcp:secretmanager/secretVersion:",
    "pilotlight:",
    "pulumi:index:Stash",
    "random:",
    "tailscale:index/federatedIdentity:",
    "tailscale:index/tailnetKey:",
)
"""Their ids come from the provider, so that two never are the same; a version's is its secret's with a number."""
ONCE: Final = ("tailscale:index/acl:Acl", "pulumi:providers:kubernetes", "kubernetes:")
"""What there is once: the tailnet's policy, and all that is deployed onto the one home."""


@pytest.fixture(scope="module")
def dev() -> Stack:
    return rendered("dev")


@pytest.fixture(scope="module")
def prod() -> Stack:
    return rendered("prod")


def cloud_name(resource: Resource) -> str | None:
    """What the cloud knows it by; None where the cloud itself makes that up."""
    if resource.type in IDS:
        return f"{resource.type} {Template(IDS[resource.type]).substitute(resource.inputs)}"
    assert resource.type.startswith((*UNNAMED, *ONCE)), f"{resource.type}: is its name its own? See tests/engine/google"
    return f"{resource.type} {resource.name}" if resource.type.startswith(ONCE) else None


def check_no_name_is_taken(one: Stack, other: Stack) -> None:
    names = [
        {name for resource in stack.resources if resource.type != API and (name := cloud_name(resource))}
        for stack in (one, other)
    ]
    assert names[0] & names[1] == set()
    assert len(names[1]) >= 15


def check_one_owner(one: Stack, other: Stack) -> None:
    for what in ONCE:
        owners = [stack.name for stack in (one, other) if any(r.type.startswith(what) for r in stack.resources)]
        assert owners == ["dev"], what


def check_machines_differ_in_the_tailnet(one: Stack, other: Stack) -> None:
    names = [
        {env["name"]: env["value"] for env in container["envs"] if "value" in env}["TS_HOSTNAME"]
        for stack in (one, other)
        for resource in stack.resources
        if resource.name == "gateway-service"
        for container in resource.inputs["template"]["containers"]
        if container["name"] == "tailscale"
    ]
    assert len(names) == len(set(names)) == 2, names


CHECKS: Final[list[Check]] = [check_no_name_is_taken, check_one_owner, check_machines_differ_in_the_tailnet]


@pytest.mark.parametrize("check", CHECKS)
def test_dev_and_prod_live_side_by_side(dev: Stack, prod: Stack, check: Check) -> None:
    check(dev, prod)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("gateway-service", "inputs.name", "pilotlight-dev-gateway"),
        ("gateway-console", "inputs.secretId", "pilotlight-dev-gateway-console"),
        ("vm-account", "inputs.accountId", "pilotlight-dev-vm"),
        ("network-vpc", "inputs.name", "pilotlight-dev"),
    ],
)
def test_a_name_that_is_taken_is_seen(
    dev: Stack, prod: Stack, planted: Plant, name: str, path: str, value: object
) -> None:
    with pytest.raises(AssertionError, match=str(value)):
        check_no_name_is_taken(dev, planted(prod, name, path, value))


def test_a_second_owner_is_seen(dev: Stack) -> None:
    with pytest.raises(AssertionError):
        check_one_owner(dev, replace(dev, name="prod"))


def test_prod_says_what_belongs_to_another_stack(prod: Stack) -> None:
    told = " ".join(prod.outputs["next_steps"])
    assert "Home is deployed by another stack" in told
    assert "The tailnet's policy belongs to another stack" in told
