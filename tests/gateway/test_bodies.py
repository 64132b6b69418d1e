"""Bodies in chunks, packed, late and broken: the rendered configuration in a real Caddy between toy lanes.

Each check is run once more against a configuration with one rule taken out, and must see it.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway import body_checks as seen
from tests.gateway.routing import SMALL, Check, Mutation, broken, environment, find, patient, rendered, settings
from tests.gateway.world import World, world
from tests.kit import until


@pytest.fixture(scope="module")
def lanes() -> Iterator[World]:
    with world() as all_toys:
        yield all_toys


@pytest.fixture(scope="class")
def shared(lanes: World) -> Iterator[World]:
    with lanes.caddy(patient(rendered(settings())), environment(settings())):
        yield lanes


class TestBodies:
    @pytest.mark.parametrize("check", seen.CHECKS, ids=lambda check: check.__name__)
    def test_bodies(self, shared: World, check: Check) -> None:
        seen.settle(shared)
        check(shared)


def test_a_request_is_logged_once(lanes: World) -> None:
    with lanes.caddy(patient(rendered(settings())), environment(settings())):
        seen.settle(lanes)
        sent = [lanes.call(body=seen.chunks(body), X_Request_Id=f"r-{len(body)}") for body in (SMALL, seen.LARGE)]
        assert [answer.lane for answer in sent] == ["home", "home"]
        lanes.raw(f"{seen.CHUNKED}\r\nX-Request-Id: r-broken", seen.MALFORMED["size"])
        # Caddy logs a request after its answer.
        until(lambda: (lanes.folder / "log").read_text().count('"request_id":"r-') >= 3, "all are logged")
    lines = [json.loads(line) for line in lanes.log.splitlines()]
    # Not its lane: Caddy leaves that and the duration out where the caller has all and hangs up before Caddy knows it.
    told = [
        (x["request_id"], x["client"], x["status"], x["bytes_read"])
        for x in lines
        if x["message"] == "handled request" and x.get("request_id", "").startswith("r-")
    ]
    assert sorted(told) == [
        ("r-100055", "demo", 200, 100_055),
        ("r-20000000", "demo", 200, 20_000_000),
        ("r-broken", "demo", 400, 5),
    ]


def test_a_page_gets_its_headers_once(lanes: World) -> None:
    chosen = settings(gateway={"cors_origins": ["https://page.example"]})
    with lanes.caddy(patient(rendered(chosen)), environment(chosen)):
        told = lanes.raw(f"{seen.CHUNKED}\r\nOrigin: https://page.example", seen.encoded(SMALL), b"0\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 200 ")
        assert told.count(b"Access-Control-Allow-Origin: https://page.example\r\n") == 1


# --- each rule, taken out once ----------------------------------------------------------------------------------------


def ways_back(config: dict[str, Any]) -> list[dict[str, Any]]:
    return find(config, lambda x: {"dial": "127.0.0.1:9184"} in x.get("upstreams", ()))


def straight_to_the_lanes(config: dict[str, Any]) -> None:
    """As it would be simplest."""
    for parent in find(config, lambda x: "routes" in x):
        parent["routes"] = [route for route in parent["routes"] if not ways_back(route)]


def nothing_kept(config: dict[str, Any]) -> None:
    for proxy in ways_back(config):
        del proxy["request_buffers"]


def a_byte_short(config: dict[str, Any]) -> None:
    for proxy in ways_back(config):
        proxy["request_buffers"] -= 1


def over_http_1(config: dict[str, Any]) -> None:
    config["apps"]["http"]["servers"]["api"]["listen_protocols"][1] = ["h1"]
    for proxy in ways_back(config):
        proxy["transport"]["versions"] = ["1.1"]


def no_most(config: dict[str, Any]) -> None:
    for handler in find(config, lambda x: x.get("handler") == "request_body"):
        handler["max_size"] = 0


def errors_as_they_come(config: dict[str, Any]) -> None:
    for handler in find(config, lambda x: "errors" in x and "chunk|" in str(x["errors"])):
        del handler["errors"]


def sizes_before_the_way_back(config: dict[str, Any]) -> None:
    """The way back as one more handler in front of the lanes, which the pilot counts."""
    api = config["apps"]["http"]["servers"]["api"]
    for route in find(api, ways_back_here):
        api["routes"][3:3] = [{"match": route["match"], "handle": ways_back(route)}]
        break


def ways_back_here(node: dict[str, Any]) -> bool:
    return "match" in node and "handle" in node and bool(ways_back(node))


def packed_pass(config: dict[str, Any]) -> None:
    for parent in find(config, lambda x: "routes" in x):
        parent["routes"] = [route for route in parent["routes"] if "Content-Encoding}" not in str(route.get("match"))]


def only_gzip_is_seen(config: dict[str, Any]) -> None:
    for route in find(config, lambda x: "Content-Encoding}" in str(x.get("match"))):
        route["match"] = [{"header": {"Content-Encoding": ["gzip"]}}]


def answer_in_one_piece(config: dict[str, Any]) -> None:
    for proxy in ways_back(config):
        proxy["response_buffers"] = 65_536


def logged_twice(config: dict[str, Any]) -> None:
    for handler in find(config, lambda x: "log_skip" in x):
        del handler["log_skip"]


def http_2_everywhere(config: dict[str, Any]) -> None:
    config["apps"]["http"]["servers"]["api"]["listen_protocols"][0] = ["h1", "h2c"]


def connections_stay(config: dict[str, Any]) -> None:
    for handler in find(config, lambda x: "close" in x):
        del handler["close"]


BROKEN: list[tuple[Mutation, Check]] = [
    (straight_to_the_lanes, seen.a_malformed_chunk_is_the_caller_s_fault),
    (straight_to_the_lanes, seen.its_size_is_known),
    (nothing_kept, seen.it_is_repeated_on_the_next_lane),
    (a_byte_short, seen.it_is_repeated_on_the_next_lane),
    (over_http_1, seen.a_body_in_chunks_reaches_a_lane_as_any_other),
    (no_most, seen.too_large_is_said_while_it_comes),
    (errors_as_they_come, seen.too_large_is_said_while_it_comes),
    (errors_as_they_come, seen.a_malformed_chunk_is_the_caller_s_fault),
    (sizes_before_the_way_back, seen.who_trickles_holds_no_lane),
    (answer_in_one_piece, seen.its_answer_streams),
    (packed_pass, seen.a_packed_body_is_refused_at_once),
    (only_gzip_is_seen, seen.a_packed_body_is_refused_at_once),
    (connections_stay, seen.who_has_no_key_is_not_waited_for),
    (http_2_everywhere, seen.the_way_back_is_no_back_door),
]


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("mutation", "check"), BROKEN, ids=lambda value: value.__name__)
def test_a_gateway_without_one_of_its_rules_is_seen(lanes: World, mutation: Mutation, check: Check) -> None:
    config = broken(patient(rendered(settings())), mutation)
    with lanes.caddy(config, environment(settings())):
        seen.settle(lanes)
        with pytest.raises(AssertionError):
            check(lanes)
