"""What the access log says of a request: its lane and times, also where nobody stayed for the end of the answer."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from components.gateway.caddy import begun
from tests.gateway import client_checks
from tests.gateway.backends import Behaviour
from tests.gateway.client_checks import logged
from tests.gateway.routing import LARGE, environment, patient, rendered, settings
from tests.gateway.world import World, world
from tests.kit import until

BODY = b'{"model":"m"}'
BEGUN = {"lane", "begun_ms", "lane_ms", "begun_at_ms"}
WHOLE = BEGUN | {"ended_ms", "whole"}


@pytest.fixture(scope="module")
def lanes() -> Iterator[World]:
    with world() as all_toys:
        yield all_toys


def told(log: str) -> dict[str, dict[str, Any]]:
    """The lines of requests, by their ids."""
    lines = [json.loads(line) for line in log.splitlines()]
    return {line["request_id"]: line for line in lines if line["message"] == "handled request"}


def hung_up(lanes: World, name: str, **how: Any) -> None:
    """A caller who leaves when `until` is true."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nX-Request-Id: {name}\r\nContent-Length: {len(BODY)}"
    lanes.raw(head, BODY, **how)


def check_lane_and_times(lanes: World, config: dict[str, Any]) -> None:
    with lanes.caddy(patient(config), environment(settings())):
        lanes.call(X_Request_Id="plain")
        lanes.call(body=LARGE, X_Request_Id="large")
        lanes.home.behaviour = Behaviour(tokens=[0.05] * 4)
        lanes.call(X_Request_Id="stream")
        lanes.call(body=iter([b'{"model":', b'"m"}']), X_Request_Id="chunked")
        lanes.home.behaviour = Behaviour(tokens=[0.05] * 4, die_in_stream=True)
        lanes.call(X_Request_Id="broken")
        lanes.home.behaviour = Behaviour(tokens=[0.05] * 100)
        hung_up(lanes, "left", until=lambda: lanes.home.running == 1)
        until(lambda: lanes.home.running == 0)
        lanes.call("GET", "/v1/models", None, X_Request_Id="list")
        lanes.call(X_Request_Id="stranger", Authorization="Bearer nobody")
        logged(lanes, "plain", "large", "stream", "chunked", "broken", "left", "list", "stranger")
    lines = told(lanes.log)
    for name in ("plain", "large", "stream", "chunked"):
        line = lines[name]
        assert line.keys() >= WHOLE, name
        assert line["lane"] == "home"
        assert 0 < float(line["lane_ms"]) <= line["begun_ms"] <= line["ended_ms"] <= 1000 * line["duration"]
        assert line["whole"] == begun.WHOLE
    assert lines["stream"]["ended_ms"] - lines["stream"]["begun_ms"] > 150, "the rest of the answer"
    for name in ("broken", "left"):
        assert (lines[name].keys() & WHOLE, lines[name].get("lane")) == (BEGUN, "home"), name
    for name in ("list", "stranger"):
        assert not lines[name].keys() & WHOLE, f"{name}: no lane answered"


def check_checks_and_probes_are_not_logged(lanes: World, config: dict[str, Any]) -> None:
    with lanes.caddy(patient(config), environment(settings())):
        lanes.call("GET", "/ready", None)
        checks = lanes.home.checks
        until(lambda: lanes.home.checks > checks + 2)
        lanes.call(X_Request_Id="answered")
        logged(lanes, "answered")
    assert "answered" in told(lanes.log)
    assert {line["request"]["uri"] for line in told(lanes.log).values()} == {"/v1/chat/completions"}


def test_checks_and_probes_are_not_logged(lanes: World) -> None:
    check_checks_and_probes_are_not_logged(lanes, rendered(settings()))


def test_a_probe_that_is_logged_is_seen(lanes: World) -> None:
    text = json.dumps(rendered(settings())).replace('"log_skip": true', '"other": true')
    with pytest.raises(AssertionError):
        check_checks_and_probes_are_not_logged(lanes, json.loads(text))


def test_lane_and_times_stand_in_the_line_whoever_left(lanes: World) -> None:
    check_lane_and_times(lanes, rendered(settings()))


@pytest.mark.parametrize("without", ["early", "copy"])
def test_a_field_that_comes_too_late_is_seen(lanes: World, without: str) -> None:
    """As it would be with fields that are added after the answer, and without the routes before it."""
    config = rendered(settings())
    fields = config["apps"]["http"]["servers"]["api"]["named_routes"][begun.NAME]["handle"][0]["routes"][1]["handle"]
    if without == "early":
        for field in fields:
            field.pop("early", None)
    else:
        del fields[:-1]
    with pytest.raises(AssertionError):
        check_lane_and_times(lanes, config)


def in_walks(lanes: World) -> int:
    """Requests that have a lane, or wait for one, as Caddy counts them."""
    of = r'caddy_http_requests_in_flight{handler="(?:reverse_proxy|request_body|rewrite|headers)",server="api"} (\d+)'
    return sum(int(count) for count in re.findall(of, lanes.admin("/metrics")))


def check_the_wait_is_known(lanes: World, config: dict[str, Any]) -> None:
    """Also of a request that comes back to the server, once its length is known or its client has a turn."""
    asked = {"plain": BODY, "chunked": iter([BODY])}
    slots = 3 * client_checks.SLOTS
    with lanes.caddy(patient(config), client_checks.environment()), ThreadPoolExecutor(slots + len(asked)) as callers:
        client_checks.all_up(lanes)
        toys = client_checks.toys(lanes)
        for lane in toys:
            lane.behaviour = Behaviour(hold=True)
        held = client_checks.one_by_one(lanes, callers, "paying", slots)
        few = client_checks.of("few")
        waiting = [callers.submit(lanes.call, body=b, X_Request_Id=n, **few) for n, b in asked.items()]
        until(lambda: in_walks(lanes) == slots + len(asked), "they wait")
        began, checks = time.monotonic(), lanes.home.checks
        until(lambda: lanes.home.checks > checks + 3)
        hung_up(lanes, "gone", until=lambda: in_walks(lanes) > slots + len(asked))
        waited_ms = 1000 * (time.monotonic() - began)
        for lane in toys:
            lane.behaviour = Behaviour()
            lane.release()
        assert {call.result().status for call in [*held, *waiting]} == {200}
        logged(lanes, *asked, "gone")
    lines = told(lanes.log)
    for name in asked:
        line = lines[name]
        assert (line["client"], line["status"]) == ("few", 200)
        assert line["begun_ms"] - float(line["lane_ms"]) >= waited_ms
    assert (lines["gone"]["status"], lines["gone"].keys() & WHOLE) == (499, set()), "he left before anything began"


def test_the_wait_for_a_lane_is_the_age_without_the_lane_s_own_time(lanes: World) -> None:
    check_the_wait_is_known(lanes, client_checks.rendered(lanes, wait_s=20))


def test_a_wait_that_is_counted_as_the_lane_s_is_seen(lanes: World) -> None:
    text = json.dumps(client_checks.rendered(lanes, wait_s=20))
    known = f"{{http.reverse_proxy.header.{begun.LANE_MS}}}"
    assert known in text
    with pytest.raises(AssertionError):
        check_the_wait_is_known(lanes, json.loads(text.replace(known, "{http.reverse_proxy.upstream.latency_ms}")))


def test_the_time_of_the_lane_is_for_the_log_alone(lanes: World) -> None:
    with lanes.caddy(patient(client_checks.rendered(lanes)), client_checks.environment()):
        client_checks.all_up(lanes)
        for client in ("demo", "few"):
            for body in (BODY, iter([BODY])):
                answer = lanes.call(body=body, **client_checks.of(client))
                assert (answer.status, begun.LANE_MS.lower() in answer.headers) == (200, False)
