"""The alert before the gateway's key ends: in time, to the owner, and only where a key ends at all."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from components import alerts
from components.settings import Settings
from components.settings.section import SettingsError
from lab.read.cloud import KEY_ENDS
from lab.read.stack import UNKNOWN, Resource, Stack

Make = Callable[..., Settings]
Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
EMAIL: dict[str, Any] = {"alerts": {"email": "me@example.com"}}
POLICY = "gcp:monitoring/alertPolicy:AlertPolicy"


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource


def query(stack: Stack) -> str:
    [condition] = named(stack, "alerts-key-ends").inputs["conditions"]
    return condition["conditionPrometheusQueryLanguage"]["query"]


@pytest.mark.parametrize(("life_days", "told_before"), [(90, 15), (30, 5), (6, 1)])
def test_it_holds_from_the_last_sixth_of_the_keys_life_on(life_days: int, told_before: int) -> None:
    text = alerts.ends_soon("2027-02-20T03:00:00Z", life_days=life_days)
    clock, threshold = text.split(" >= ")
    assert clock == "vector(time())"
    assert datetime.fromtimestamp(int(threshold), UTC) == datetime(2027, 2, 20, 3, tzinfo=UTC) - timedelta(
        days=told_before
    )


def check_owner_is_told(stack: Stack) -> None:
    channel, policy = named(stack, "alerts-email"), named(stack, "alerts-key-ends")
    assert channel.inputs["type"] == "email"
    assert channel.inputs["labels"] == {"email_address": "me@example.com"}
    assert policy.inputs["notificationChannels"] == [channel.outputs["id"]]
    assert policy.inputs["combiner"] == "OR"
    assert query(stack) == alerts.ends_soon(KEY_ENDS, life_days=90)
    told = policy.inputs["documentation"]["content"]
    assert KEY_ENDS in told
    assert "pulumi up --replace '**::tailnet-gateway-key'" in told


def check_api_is_on(stack: Stack) -> None:
    assert "monitoring.googleapis.com" in {resource.inputs.get("service") for resource in stack.resources}


@pytest.mark.parametrize("check", [check_owner_is_told, check_api_is_on])
def test_the_owner_is_told(stack_of: Render, check: Callable[[Stack], None]) -> None:
    check(stack_of(**EMAIL))


@pytest.mark.parametrize(
    ("check", "name", "path", "value"),
    [
        (check_owner_is_told, "alerts-email", "inputs.labels.email_address", "somebody@example.com"),
        (check_owner_is_told, "alerts-key-ends", "inputs.notificationChannels", []),
        (check_owner_is_told, "alerts-key-ends", "inputs.documentation.content", "soon"),
        (check_api_is_on, "apis-monitoring", "inputs.service", "logging.googleapis.com"),
    ],
)
def test_a_missing_alert_is_seen(
    stack_of: Render, planted: Plant, check: Callable[[Stack], None], name: str, path: str, value: object
) -> None:
    with pytest.raises(AssertionError):
        check(planted(stack_of(**EMAIL), name, path, value))


def test_a_preview_does_not_know_the_end_yet(stack_of: Render) -> None:
    assert query(stack_of(preview=True, **EMAIL)) == UNKNOWN


@pytest.mark.parametrize(
    "changes", [{}, {**EMAIL, "lanes": ["vm"]}, {**EMAIL, "tailnet": {"join": "federated"}}], ids=str
)
def test_nothing_is_registered_where_nobody_is_told_or_no_key_ends(stack_of: Render, changes: dict[str, Any]) -> None:
    stack = stack_of(**changes)
    assert not [resource.name for resource in stack.resources if resource.type.startswith("gcp:monitoring/")]
    assert ("gateway_key_expires" in stack.outputs) == (changes == {})


@pytest.mark.parametrize("email", ["me", "me@example", "me @example.com", "a@b.c@d.e"])
def test_an_address_is_an_address(settings_of: Make, email: str) -> None:
    with pytest.raises(SettingsError, match=r"alerts.email: is refused"):
        settings_of(alerts={"email": email})
