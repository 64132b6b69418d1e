"""The budget: of this project, in its account, told at each threshold, and there only if somebody asked for it."""

from collections.abc import Callable
from typing import Any

import pytest

from components.settings import Settings
from components.settings.section import SettingsError
from lab.read.cloud import PROJECT_NUMBER
from lab.read.stack import Resource, Stack

Make = Callable[..., Settings]
Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
ACCOUNT = "012345-6789AB-CDEF01"
BUDGET: dict[str, Any] = {"budget": {"per_month": 100, "billing_account": ACCOUNT}}
TOLD: dict[str, Any] = {**BUDGET, "alerts": {"email": "me@example.com"}}
KIND = "gcp:billing/budget:Budget"
CHANNEL = "gcp:monitoring/notificationChannel:NotificationChannel"


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource


def check_it_is_of_this_project_alone(stack: Stack) -> None:
    budget = named(stack, "budget-month").inputs
    assert budget["billingAccount"] == ACCOUNT
    assert budget["budgetFilter"] == {"projects": [f"projects/{PROJECT_NUMBER}"], "calendarPeriod": "MONTH"}
    assert budget["amount"] == {"specifiedAmount": {"units": "100"}}, "the account's own currency"


def check_each_threshold_is_told(stack: Stack) -> None:
    rules = named(stack, "budget-month").inputs["thresholdRules"]
    assert [(rule["spendBasis"], rule["thresholdPercent"]) for rule in rules] == [
        ("CURRENT_SPEND", 0.5),
        ("CURRENT_SPEND", 0.9),
        ("CURRENT_SPEND", 1),
        ("FORECASTED_SPEND", 1),
    ]


def check_the_owner_s_mail_is_the_alerts_one(stack: Stack) -> None:
    [channel] = [one for one in stack.resources if one.type == CHANNEL]
    told = named(stack, "budget-month").inputs["allUpdatesRule"]
    assert told["monitoringNotificationChannels"] == [channel.outputs["id"]]


def check_its_apis_are_asked_in_the_project_s_name(stack: Stack) -> None:
    provider = named(stack, "budget-provider").inputs
    assert provider["userProjectOverride"] in (True, "true")
    assert provider["billingProject"] == provider["project"] == "lab-project"
    assert "budget-provider" in named(stack, "budget-month").options["provider"]
    on = {resource.inputs.get("service") for resource in stack.resources}
    assert {"billingbudgets.googleapis.com", "cloudbilling.googleapis.com"} <= on


CHECKS = [check_it_is_of_this_project_alone, check_each_threshold_is_told, check_the_owner_s_mail_is_the_alerts_one,
          check_its_apis_are_asked_in_the_project_s_name]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("lanes", [["home", "vm"], ["vm"]], ids=str)
def test_the_budget_is_declared(stack_of: Render, lanes: list[str], check: Callable[[Stack], None]) -> None:
    check(stack_of(lanes=lanes, **TOLD))


@pytest.mark.parametrize(
    ("check", "name", "path", "value"),
    [
        (CHECKS[0], "budget-month", "inputs.budgetFilter", {}),
        (CHECKS[0], "budget-month", "inputs.budgetFilter.projects", ["projects/lab-project"]),
        (CHECKS[0], "budget-month", "inputs.amount", {"specifiedAmount": {"units": "100", "currencyCode": "USD"}}),
        (CHECKS[1], "budget-month", "inputs.thresholdRules.3.spendBasis", "CURRENT_SPEND"),
        (CHECKS[2], "budget-month", "inputs.allUpdatesRule.monitoringNotificationChannels", []),
        (CHECKS[3], "budget-provider", "inputs.billingProject", "another"),
        (CHECKS[3], "budget-month", "options.provider", "default"),
        (CHECKS[3], "apis-billingbudgets", "inputs.service", "billing.googleapis.com"),
    ],
)
def test_a_mistake_in_it_is_seen(
    stack_of: Render, planted: Plant, check: Callable[[Stack], None], name: str, path: str, value: Any
) -> None:
    with pytest.raises(AssertionError):
        check(planted(stack_of(**TOLD), name, path, value))


def test_without_an_address_the_account_s_own_people_get_the_mail(stack_of: Render) -> None:
    stack = stack_of(**BUDGET)
    assert "allUpdatesRule" not in named(stack, "budget-month").inputs
    assert not [one.name for one in stack.resources if one.type == CHANNEL]


def test_nobody_who_did_not_ask_has_one(stack_of: Render) -> None:
    stack = stack_of()
    assert not [one.name for one in stack.resources if one.type in (KIND, "pulumi:providers:gcp")]
    assert not {"billingbudgets.googleapis.com", "cloudbilling.googleapis.com"} & {
        resource.inputs.get("service") for resource in stack.resources
    }
    assert any("`gcloud billing projects describe lab-project`" in step for step in stack.outputs["next_steps"])


def test_a_preview_of_a_new_stack_passes(stack_of: Render) -> None:
    assert named(stack_of(preview=True, **TOLD), "budget-month")


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({"per_month": 100}, r"budget.billing_account: required .* Consequence: .* Fix: .*describe some-project"),
        ({"billing_account": ACCOUNT}, r"budget.per_month: required .* Consequence: .* Fix: set a month's amount"),
        ({"per_month": 0, "billing_account": ACCOUNT}, r"budget.per_month: is refused"),
        ({"per_month": -5, "billing_account": ACCOUNT}, r"budget.per_month: is refused"),
        ({"per_month": 9.5, "billing_account": ACCOUNT}, r"budget.per_month: is refused"),
        ({"per_month": 100, "billing_account": "billingAccounts/" + ACCOUNT}, r"budget.billing_account: is refused"),
        ({"per_month": 100, "billing_account": ACCOUNT.lower()}, r"budget.billing_account: is refused"),
        ({"per_month": 100, "account": ACCOUNT}, r"budget.account: is no setting"),
    ],
    ids=str,
)
def test_half_a_budget_is_refused(settings_of: Make, budget: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        settings_of(budget=budget)
