"""What one of several gateway instances takes of everything that is counted."""

import json
import re
from math import factorial
from typing import Any

import pytest

from components.gateway.caddy import turns
from components.gateway.caddy.upstreams import service_upstreams, upstreams
from components.gateway.pilot_container import environment
from components.settings import Lane, Settings
from components.settings.client_classes import limit
from components.settings.clients import Priority
from components.settings.reading import read
from components.settings.section import SettingsError
from lab.read.stack import ROOT

PAGE = ROOT / "docs" / "decisions" / "28-each-instance-has-its-share.md"
TTS: dict[str, object] = {"name": "tts", "preset": "tts", "max_requests": 5}


def settings(instances: int, **values: Any) -> Settings:
    values = {"lanes": list(Lane), "gateway": {"max_instances": instances}, **values}
    values.setdefault("services", [{"name": "vllm", "preset": "model"}, TTS])
    config = {"gcp:project": "my-project", "gcp:region": "europe-west4"}
    return read(config | {f"pilotlight:{key}": json.dumps(value) for key, value in values.items()}, stack="test")


@pytest.mark.parametrize(
    ("instances", "slots"),
    [
        (1, {"HOME": 8, "BURST": 16, "VM": 6}),
        (2, {"HOME": 4, "BURST": 8, "VM": 3}),
        (5, {"HOME": 1, "BURST": 3, "VM": 1}),
    ],
)
def test_caddy_and_pilot_have_the_same_share(instances: int, slots: dict[str, int]) -> None:
    chosen = settings(instances, vm={"replicas": 3, "max_requests": 2, "machine_type": "c3-highcpu-8"})
    told = environment(chosen, burst_url="", dials={Lane.HOME: "home:80"}, further={})
    assert {lane: int(str(told[f"{lane}_CAPACITY"])) for lane in slots} == slots
    assert {each.lane.upper(): each.max_requests for each in upstreams(chosen, vm_address="10.0.0.2")} == slots
    assert told["HOME_FULL"] == str(slots["HOME"])
    assert [each.max_requests for _, each in service_upstreams(chosen)] == [5 // instances]


def test_home_is_full_for_some_caller_by_the_machines_that_are_there() -> None:
    clients = [{"name": "a", "priority": "high"}, {"name": "b"}]
    for instances, full in ((1, "6 12 18"), (3, "1 3 5")):
        chosen = settings(instances, clients=clients, lanes=["home"], home={"nodes": 3})
        assert environment(chosen, burst_url="", dials={Lane.HOME: "home:80"}, further={})["HOME_FULL"] == full


def test_a_client_has_its_share_and_priorities_are_kept_of_the_instance_s_slots() -> None:
    clients = [{"name": "a", "priority": "high"}, {"name": "b", "max_requests": 7}]
    chosen = settings(2, clients=clients, vm={"max_requests": 4, "machine_type": "c3-highcpu-8"})
    assert turns.limited(chosen) == {"b": 3}
    assert [limit(chosen, Lane.HOME, priority) for priority in (Priority.HIGH, Priority.NORMAL)] == [4, 3]
    assert "its share on an instance of the gateway" in json.dumps(turns.routes(chosen, {}, []))
    assert "which is its limit" in json.dumps(turns.routes(settings(1, clients=clients), {}, []))


@pytest.mark.parametrize(
    ("values", "field", "count"),
    [
        ({"lanes": ["home"], "home": {"max_requests": 2}}, "home.max_requests", 2),
        ({"burst": {"max_requests": 1}, "vm": {"max_requests": 3}}, "burst.max_requests", 1),
        ({"vm": {"max_requests": 1, "replicas": 2, "machine_type": "c3-highcpu-8"}}, "vm.max_requests", 2),
        ({"services": [{"name": "vllm", "preset": "model"}, TTS | {"max_requests": 2}]}, "services.1.max_requests", 2),
        ({"clients": [{"name": "a", "max_requests": 1}]}, "clients.0.max_requests", 1),
    ],
)
def test_what_has_fewer_places_than_there_are_instances_is_refused(
    values: dict[str, Any], field: str, count: int
) -> None:
    values = {"vm": {"max_requests": 4, "machine_type": "c3-highcpu-8"}} | values
    with pytest.raises(SettingsError) as caught:
        settings(3, **values)
    [problem] = caught.value.problems
    rule = (
        rf"{field}: at least gateway\.max_instances \(3\).*, is {count}\. Consequence: .*know of each other.*\. Fix: "
    )
    assert re.fullmatch(rule + rf"raise it, or set gateway\.max_instances to {count}\.", problem), problem


def test_a_lane_that_the_stack_does_not_have_needs_no_slots() -> None:
    assert settings(3, lanes=["home"], vm={"max_requests": 1}, burst={"max_requests": 1}).slots(Lane.HOME) == 2


def test_the_page_says_what_a_share_costs() -> None:
    rows = re.findall(r"^\| (\d+) % \| ([\d.]+) \| ([\d.]+) \| ([\d.]+|without end) \|$", PAGE.read_text(), re.M)
    assert [int(row[0]) for row in rows] == [25, 40, 60, 80]
    for percent, *waits in rows:
        load = 8 * int(percent) / 100
        assert waits == [_wait(8, load), _wait(4, load / 2), _wait(4, load)], percent


def _wait(slots: int, load: float) -> str:
    """Erlang's C: the mean wait for a slot, in answers' times; `load` is how many answers run on average."""
    if load >= slots:
        return "without end"
    full = load**slots / factorial(slots) * slots / (slots - load)
    some = sum(load**count / factorial(count) for count in range(slots))
    return f"{full / (some + full) / (slots - load):.2f}"
