"""Each safety rule of the routing, taken out once: its check must see it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from components.gateway.caddy import next_lane
from tests.gateway import routing_checks as seen
from tests.gateway.routing import Check, Mutation, broken, environment, find, patient, rendered, retried, settings
from tests.gateway.world import VM_ADDRESS, World, world


@pytest.fixture(scope="module")
def lanes() -> Iterator[World]:
    with world() as all_toys:
        yield all_toys


def to_lanes(part: dict[str, Any]) -> bool:
    """Whether it is a handler in front of the lanes."""
    return "passive" in part.get("health_checks", ())


def proxies(config: dict[str, Any], *, replay: bool) -> list[dict[str, Any]]:
    return find(config, lambda x: to_lanes(x) and ("request_buffers" in x) == replay)


def api(config: dict[str, Any]) -> dict[str, Any]:
    return config["apps"]["http"]["servers"]["api"]


def no_retry_match(config: dict[str, Any]) -> None:
    del proxies(config, replay=True)[0]["load_balancing"]["retry_match"]


def short_placeholders(config: dict[str, Any]) -> None:
    for rule in proxies(config, replay=True)[0]["load_balancing"]["retry_match"]:
        rule["expression"] = rule["expression"].replace("{http.reverse_proxy.", "{rp.")


def no_fail_duration(config: dict[str, Any]) -> None:
    del proxies(config, replay=True)[0]["health_checks"]["passive"]["fail_duration"]


def dial_by_header(config: dict[str, Any]) -> None:
    """As a debugging aid might: the caller names the lane."""
    handler = {"handler": "reverse_proxy", "upstreams": [{"dial": "{http.request.header.X-Lane}"}]}
    api(config)["routes"].insert(0, {"match": [{"header": {"X-Lane": ["*"]}}], "handle": [handler], "terminal": True})


def no_unhealthy_status(config: dict[str, Any]) -> None:
    del proxies(config, replay=True)[0]["health_checks"]["passive"]["unhealthy_status"]


def no_request_buffers(config: dict[str, Any]) -> None:
    del proxies(config, replay=True)[0]["request_buffers"]


def buffer_a_byte_short(config: dict[str, Any]) -> None:
    proxies(config, replay=True)[0]["request_buffers"] -= 1


def failures_stand(config: dict[str, Any]) -> None:
    retried(config, "== 500", "== 599")


def failures_mark(config: dict[str, Any]) -> None:
    for proxy in proxies(config, replay=True):
        proxy["health_checks"]["passive"]["unhealthy_status"].append(500)


def failures_walk_without_end(config: dict[str, Any]) -> None:
    retried(config, next_lane.ONWARDS, "true")


def failures_of_the_last_lane_are_repeated(config: dict[str, Any]) -> None:
    last = f'{{http.reverse_proxy.upstream.hostport}} != "{VM_ADDRESS}:9931"'
    retried(config, f"== 500 && {last}", "== 500")


def first_takes_the_same_lane(config: dict[str, Any]) -> None:
    for proxy in proxies(config, replay=True):
        proxy["load_balancing"]["selection_policy"] = {"policy": "first"}


def mark_in_a_header_of_ours(config: dict[str, Any]) -> None:
    for proxy in proxies(config, replay=True):
        proxy["load_balancing"]["selection_policy"]["field"] = "X-Next-Lane"
        changed = proxy["headers"]["request"]["set"]
        changed["X-Next-Lane"] = changed.pop("Trailer")


def large_bodies_retried(config: dict[str, Any]) -> None:
    large, small = proxies(config, replay=False)[0], proxies(config, replay=True)[0]
    large["load_balancing"]["retry_match"] = small["load_balancing"]["retry_match"]


def large_bodies_go_on(config: dict[str, Any]) -> None:
    large, small = proxies(config, replay=False)[0], proxies(config, replay=True)[0]
    large |= {"load_balancing": small["load_balancing"], "headers": small["headers"]}


def large_failures_counted(config: dict[str, Any]) -> None:
    proxies(config, replay=False)[0]["health_checks"]["passive"]["fail_duration"] = "2s"


def no_active_checks(config: dict[str, Any]) -> None:
    for proxy in find(config, to_lanes):
        del proxy["health_checks"]["active"]


def checks_share_the_lane_s_name(config: dict[str, Any]) -> None:
    for upstream in find(config, lambda x: str(x.get("dial")).startswith("tcp/")):
        upstream["dial"] = upstream["dial"].removeprefix("tcp/")


def no_capacity(config: dict[str, Any]) -> None:
    for upstream in find(config, lambda x: "max_requests" in x):
        del upstream["max_requests"]


def no_waiting(config: dict[str, Any]) -> None:
    for balancing in find(config, lambda x: "try_duration" in x):
        balancing["try_duration"] = "1ms"


def responses_buffered(config: dict[str, Any]) -> None:
    for proxy in find(config, to_lanes):
        proxy["response_buffers"] = 65536


def response_header_timeout(config: dict[str, Any]) -> None:
    for proxy in find(config, to_lanes):
        proxy["transport"]["response_header_timeout"] = "500ms"


def default_idle_timeout(config: dict[str, Any]) -> None:
    del api(config)["read_idle_timeout"]


def write_timeout(config: dict[str, Any]) -> None:
    api(config)["write_timeout"] = "500ms"


def without(config: dict[str, Any], wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Remove every route that is `wanted`."""
    for parent in find(config, lambda x: "routes" in x):
        parent["routes"] = [route for route in parent["routes"] if not wanted(route)]


def no_length_guard(config: dict[str, Any]) -> None:
    without(config, lambda route: "Content-Length" in str(route.get("match")) and "length_required" in str(route))


def no_size_guard(config: dict[str, Any]) -> None:
    without(config, lambda route: "header_regexp" in str(route.get("match")) and "'status_code': 413" in str(route))


def no_key_needed(config: dict[str, Any]) -> None:
    for route in find(config, lambda x: "'client'" in str(x.get("match")) and "handle" in x):
        del route["match"]


def caller_s_headers_pass(config: dict[str, Any]) -> None:
    for headers in find(config, lambda x: x.get("delete") == ["*"]):
        del headers["delete"]


def lane_s_headers_pass(config: dict[str, Any]) -> None:
    for headers in find(config, lambda x: x.get("deferred") is True):
        del headers["delete"]


def paths_as_sent(config: dict[str, Any]) -> None:
    without(config, lambda route: [step["handler"] for step in route.get("handle", ())][:1] == ["rewrite"])


def refusals_pass(config: dict[str, Any]) -> None:
    for proxy in find(config, to_lanes):
        del proxy["handle_response"]


def no_error_bodies(config: dict[str, Any]) -> None:
    del api(config)["errors"]


BROKEN: list[tuple[Mutation, Check]] = [
    (dial_by_header, seen.no_caller_chooses_what_the_tunnel_dials),
    (no_retry_match, seen.refusal_by_status_goes_to_the_next_lane),
    (short_placeholders, seen.refused_home_costs_a_blink_and_comes_back),
    (no_fail_duration, seen.failed_home_is_left_alone),
    (no_unhealthy_status, seen.refusing_home_is_left_alone),
    (failures_stand, seen.a_500_is_repeated_on_the_next_lane),
    (first_takes_the_same_lane, seen.a_500_is_repeated_on_the_next_lane),
    (failures_mark, seen.a_500_is_repeated_on_the_next_lane),
    (failures_mark, seen.poison_is_nobody_else_s_trouble),
    (failures_of_the_last_lane_are_repeated, seen.the_last_lane_s_500_stands),
    (failures_walk_without_end, seen.a_500_beside_full_lanes_ends),
    (large_bodies_go_on, seen.a_large_request_s_500_stands),
    (mark_in_a_header_of_ours, seen.no_caller_chooses_his_lane),
    (mark_in_a_header_of_ours, seen.lanes_see_only_what_they_need),
    (no_request_buffers, seen.refusal_by_status_goes_to_the_next_lane),
    (buffer_a_byte_short, seen.refusal_by_status_goes_to_the_next_lane),
    (large_bodies_retried, seen.half_a_large_body_is_never_repeated),
    (large_failures_counted, seen.half_a_large_body_is_never_repeated),
    (checks_share_the_lane_s_name, seen.a_check_takes_no_slot),
    (no_capacity, seen.full_lanes_wait_in_line),
    (no_waiting, seen.full_lanes_wait_in_line),
    (responses_buffered, seen.stream_is_not_buffered),
    (responses_buffered, seen.no_other_stream_is_buffered),
    (response_header_timeout, seen.slow_answers_arrive),
    (default_idle_timeout, seen.bad_lengths_are_refused),
    (write_timeout, seen.slow_answers_arrive),
    (no_length_guard, seen.bad_lengths_are_refused),
    (no_size_guard, seen.bad_lengths_are_refused),
    (no_key_needed, seen.only_keys_open_the_door),
    (caller_s_headers_pass, seen.lanes_see_only_what_they_need),
    (lane_s_headers_pass, seen.lanes_see_only_what_they_need),
    (paths_as_sent, seen.only_the_api_s_paths_exist),
    (refusals_pass, seen.refused_large_body_is_visible),
    (no_error_bodies, seen.waiting_ends_in_503),
]


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("mutation", "check"), BROKEN, ids=lambda value: value.__name__)
def test_a_gateway_without_one_of_its_rules_is_seen(lanes: World, mutation: Mutation, check: Check) -> None:
    _seen(lanes, patient(rendered(settings())), mutation, check)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_gateway_without_checks_is_seen(lanes: World) -> None:
    """With the declared times, by which a black hole is found before an impatient test gives up."""
    _seen(lanes, rendered(settings()), no_active_checks, seen.black_holed_home_is_found_by_checks)


def _seen(lanes: World, config: dict[str, Any], mutation: Mutation, check: Check) -> None:
    with lanes.caddy(broken(config, mutation), environment(settings())), pytest.raises(AssertionError):
        check(lanes)
