"""The attack in small, and mistakes planted in the gateway that it must see; `make attack` is the whole of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attack import crowds, drawn, handmade, judge, paths, wire, worlds
from tests.attack.__main__ import draw
from tests.attack.campaign import Campaign, Row
from tests.attack.wire import Attack, End
from tests.gateway.routing import broken, find
from tests.gateway.world import World

SEED = 18
COUNT = 300


def test_a_kept_request_is_the_same_again(tmp_path: Path) -> None:
    sent = Attack("a", "b", (b"\0\xff", b"c"), End.HALF, wanted=frozenset({400}), body=b"\xfe")
    campaign = Campaign.__new__(Campaign)
    campaign.folder = tmp_path
    campaign.keep(sent, wire.Exchange(), ["it broke"])
    assert Attack.of(tmp_path / "a-1.json") == sent


def test_answers_are_read_as_they_stand_on_the_wire() -> None:
    one = b"HTTP/1.1 200 OK\r\nX-Served-By: home\r\nContent-Length: 2\r\n\r\nhi"
    two = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    found, rest = wire.parsed(b"HTTP/1.1 100 Continue\r\n\r\n" + one + two + b"more", head=False, ended=False)
    assert [(reply.status, reply.lane, reply.body) for reply in found] == [(200, "home", b"hi"), (404, "", b"abc")]
    assert rest == b"more"
    assert not wire.parsed(one[:-1], head=False, ended=True)[0][0].whole
    assert wire.parsed(one[:-2], head=True, ended=False)[0][0].whole


def test_the_errors_are_those_of_the_page() -> None:
    assert {(401, "invalid_api_key"), (404, "model_not_found"), (503, "too_slow")} <= judge.DOCUMENTED


@pytest.mark.slow
def test_every_rule_holds(tmp_path: Path) -> None:
    with worlds.gateway() as here:
        campaign = Campaign(here, tmp_path)
        for kind in (*handmade.ALL, *paths.ALL):
            campaign.run(kind())
        draw(campaign, SEED, COUNT)
        campaign.run(drawn.fuzzed(SEED, COUNT))
        for row in (come(here) for come in crowds.ALL):
            campaign.rows[row.kind] = row
    assert [sentence for row in campaign.rows.values() for sentence in row.wrong] == []
    assert not judge.logged(here.log)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def headers_pass(config: dict[str, Any]) -> None:
    for headers in find(config, lambda x: "*" in x.get("delete", ()) and "X-Request-Id" in x["set"]):
        headers["delete"].remove("*")


def all_of_the_engine_is_served(config: dict[str, Any]) -> None:
    """Whatever is under /v1, as it came."""
    for route in find(config, lambda x: "/v1/chat/completions" in str(x.get("match")) and "rewrite" in str(x)):
        route["match"] = [{"path": ["/v1/*"]}]
        for parent in find(route, lambda x: "routes" in x):
            parent["routes"] = [one for one in parent["routes"] if "'rewrite'" not in str(one.get("handle"))]


def a_400_is_held_against_a_lane(config: dict[str, Any]) -> None:
    for passive in find(config, lambda x: "unhealthy_status" in x):
        passive["unhealthy_status"].append(400)


def any_key_is_good(config: dict[str, Any]) -> None:
    for match in find(config, lambda x: "{http.regexp.bearer.1}" in x):
        match["{http.regexp.bearer.1}"].append("x" * 16)


def keyed() -> Iterator[Attack]:
    yield Attack("keys", "sixteen x", (handmade.post("Authorization: Bearer " + 16 * "x", client=""),),
                 wanted=frozenset({401}), requests=0)  # fmt: skip


def long_lines() -> Iterator[Attack]:
    yield from (attack for attack in handmade.headers() if "of 9000 bytes" in attack.name)


def everybody_is_waited_for(config: dict[str, Any]) -> None:
    for answer in find(config, lambda x: "close" in x):
        del answer["close"]


def no_turns(config: dict[str, Any]) -> None:
    for parent in find(config, lambda x: "routes" in x):
        parent["routes"] = [one for one in parent["routes"] if "['9184']}" not in str(one.get("match"))]


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("mistake", "crowd"),
    [(everybody_is_waited_for, crowds.strangers), (no_turns, crowds.slow_large_bodies)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_mistake_shows_in_a_crowd(
    mistake: Callable[[dict[str, Any]], None], crowd: Callable[[World, int], Row]
) -> None:
    with worlds.gateway(lambda config: broken(config, mistake)) as here:
        assert crowd(here, 5).wrong


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("mistake", "kind", "told"),
    [
        (headers_pass, handmade.headers, "home got ["),
        (all_of_the_engine_is_served, paths.strange, "home got POST /v1/load_lora_adapter"),
        (a_400_is_held_against_a_lane, long_lines, "blamed"),
        (any_key_is_good, keyed, "status 200, wanted [401]"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_mistake_is_seen(
    tmp_path: Path, mistake: Callable[[dict[str, Any]], None], kind: Callable[[], Iterator[Attack]], told: str
) -> None:
    with worlds.gateway(lambda config: broken(config, mistake)) as here:
        campaign = Campaign(here, tmp_path)
        for attack in kind():
            if any(told in sentence for sentence in campaign.one(attack)):
                break
    assert any(told in sentence for row in campaign.rows.values() for sentence in row.wrong)
    assert list(tmp_path.glob("*.json")), "and kept"
