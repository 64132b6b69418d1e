"""The alerts that no line of the gateway's log says anything of, evaluated over time by their own conditions.

Those that are made of log lines are evaluated on a lab's own (`tests/lab/test_alerts.py`).
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from lab.errors import LabError
from lab.read import alerts
from lab.read.alerts import Alert
from lab.read.cloud import KEY_ENDS
from lab.read.metrics import Metric, Point
from lab.read.stack import Stack
from tests import certificates

Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
MINUTE: Final = 60
DAY: Final = 24 * 3600
END: Final = datetime(2099, 3, 1, 12, tzinfo=UTC)
KUBECONFIG: Final = certificates.kubeconfig(certificates.pem(datetime(2020, 3, 1, tzinfo=UTC), END))
ALL: Final[dict[str, Any]] = {
    "lanes": ["home", "burst", "vm"],
    "alerts": {"email": "me@example.com"},
    "kubeconfig": KUBECONFIG,
}
UPTIME: Final = Metric("compute_googleapis_com:instance_uptime", "", {"instance_name": ""}, "", ())
"""`compute.googleapis.com/instance/uptime` as Google's list of metric descriptors has it (a user's public print of it
was read): DELTA, a DOUBLE of seconds, label `instance_name`, resource `gce_instance`, sampled every 60 s and seen up to
240 s later, which is not done here. No time is counted of a machine that is stopped: there are no points then."""
NOON: Final = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()


def alert(stack: Stack, name: str) -> Alert:
    [found] = [one for one in alerts.declared(stack) if one.name == f"alerts-{name}"]
    return found


def running(name: str, *minutes: range) -> list[Point]:
    """Points of a machine that runs in those minutes after noon."""
    return [Point(NOON + minute * MINUTE, {"instance_name": name}, 60.0) for span in minutes for minute in span]


def incident(found: Alert, points: Sequence[Point], minutes: int) -> list[int]:
    """Minutes after noon, of the looks with an incident."""
    looks = found.incident([(UPTIME, points)], NOON, NOON + minutes * MINUTE)
    return [int(at - NOON) // MINUTE for at in looks]


def check_the_vm_s(stack: Stack) -> None:
    found = alert(stack, "vm-stopped")
    other = running("pilotlight-prod-vm-abcd", range(-30, 120))
    ours = running("pilotlight-dev-vm-x1y2", range(-30, 20), range(50, 80))
    assert incident(found, [*other, *ours], 80) == [*range(30, 50)], "ten minutes after the last point, until the next"
    beside = running("pilotlight-dev-vm-z3z4", range(15, 60))
    assert incident(found, [*other, *ours, *beside], 80) == [], "a group's next machine runs already"


def check_the_ends(stack: Stack) -> None:
    """From so many days before the end on, at the first look after it, and not before."""
    for name, end, days in (("key", datetime.fromisoformat(KEY_ENDS), 15), ("kubeconfig", END, 60)):
        told = (end - timedelta(days=days)).timestamp()
        found = alert(stack, f"{name}-ends")
        looks = found.incident([], told - DAY, told + DAY)
        assert 0 <= looks[0] - told < 3600, f"{name}: {looks[0] - told} s after it is to be told"
        assert looks[-1] > told + DAY - 3600, "it goes on"


CHECKS: Final = [check_the_vm_s, check_the_ends]


@pytest.mark.parametrize("check", CHECKS)
def test_an_alert_fires_under_its_fault_and_no_earlier(stack_of: Render, check: Callable[[Stack], None]) -> None:
    check(stack_of(**ALL))


@pytest.mark.parametrize(
    ("check", "name", "old", "new"),
    [
        (check_the_vm_s, "vm-stopped", "[10m]", "[2m]"),
        (check_the_vm_s, "vm-stopped", "pilotlight-dev-vm.*", ".*"),
        (check_the_vm_s, "vm-stopped", "pilotlight-dev-vm.*", "pilotlight-dev-vm"),
        (check_the_ends, "key-ends", ">=", "<"),
        (check_the_ends, "kubeconfig-ends", ">=", "<"),
    ],
)
def test_a_wrong_condition_is_seen(
    stack_of: Render, planted: Plant, check: Callable[[Stack], None], name: str, old: str, new: str
) -> None:
    stack = stack_of(**ALL)
    query = alert(stack, name).query
    assert old in query
    path = "inputs.conditions.0.conditionPrometheusQueryLanguage.query"
    with pytest.raises(AssertionError):
        check(planted(stack, f"alerts-{name}", path, query.replace(old, new)))


def test_a_condition_must_hold_for_its_duration() -> None:
    points = running("a", range(3), range(10, 20))
    query = 'absent_over_time(compute_googleapis_com:instance_uptime{instance_name="a"}[1m])'
    for duration_s, found in ((0, [*range(4, 10)]), (120, [*range(6, 10)]), (600, [])):
        assert incident(Alert("", query, 60, duration_s), points, 19) == found, f"{duration_s} s"


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("absent_over_time(compute_googleapis_com:instance_up{}[1m])", "no metric is registered"),
        ('absent_over_time(compute_googleapis_com:instance_uptime{name="a"}[1m])', "has no label name"),
        ("absent_over_time(compute_googleapis_com:instance_uptime{}[5x])", "range '5x'"),
    ],
)
def test_a_condition_that_can_hold_never_is_refused(query: str, told: str) -> None:
    with pytest.raises(LabError, match=told):
        incident(Alert("", query, 60, 0), [], 1)
