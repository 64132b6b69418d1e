"""The alerts before the gateway's key and home's kubeconfig end: in time, to the owner, where either ends at all."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from components.observability import alerts
from components.settings import Settings
from components.settings.section import SettingsError
from lab.read.cloud import KEY_ENDS
from lab.read.stack import UNKNOWN, Resource, Stack
from tests import certificates

Make = Callable[..., Settings]
Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
EMAIL: dict[str, Any] = {"alerts": {"email": "me@example.com"}}
CERTIFICATE = certificates.pem(datetime(2020, 3, 1, tzinfo=UTC), datetime(2099, 3, 1, 12, tzinfo=UTC))
WITH_END = EMAIL | {"kubeconfig": certificates.kubeconfig(CERTIFICATE)}
QUERY = "conditionPrometheusQueryLanguage"


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource


def query(stack: Stack, of: str = "key") -> str:
    [condition] = named(stack, f"alerts-{of}-ends").inputs["conditions"]
    return condition[QUERY]["query"]


@pytest.mark.parametrize("told_before", [60, 15, 0.5])
def test_it_holds_from_so_many_days_before_the_end_on(told_before: float) -> None:
    text = alerts.ends_soon("2027-02-20T03:00:00Z", before_days=told_before)
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
    assert query(stack) == alerts.ends_soon(KEY_ENDS, before_days=15)
    told = policy.inputs["documentation"]["content"]
    assert KEY_ENDS in told
    assert "Renew it: `pulumi up`" in told


def check_owner_is_told_of_the_kubeconfig(stack: Stack) -> None:
    channel, policy = named(stack, "alerts-email"), named(stack, "alerts-kubeconfig-ends")
    assert policy.inputs["notificationChannels"] == [channel.outputs["id"]]
    assert query(stack, "kubeconfig") == alerts.ends_soon("2099-03-01T12:00:00Z", before_days=60)
    told = policy.inputs["documentation"]["content"]
    assert "2099-03-01T12:00:00Z" in told
    assert "pulumi config set --secret kubeconfig < kubeconfig.yaml" in told


def check_api_is_on(stack: Stack) -> None:
    assert "monitoring.googleapis.com" in {resource.inputs.get("service") for resource in stack.resources}


@pytest.mark.parametrize("check", [check_owner_is_told, check_owner_is_told_of_the_kubeconfig, check_api_is_on])
def test_the_owner_is_told(stack_of: Render, check: Callable[[Stack], None]) -> None:
    check(stack_of(**WITH_END))


@pytest.mark.parametrize(
    ("check", "name", "path", "value"),
    [
        (check_owner_is_told, "alerts-email", "inputs.labels.email_address", "somebody@example.com"),
        (check_owner_is_told, "alerts-key-ends", "inputs.notificationChannels", []),
        (check_owner_is_told, "alerts-key-ends", "inputs.documentation.content", "soon"),
        (check_owner_is_told_of_the_kubeconfig, "alerts-kubeconfig-ends", "inputs.notificationChannels", []),
        (check_owner_is_told_of_the_kubeconfig, "alerts-kubeconfig-ends", "inputs.documentation.content", "soon"),
        (
            check_owner_is_told_of_the_kubeconfig,
            "alerts-kubeconfig-ends",
            "inputs.conditions",
            [{QUERY: {"query": "1"}}],
        ),
        (check_api_is_on, "apis-monitoring", "inputs.service", "logging.googleapis.com"),
    ],
)
def test_a_missing_alert_is_seen(
    stack_of: Render, planted: Plant, check: Callable[[Stack], None], name: str, path: str, value: object
) -> None:
    with pytest.raises(AssertionError):
        check(planted(stack_of(**WITH_END), name, path, value))


def test_a_kubeconfig_with_an_end_is_told_where_no_key_ends(stack_of: Render) -> None:
    stack = stack_of(**WITH_END, tailnet={"join": "federated"})
    check_owner_is_told_of_the_kubeconfig(stack)
    assert stack.outputs["kubeconfig_expires"] == "2099-03-01T12:00:00Z"
    assert "alerts-key-ends" not in {resource.name for resource in stack.resources}


def test_a_token_has_no_end(stack_of: Render) -> None:
    stack = stack_of(**EMAIL)
    assert "kubeconfig_expires" not in stack.outputs
    assert "alerts-kubeconfig-ends" not in {resource.name for resource in stack.resources}


def test_a_preview_does_not_know_the_end_yet(stack_of: Render) -> None:
    assert query(stack_of(preview=True, **EMAIL)) == UNKNOWN


def test_nobody_is_told_without_an_address(stack_of: Render) -> None:
    stack = stack_of()
    kinds = {resource.type for resource in stack.resources if resource.type.startswith("gcp:monitoring/")}
    assert kinds == {"gcp:monitoring/dashboard:Dashboard"}, "conditions have a price"
    assert "gateway_key_expires" in stack.outputs


@pytest.mark.parametrize("changes", [{"lanes": ["vm"]}, {"tailnet": {"join": "federated"}}], ids=str)
def test_no_end_is_told_where_no_key_ends(stack_of: Render, changes: dict[str, Any]) -> None:
    stack = stack_of(**EMAIL, **changes)
    assert not [resource.name for resource in stack.resources if resource.name.endswith("-ends")]
    assert "gateway_key_expires" not in stack.outputs


@pytest.mark.parametrize("email", ["me", "me@example", "me @example.com", "a@b.c@d.e"])
def test_an_address_is_an_address(settings_of: Make, email: str) -> None:
    told = (
        rf"alerts\.email: one mail address, is {email!r}\. Consequence: nobody would be told.*\. Fix: .*me@example\.com"
    )
    with pytest.raises(SettingsError, match=told):
        settings_of(alerts={"email": email})
