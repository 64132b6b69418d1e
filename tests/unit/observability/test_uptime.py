"""The check from outside: nobody has it unasked, it asks what needs no key, and its price is told."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from components.settings import Settings
from components.settings.section import SettingsError
from lab.read.cost import bill
from lab.read.cost.cloud_run import UPTIME
from lab.read.stack import Resource, Stack

Make = Callable[..., Settings]
Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
ASKED: Final[dict[str, Any]] = {"alerts": {"email": "me@example.com", "uptime_check": True}}
UNASKED: Final[dict[str, Any]] = {"alerts": {"email": "me@example.com"}}


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource


def check_it_asks_this_gateway_without_a_key(stack: Stack) -> None:
    said = named(stack, "alerts-uptime-check").inputs
    assert said["monitoredResource"]["type"] == "uptime_url"
    host = stack.outputs["base_url"].removesuffix("/v1").partition("://")[2]
    assert said["monitoredResource"]["labels"]["host"] == host
    asked = said["httpCheck"]
    assert (asked["path"], asked["useSsl"], asked["validateSsl"]) == ("/v1/models", True, True)
    assert asked["acceptedResponseStatusCodes"] == [{"statusValue": 401}]
    assert not {"headers", "authInfo"} & asked.keys()
    assert said["period"] == "900s", "the longest that Google takes"


def check_the_owner_is_told(stack: Stack) -> None:
    policy = named(stack, "alerts-uptime").inputs
    [condition] = policy["conditions"]
    said = condition["conditionThreshold"]
    assert f'check_id="{named(stack, "alerts-uptime-check").outputs["uptimeCheckId"]}"' in said["filter"]
    assert (said["comparison"], said["thresholdValue"]) == ("COMPARISON_GT", 1), "one place alone may be at fault"
    [each] = said["aggregations"]
    assert each["crossSeriesReducer"] == "REDUCE_COUNT_FALSE"
    assert int(each["alignmentPeriod"].removesuffix("s")) > 900, "a look of each place is in it"
    assert policy["notificationChannels"] == [named(stack, "alerts-email").outputs["id"]]
    assert "gcloud run services describe pilotlight-dev-gateway" in policy["documentation"]["content"]


CHECKS: Final = [check_it_asks_this_gateway_without_a_key, check_the_owner_is_told]


@pytest.mark.parametrize("check", CHECKS)
def test_the_endpoint_is_looked_at_from_outside(stack_of: Render, check: Callable[[Stack], None]) -> None:
    check(stack_of(**ASKED))


@pytest.mark.parametrize(
    ("check", "name", "path", "value"),
    [
        (CHECKS[0], "alerts-uptime-check", "inputs.monitoredResource.labels.host", "another.run.app"),
        (CHECKS[0], "alerts-uptime-check", "inputs.httpCheck.path", "/"),
        (CHECKS[0], "alerts-uptime-check", "inputs.httpCheck.headers", {"Authorization": "Bearer sk-1"}),
        (CHECKS[1], "alerts-uptime", "inputs.conditions.0.conditionThreshold.comparison", "COMPARISON_LT"),
        (CHECKS[1], "alerts-uptime", "inputs.conditions.0.conditionThreshold.filter", 'check_id="another"'),
        (CHECKS[1], "alerts-uptime", "inputs.notificationChannels", []),
    ],
)
def test_a_mistake_in_it_is_seen(
    stack_of: Render, planted: Plant, check: Callable[[Stack], None], name: str, path: str, value: Any
) -> None:
    with pytest.raises(AssertionError):
        check(planted(stack_of(**ASKED), name, path, value))


def test_nobody_has_it_who_did_not_ask(stack_of: Render) -> None:
    assert stack_of(**UNASKED).of_type(UPTIME) == []


def test_a_preview_of_a_new_stack_passes(stack_of: Render) -> None:
    assert named(stack_of(preview=True, **ASKED), "alerts-uptime")


@pytest.mark.parametrize("least", [0, 1, 2])
def test_its_price_is_an_instance_that_stays(stack_of: Render, least: int) -> None:
    """Of the gateway alone: no burst is woken. Of instances that stay anyway it needs no other."""
    gateway = {"gateway": {"min_instances": least, "max_instances": 2}, "lanes": ["home", "burst", "vm"]}

    def month(settings: dict[str, Any], what: str) -> float:
        [line] = [line for line in bill.read(stack_of(**gateway, **settings)).lines if line.what == what]
        return line.month_usd or 0.0

    asked, unasked = month(ASKED, "gateway"), month(UNASKED, "gateway")
    assert asked > 100
    assert (asked > unasked) == (least == 0)
    assert month(ASKED, "lane burst") == month(UNASKED, "lane burst") == 0


def test_a_check_that_tells_nobody_is_refused(settings_of: Make) -> None:
    told = r"alerts\.uptime_check: wants `alerts\.email`\. Consequence: .*kept awake.*\. Fix: set the address"
    with pytest.raises(SettingsError, match=told):
        settings_of(alerts={"uptime_check": True})
