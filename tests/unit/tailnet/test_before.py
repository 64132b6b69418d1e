"""The policy that stood before is kept, and what a new one takes from it is named."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from components.settings import Settings
from components.tailnet import before, mark
from components.tailnet.policy import policy
from lab.read import cloud
from lab.read.cloud import UNTOUCHED
from lab.read.stack import Resource, Stack, render
from tests.unit.conftest import CLOUD

Make = Callable[..., Settings]
Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
ALL = '{"action": "accept", "src": ["*"], "dst": ["*:*"]}'


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        (UNTOUCHED, []),
        (f'{{"ACLs": [{ALL}]}}', []),
        (f'{{"acls": [{ALL}], "tagOwners": {{"tag:nas": []}}}}', [f"acls[0] {ALL}", "tagOwners.tag:nas"]),
        ('{"grants": [{"src": ["bob@x.org"], "dst": ["tag:home"], "ip": ["22"]}]}', []),
        ('{"groups": {"group:ops": ["bob@x.org"]}, // ours\n}', ["groups.group:ops"]),
        ('{"ssh": [{"action": "accept"}]}', ['ssh[0] {"action": "accept"}']),
        ('{"nodeAttrs": [{"attr": ["mullvad"]}]}', ['nodeAttrs[0] {"attr": ["mullvad"]}']),
        ('{"randomizeClientPort": true, "tests": []}', ["randomizeClientPort"]),
        ('{"hosts": {"nas": "100.64.0.9"}}', ["hosts.nas"]),
    ],
)  # fmt: skip
def test_what_goes_away_is_named(settings_of: Make, text: str, lost: list[str]) -> None:
    declared = policy(settings_of())
    assert list(before.losses(text, declared)) == lost
    warned = before.warnings(text, declared, "me/dev")
    assert bool(warned) == bool(lost)
    assert all(entry in warned[0] for entry in lost)


def test_this_stack_s_own_policy_loses_nothing_to_another_of_its_settings(settings_of: Make) -> None:
    first = policy(settings_of(tailnet={"owners": ["ann@example.com"]}))
    now = policy(settings_of(tailnet={"owners": ["bob@example.com"], "ci_repository": "me/pilotlight"}))
    assert not list(before.losses(json.dumps(first), now))


OWN = "lab-project/pilotlight-dev"


@pytest.mark.parametrize(
    ("text", "overwritten", "stood"),
    [
        (UNTOUCHED, False, UNTOUCHED),
        (mark.marked("{}", OWN, UNTOUCHED), True, UNTOUCHED),
        (mark.marked("{}", OWN, UNTOUCHED) + "// edited", False, None),
        (mark.marked("{}", "lab-project/pilotlight-prod", UNTOUCHED), False, UNTOUCHED),
        (mark.marked("{}", "another/pilotlight-dev", UNTOUCHED), False, UNTOUCHED),
    ],
    ids=["untouched", "own", "own, edited", "another stack's", "another project's"],
)
def test_only_an_own_policy_is_overwritten_unasked(
    monkeypatch: pytest.MonkeyPatch, text: str, overwritten: bool, stood: str | None
) -> None:
    monkeypatch.setattr(cloud, "UNTOUCHED", text)
    stack = render("dev", CLOUD.config(), CLOUD.compute)
    assert named(stack, "tailnet-policy").inputs["overwriteExistingContent"] is overwritten
    assert named(stack, "tailnet-policy").options["ignoreChanges"] == ["overwriteExistingContent"]
    assert stack.outputs["policy_before"] == (text if stood is None else stood)
    written = mark.read(named(stack, "tailnet-policy").inputs["acl"])
    assert written == mark.Marked(OWN, intact=True, before=stack.outputs["policy_before"].rstrip("\n") + "\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (UNTOUCHED, []),
        (mark.marked("{}", OWN, UNTOUCHED), []),
        (mark.marked("{}", OWN, UNTOUCHED) + "// edited", ["was edited since"]),
        (
            mark.marked('{"hosts": {}}', OWN, UNTOUCHED).replace("{}", '{"nas": "100.64.0.9"}'),
            ["was edited since", "lose 1 entries"],
        ),
        (mark.marked("{}", "lab-project/pilotlight-prod", UNTOUCHED), ["written by lab-project/pilotlight-prod, this"]),
    ],
)
def test_whose_policy_stands_is_told(settings_of: Make, text: str, told: list[str]) -> None:
    warned = before.warnings(text, policy(settings_of()), OWN)
    assert len(warned) == len(told)
    for line, part in zip(warned, told, strict=True):
        assert part in line


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource


def check_kept(stack: Stack) -> None:
    """Read before the policy is replaced, and as the first update found it."""
    assert named(stack, "tailnet-policy-before").inputs == {"input": UNTOUCHED}
    assert named(stack, "tailnet-policy-before").options["ignoreChanges"] == ["input"]
    assert "tailnet-policy-before" in named(stack, "tailnet-policy").options["dependsOn"]


@pytest.mark.parametrize("preview", [True, False])
def test_the_policy_before_is_kept(stack_of: Render, preview: bool) -> None:
    check_kept(stack_of(preview=preview))


def test_the_owner_can_read_it(stack_of: Render) -> None:
    assert stack_of().outputs["policy_before"] == UNTOUCHED
    assert not stack_of(tailnet={"policy_owner": False}).outputs.get("policy_before")


@pytest.mark.parametrize(
    ("name", "path"),
    [("tailnet-policy-before", "options.ignoreChanges"), ("tailnet-policy", "options.dependsOn")],
)
def test_a_policy_that_is_not_kept_is_seen(stack_of: Render, planted: Plant, name: str, path: str) -> None:
    with pytest.raises(AssertionError):
        check_kept(planted(stack_of(), name, path, []))
