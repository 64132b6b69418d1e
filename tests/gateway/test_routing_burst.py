"""The burst lane: the rendered configuration in a real Caddy, with a scripted pilot and a toy Cloud Run.

Unedited where its times are the point; elsewhere with more patience for a busy machine (`routing.patient`).
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from components.gateway.caddy import next_lane, refusal
from tests.gateway import burst_checks as seen
from tests.gateway.burst_checks import CHECKS, cold, rendered, settings, started
from tests.gateway.routing import Check, Mutation, broken, environment, find, patient, retried
from tests.gateway.world import TOKEN, World, tls_front, world
from tests.kit import happens, until


@pytest.fixture(scope="module")
def toys() -> Iterator[World]:
    with world() as all_toys:
        yield all_toys


@pytest.fixture(scope="class")
def shared(toys: World) -> Iterator[World]:
    with started(toys, patient(rendered(toys))):
        yield toys
    assert TOKEN not in toys.log
    lines = [json.loads(line) for line in toys.log.splitlines()]
    assert "admin.api" not in {line.get("logger") for line in lines}, "what the pilot asks is not logged"


class TestBurst:
    """One Caddy for all of them."""

    @pytest.mark.parametrize(
        "check",
        [pytest.param(check, id=check.__name__, marks=[pytest.mark.slow] * (check in seen.LONG)) for check in CHECKS],
    )
    def test_burst(self, shared: World, check: Check) -> None:
        cold(shared)
        check(shared)


def test_declared_times_find_a_pilot_that_is_dead_or_wedged(toys: World) -> None:
    with started(toys, rendered(toys)):
        cold(toys)
        seen.without_a_pilot_home_and_vm_serve(toys)


# --- the start -------------------------------------------------------------------------------------------------------


def first_requests_find_burst_cold(here: World) -> None:
    """Fifty, from the moment Cloud Run's probe lets them in: Caddy takes lanes for healthy until it has asked."""
    assert happens(lambda: here.call("GET", "/ready", None).status == 200)
    with ThreadPoolExecutor(16) as callers:
        calls = [callers.submit(here.call) for _ in range(50)]
    answers = [call.result() for call in calls]
    assert {(a.status, a.lane) for a in answers} == {(200, "vm")}
    assert here.burst.begun == 0


def the_probe_waits_for_the_pilot(here: World) -> None:
    here.pilot.says["/ready"] = 503
    assert happens(lambda: here.call("GET", "/ready", None).status == 503)
    probes = [here.call("GET", "/ready", None) for _ in range(3)]
    assert [(a.status, a.seconds > 0.4) for a in probes] == [(503, True)] * 3, "held"
    until(lambda: probed(here, 503) < 1, "held no longer than the probe waits; a busy machine adds to some")
    here.pilot.says["/ready"] = 200
    until(lambda: probed(here, 200) < 0.4, "answered at once")


def probed(here: World, status: int) -> float:
    """How long the probe took, seconds."""
    answer = here.call("GET", "/ready", None)
    assert answer.status == status
    return answer.seconds


def without_a_pilot_it_starts(here: World) -> None:
    """From here on the pilot says nothing; Caddy was started a moment ago. It takes 4 s."""
    assert happens(lambda: here.call("GET", "/nothing", None).status == 404)
    begun = time.monotonic()
    seconds: list[float] = []
    while here.call("GET", "/ready", None).status != 200:
        seconds.append(time.monotonic() - begun)
        assert seconds[-1] < 20, "several times as long as on a quiet machine"
        time.sleep(0.1)
    assert seconds[-1] > 1, "it waited"
    assert here.call().lane == "vm"
    until(lambda: probed(here, 200) < 0.9, "it doesn't wait for the pilot any more")


def nobody_is_refused_before_the_pilot_was_asked(here: World) -> None:
    """The VM is spared, so all that come wait, though Caddy takes whatever it has not checked yet for healthy."""
    assert happens(lambda: here.call("GET", "/ready", None).status == 200)
    with ThreadPoolExecutor(16) as callers:
        calls = [callers.submit(here.call) for _ in range(16)]
    assert {call.result().error["code"] for call in calls} == {"no_lane"}
    assert here.vm.begun == 0


def begun(here: World, config: dict[str, Any], check: Check, *, pilot: str = "alive") -> None:
    """The check on a Caddy that has just been started."""
    here.heal()
    here.home.down()
    if check is nobody_is_refused_before_the_pilot_was_asked:
        here.pilot.says["/lane/vm/short"] = 503
    if pilot == "dead":
        here.pilot.down()
    if pilot == "wedged":
        here.pilot.behaviour.check_delay = 30
    with here.caddy(config, environment(settings()), first="", heal=False):
        check(here)


@pytest.mark.parametrize(
    "check",
    [
        first_requests_find_burst_cold,
        the_probe_waits_for_the_pilot,
        nobody_is_refused_before_the_pilot_was_asked,
    ],
)
def test_start(toys: World, check: Check) -> None:
    begun(toys, patient(rendered(toys)), check)


@pytest.mark.parametrize("pilot", ["dead", "wedged"])
def test_start_without_a_pilot(toys: World, pilot: str) -> None:
    begun(toys, rendered(toys), without_a_pilot_it_starts, pilot=pilot)


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_burst_over_tls_and_only_if_it_is_trusted(toys: World) -> None:
    with tls_front(toys.burst) as (url, root):
        config = patient(rendered(toys, url))
        for trusted in (True, False):
            toys.heal()
            toys.home.down()
            trust = {"SSL_CERT_FILE": str(root)} if trusted else {}
            with toys.caddy(config, environment(settings()) | trust, first="vm", heal=False):
                cold_or_warm = [toys.call().lane]
                toys.pilot.says["/lane/burst"] = 200
                assert happens(lambda: toys.call().lane == "burst", 20 if trusted else 2) == trusted
                assert cold_or_warm == ["vm"]
            assert {r.headers["host"] for r in toys.burst.received} == (
                {url.removeprefix("https://")} if trusted else set()
            )


# --- each safety rule, taken out once --------------------------------------------------------------------------------


def servers(config: dict[str, Any]) -> dict[str, Any]:
    return config["apps"]["http"]["servers"]


def no_retry_match(config: dict[str, Any]) -> None:
    for proxy in find(config, lambda x: {"request_buffers", "load_balancing"} <= x.keys()):
        del proxy["load_balancing"]["retry_match"]


def no_burst_check(config: dict[str, Any]) -> None:
    for route in servers(config)["checks"]["routes"]:
        if "9181" in str(route.get("match")):
            route["handle"] = [{"handler": "static_response", "status_code": 200}]


def no_active_checks(config: dict[str, Any]) -> None:
    for proxy in find(servers(config)["api"], lambda x: "load_balancing" in x):
        proxy["health_checks"].pop("active")


def ready_without_asking(config: dict[str, Any]) -> None:
    for route in servers(config)["api"]["routes"]:
        if "/ready" in str(route.get("match")):
            route["handle"] = [{"handler": "static_response", "status_code": 200}]


def ready_needs_the_pilot(config: dict[str, Any]) -> None:
    for proxy in find(servers(config)["api"], lambda x: len(x.get("upstreams", ())) == 2):
        del proxy["upstreams"][1]


def token_for_every_lane(config: dict[str, Any]) -> None:
    for headers in find(servers(config)["api"], lambda x: x.get("delete") == ["*"]):
        headers["set"]["X-Serverless-Authorization"] = ["Bearer {file.id-token}"]


def no_token_needed(config: dict[str, Any]) -> None:
    for route in servers(config)["burst"]["routes"]:
        if "vars_regexp" in str(route.get("match")):
            del route["match"]


def platform_s_answers_pass(config: dict[str, Any]) -> None:
    for proxy in find(servers(config)["burst"], lambda x: "handle_response" in x):
        del proxy["handle_response"]


def sizes_ask_nobody(config: dict[str, Any]) -> None:
    routes = servers(config)["checks"]["routes"]
    routes[:] = [route for route in routes if "X-Size" not in str(route.get("match", ""))]


def sizes_are_one(config: dict[str, Any]) -> None:
    for check in find(servers(config)["api"], lambda x: "X-Size" in x.get("headers", ())):
        check["headers"]["X-Size"] = ["long"]


def refusals_come_first(config: dict[str, Any]) -> None:
    def other(place: dict[str, Any]) -> bool:
        return place["dial"] != refusal.DIAL

    for proxy in find(servers(config)["api"], lambda x: "load_balancing" in x):
        proxy["upstreams"].sort(key=other)


def refusals_ask_nobody(config: dict[str, Any]) -> None:
    for route in servers(config)["checks"]["routes"]:
        if "9183" in str(route.get("match")):
            route["handle"] = [{"handler": "static_response", "status_code": 200}]


def refusals_are_a_lane_s(config: dict[str, Any]) -> None:
    """As 503, on which the next lane is tried, and whose giver is left alone."""
    for response in find(servers(config)["refusal"], lambda x: x.get("handler") == "static_response"):
        response["status_code"] = 503


def sizes_need_the_pilot(config: dict[str, Any]) -> None:
    for handler in find(servers(config)["checks"], lambda x: "errors" in x):
        del handler["errors"]


def failures_walk_without_end(config: dict[str, Any]) -> None:
    retried(config, next_lane.ONWARDS, "true")


def failures_walk_back(config: dict[str, Any]) -> None:
    """To any lane but the one they come from."""
    retried(config, f"< {next_lane.MARK}", f"!= {next_lane.MARK}")


def lanes_in_a_subroute(config: dict[str, Any]) -> None:
    for route in servers(config)["api"]["routes"]:
        if route["handle"][0]["handler"] == "reverse_proxy":
            route["handle"] = [{"handler": "subroute", "routes": [{"handle": route["handle"]}]}]


BROKEN: list[tuple[Mutation, Check]] = [
    (no_retry_match, seen.cloud_run_s_own_answers_are_never_seen),
    (failures_walk_without_end, seen.a_500_walks_in_no_circle),
    (failures_walk_back, seen.a_500_walks_in_no_circle),
    (no_burst_check, seen.cold_burst_gets_nothing),
    (token_for_every_lane, seen.only_burst_sees_the_token),
    (no_token_needed, seen.only_burst_sees_the_token),
    (platform_s_answers_pass, seen.cloud_run_s_own_answers_are_never_seen),
    (sizes_ask_nobody, seen.a_sick_home_is_left_as_if_it_were_down),
    (sizes_are_one, seen.a_sick_home_is_left_as_if_it_were_down),
    (sizes_ask_nobody, seen.a_size_skips_the_vm_while_it_would_be_later),
    (sizes_are_one, seen.a_size_skips_the_vm_while_it_would_be_later),
    (sizes_need_the_pilot, seen.without_a_pilot_home_and_vm_serve),
    (refusals_come_first, seen.nothing_is_refused_that_a_lane_takes),
    (refusals_ask_nobody, seen.cold_burst_gets_nothing),
    (refusals_are_a_lane_s, seen.what_comes_too_late_is_refused_at_once),
    (lanes_in_a_subroute, seen.waiting_can_be_counted),
]


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("mutation", "check"), BROKEN, ids=lambda value: value.__name__)
def test_a_burst_lane_without_one_of_its_rules_is_seen(toys: World, mutation: Mutation, check: Check) -> None:
    declared_times = check is seen.without_a_pilot_home_and_vm_serve
    config = broken(rendered(toys) if declared_times else patient(rendered(toys)), mutation)
    first = "burst" if mutation is no_burst_check else "vm"
    with started(toys, config, first), pytest.raises(AssertionError):
        check(toys)


BROKEN_STARTS: list[tuple[Mutation, Check, str]] = [
    (no_active_checks, first_requests_find_burst_cold, "alive"),
    (refusals_ask_nobody, nobody_is_refused_before_the_pilot_was_asked, "alive"),
    (ready_without_asking, the_probe_waits_for_the_pilot, "alive"),
    (ready_needs_the_pilot, without_a_pilot_it_starts, "dead"),
]


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("mutation", "check", "pilot"), BROKEN_STARTS, ids=lambda value: getattr(value, "__name__", value)
)
def test_broken_start_is_seen(toys: World, mutation: Mutation, check: Check, pilot: str) -> None:
    config = broken(rendered(toys) if pilot == "dead" else patient(rendered(toys)), mutation)
    with pytest.raises(AssertionError):
        begun(toys, config, check, pilot=pilot)
