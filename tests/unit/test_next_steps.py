"""`next_steps`: nothing where nothing is left to do, and otherwise commands that name the user's own values."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from components import next_steps
from components.settings import Settings
from lab.read.stack import Stack

Make = Callable[..., Settings]
KUBECONFIG = yaml.safe_dump(
    {
        "clusters": [{"name": "c", "cluster": {"server": "https://home:6443"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
)

TOLD: dict[str, Any] = {"alerts": {"email": "me@example.com"}}
BUDGET: dict[str, Any] = {"budget": {"per_month": 100, "billing_account": "012345-6789AB-CDEF01"}}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"kubeconfig": KUBECONFIG, **TOLD}, []),
        ({"kubeconfig": KUBECONFIG, "tailnet": {"join": "federated"}}, []),
        ({"kubeconfig": KUBECONFIG}, ["run `pulumi up` in its last 15 days, which renews it"]),
        ({"lanes": ["vm"]}, []),
        ({"lanes": ["vm"], "vm": {"gpu": "t4"}}, ["1 of each: `GPUS_ALL_REGIONS`"]),
        ({"lanes": ["vm"], "vm": {"gpu": "l4"}}, ["`NVIDIA_L4_GPUS` in us-central1"]),
        (
            {"lanes": ["vm"], "vm": {"gpu": "t4", "spot": True, "max_replicas": 3}},
            ["3 of each: `GPUS_ALL_REGIONS`, which is 0 in a new project, and `PREEMPTIBLE_NVIDIA_T4_GPUS`"],
        ),
        ({"lanes": ["home"], "kubeconfig": KUBECONFIG, "vm": {"gpu": "t4"}, **TOLD}, []),
        ({"lanes": ["vm"], "home": {"owner": False}, "tailnet": {"policy_owner": False}}, []),
        (TOLD, ["Home is not deployed yet", "as `home`", "kubeconfig"]),
        (
            {"home": {"hostname": "garage"}, **TOLD},
            ["Home is not deployed yet", "as `garage`", "reaches `garage` over the tailnet"],
        ),
        (
            {"home": {"nodes": 2}, "kubeconfig": KUBECONFIG, **TOLD},
            ["Whether `home-2` has joined home isn't known here"],
        ),
        (
            {"home": {"nodes": 3, "hostname": "garage"}, **TOLD},
            [
                "Home is not deployed yet",
                "as `garage`",
                "reaches `garage`",
                "Whether `garage-2`, `garage-3` have joined",
            ],
        ),
        (
            {"home": {"nodes": 2, "owner": False}, "tailnet": {"policy_owner": False}, **TOLD},
            ["Home is deployed", "and tag:home reach tag:home:6443 and 10250 over TCP, and 8472 over UDP."],
        ),
        ({"home": {"owner": False}, **TOLD}, ["Home is deployed by another stack"]),
        ({"kubeconfig": KUBECONFIG, "tailnet": {"policy_owner": False}, **TOLD}, ["let tag:gateway reach tag:home:80"]),
        (
            {"home": {"owner": False}, "tailnet": {"policy_owner": False}, **TOLD},
            ["Home is deployed by another stack", "The tailnet's policy belongs to another stack"],
        ),
    ],
)
def test_each_open_step_is_named_in_order(settings_of: Make, changes: dict[str, Any], parts: list[str]) -> None:
    kubeconfig = changes.get("kubeconfig")
    rest = {name: value for name, value in changes.items() if name != "kubeconfig"}
    settings = settings_of(**BUDGET, **rest)
    if kubeconfig:
        settings = Settings.model_validate(settings.model_dump() | {"kubeconfig": kubeconfig})
    lines = next_steps.lines(settings)
    assert len(lines) == len(parts)
    for line, part in zip(lines, parts, strict=True):
        assert part in line


def test_a_key_is_shown_by_the_command_that_reads_it_never_by_value(stack_of: Callable[..., Stack]) -> None:
    lines = stack_of(kubeconfig=False).outputs["next_steps"]
    assert any("pulumi stack output home_bootstrap --show-secrets" in line for line in lines)
    assert not any("tskey-" in line for line in lines)


def test_the_stack_says_that_nothing_is_left(stack_of: Callable[..., Stack]) -> None:
    assert stack_of(**TOLD, **BUDGET).outputs["next_steps"] == []


def test_a_key_in_grace_is_told_and_one_that_has_ended_too(settings_of: Make) -> None:
    soon = f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}"
    entry = {"client": "demo", "generation": 1}
    clients = [{"name": "demo", "generation": 2}]
    [line] = next_steps.lines(settings_of(**BUDGET, lanes=["vm"], clients=clients, old_keys=[{**entry, "until": soon}]))
    assert line.startswith(f"demo has a new key, and its old one gets 401 from {soon}T00:00:00Z on")
    assert "pulumi stack output client_env" in line
    [line] = next_steps.lines(
        settings_of(**BUDGET, lanes=["vm"], clients=clients, old_keys=[{**entry, "until": "2026-01-01"}])
    )
    assert line == "old_keys.0 of demo has ended and changes nothing any more: remove it."


def test_who_has_no_budget_is_told_how_to_get_one(stack_of: Callable[..., Stack]) -> None:
    [step] = stack_of(**TOLD).outputs["next_steps"]
    assert "set `budget.per_month`" in step
    assert "stop nothing" in step
