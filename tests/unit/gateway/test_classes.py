"""The handlers of each class of clients, as data: which lanes they hold, with which limits, and that none is idle."""

import itertools
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from components import ports
from components.gateway.caddy import again, classes, line, pause, turns, upstreams
from components.gateway.caddy import config as caddy_config
from components.gateway.caddy.classes import Way
from components.gateway.caddy.walk import more_than
from components.gateway.pilot.answers import Answers
from components.settings import Lane, Settings
from components.settings.client_classes import limit
from components.settings.client_rules import MOST_CLIENTS
from components.settings.reading import read
from components.settings.section import SettingsError

VM = "10.20.0.5"
BURST_URL = "https://pilotlight-burst-abc-ew.a.run.app"
DIALS = {"home": "home:80", "burst": "127.0.0.1:9181", "vm": f"{VM}:9931"}
ALL = ["home", "burst", "vm"]
PRIORITIES = ("high", "normal", "background")
MIXED: list[dict[str, object]] = [
    {"name": "a", "priority": "high"}, {"name": "b"}, {"name": "c", "priority": "background"},
    {"name": "d", "lanes": ["home"]}, {"name": "e", "lanes": ["vm", "burst"]},
]  # fmt: skip


def settings(clients: list[dict[str, object]], **values: object) -> Settings:
    vm = {"max_requests": 4, "machine_type": "c3-highcpu-8"}
    values = {"lanes": ALL, "clients": clients, "vm": vm, **values}
    config = {"gcp:project": "my-project", "gcp:region": "europe-west4"}
    return read(config | {f"pilotlight:{key}": json.dumps(value) for key, value in values.items()}, stack="test")


def ways(chosen: Settings) -> dict[str, Way]:
    return {way.name: way for way in classes.ways(chosen, upstreams.upstreams(chosen, vm_address=VM))}


def dials(handler: dict[str, Any]) -> list[str]:
    """But for the line and the pause, which are no lanes."""
    return [upstream["dial"] for upstream in handler["upstreams"] if upstream["dial"] not in (line.DIAL, pause.DIAL)]


def document(chosen: Settings) -> str:
    return caddy_config.document(chosen, vm_address=VM, burst_url=BURST_URL)


@pytest.mark.parametrize("some", [s for n in (1, 2) for s in itertools.combinations(ALL, n)], ids="+".join)
def test_a_client_with_some_lanes_has_no_handler_with_another(some: tuple[str, ...]) -> None:
    found = ways(settings([{"name": "a"}, {"name": "p", "lanes": [*reversed(some)]}]))
    way = found["+".join(some)]
    assert [walk.name for walk in way.walks] == ["streamed", "replayed"]
    for walk in way.walks:
        assert dials(walk.handler) == [DIALS[lane] for lane in some], "in the stack's order"
        assert walk.handler["health_checks"]["active"]["headers"]["X-Size"] == ["alone"]
        text = json.dumps(walk.handler)
        assert not [lane for lane in ALL if lane not in some and DIALS[lane] in text]


def test_every_handler_has_its_class_s_limit_on_each_lane() -> None:
    chosen = settings(MIXED, home={"max_requests": 8}, burst={"max_requests": 4})
    found = ways(chosen)
    assert len(found) == 5 + 3 * 3 - 1, "five classes, and a pin for each lane and priority; `home` is one of both"
    for way in found.values():
        for walk in way.walks:
            lanes = walk.handler["upstreams"][: len(way.taken_by.lanes)]
            limits = [limit(chosen, lane, way.taken_by.priority) for lane in way.taken_by.lanes]
            assert [upstream["max_requests"] for upstream in lanes] == limits
            assert min(limits) > 0, "0 is no limit to Caddy"


def test_who_has_all_lanes_is_judged_and_nobody_else() -> None:
    for name, way in ways(settings(MIXED)).items():
        for walk in way.walks:
            asked = walk.handler["health_checks"]["active"]["headers"]["X-Size"][0]
            assert (asked == "alone") == (not name.startswith("all")), name
            assert ("127.0.0.1:9183" in dials(walk.handler)) == name.startswith("all")
    without_more: Any = SimpleNamespace(settings=SimpleNamespace(further={}))
    assert {f"/lane/{lane}/alone" for lane in ("home", "vm")} < Answers(without_more)._known.keys()  # type: ignore[attr-defined]


def test_a_class_has_the_same_part_of_each_further_machine_s_slots_and_never_all_of_none() -> None:
    """Caddy takes 0 for no limit."""
    grown = {"max_requests": 2, "replicas": 2, "max_replicas": 3, "machine_type": "c3-highcpu-8"}
    found = ways(settings(MIXED, burst={"max_requests": 8, "max_instances": 2}, vm=grown))
    limits = {name: {slot["dial"]: slot.get("max_requests") for slot in way.walks[-1].handler["upstreams"]}
              for name, way in found.items()}  # fmt: skip
    for name, burst, vm in (("all.high", 8, 2), ("all", 6, 1), ("all.background", 4, None)):
        assert (limits[name]["127.0.0.1:9181"], limits[name]["127.0.0.1:09181"]) == (burst, burst)
        assert limits[name].get(f"{VM}:09931") == vm
    assert not [name for name, slots in limits.items() for dial, most in slots.items() if "09" in dial and not most]


def test_a_request_is_led_to_one_handler_by_its_class() -> None:
    found = ways(settings(MIXED))
    border, mark = classes.to_walks([*found.values()])
    assert mark["size"] == "{http.vars.class}/{border}"
    routes = classes.handlers(settings(MIXED), [*found.values()])
    for length in (None, *lengths(*(one.above for way in found.values() for one in way.walks if one.above))):
        asked = "" if length is None else str(length)
        patterns = [one for one in border["mappings"] if re.search(one["input_regexp"], asked)]
        size = patterns[0]["outputs"][0] if patterns else border["defaults"][0]
        for way in found.values():
            [taken] = [r["handle"][-1] for r in routes if f"{way.name}/{size}" in r["match"][0]["vars"]["size"]]
            own = [one for one in way.walks if one.above is None or length is None or length > one.above]
            assert taken == own[0].handler, (way.name, length)


def lengths(*limits: int) -> list[int]:
    return [0, 1, *(limit + more for limit in limits for more in (-1, 0, 1))]


@pytest.mark.parametrize("limit", [1, 9, 10, 99, 1000, 1024, 32505856, 10**9 - 1])
def test_a_number_is_more_than_another(limit: int) -> None:
    larger = re.compile(more_than(limit))
    for number in {*range(200), *lengths(limit), limit // 10, limit * 10, 2**63 - 1}:
        for text in (str(number), f"00{number}"):
            assert bool(larger.search(text)) == (number > limit), text
    for text in ("", "-5", "5x", " 5", "9" * 20 + "x"):
        assert not larger.search(text)


@pytest.mark.parametrize("lanes", [["vm"], ["home"]])
def test_a_pin_to_the_only_lane_needs_no_handler(lanes: list[str]) -> None:
    assert list(ways(settings([{"name": "a"}], lanes=lanes))) == ["all"]


def test_a_stack_without_special_clients_has_one_class_and_a_small_handler_for_each_pin() -> None:
    found = ways(settings([{"name": "a"}, {"name": "b"}]))
    assert {name: len(way.walks) for name, way in found.items()} == {"all": 4, "home!": 1, "burst!": 1, "vm!": 1}
    text = document(settings([{"name": "a"}]))
    for word in (again.listen(ports.TURNS), "rate_limit"):
        assert word not in text


@pytest.mark.parametrize(
    ("clients", "most"),
    [
        ([{"name": "demo"}], 6_350),
        ([{"name": name, "priority": name} for name in PRIORITIES], 6_950),
        ([{"name": f"c{number}"} for number in range(400)], 9_200),
    ],
)  # fmt: skip
def test_the_configuration_leaves_room(clients: list[dict[str, object]], most: int) -> None:
    """As measured, and a little more: with three lanes a priority adds some 300 bytes, 10,000 unpacked."""
    assert len(caddy_config.packed(document(settings(clients)))) < most


def test_as_many_clients_as_a_stack_takes_fill_a_third_of_the_secret() -> None:
    """Which is why the configuration isn't split over several secrets."""
    clients: list[dict[str, object]] = [
        {"name": f"client-{number}", "priority": PRIORITIES[number % 3]} for number in range(MOST_CLIENTS)
    ]
    services: list[dict[str, object]] = [
        {"name": f"s{number}", "image": "registry.example/own:1.2.3", "model": f"own-{number}", "slices": 0,
         "paths": [f"/v1/s{number}"]}
        for number in range(160)
    ]  # fmt: skip
    chosen = settings(
        clients, services=[{"name": "vllm", "preset": "model"}, *services], home={"cpus": 256, "memory_gib": 2000}
    )
    assert len(caddy_config.packed(document(chosen))) < 0.35 * caddy_config.SECRET_LIMIT


def test_what_would_not_fit_is_refused_with_what_makes_it_large(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [list(some) for n in (1, 2, 3) for some in itertools.combinations(ALL, n)]
    many: list[dict[str, object]] = [
        {"name": f"c{number}", "lanes": lanes, "priority": priority}
        for number, (lanes, priority) in enumerate(itertools.product(sets, PRIORITIES))
    ]
    monkeypatch.setattr(caddy_config, "SECRET_LIMIT", 6_256)
    with pytest.raises(SettingsError, match=r"at most 6000 bytes.*let clients differ less in `lanes` and `priority`"):
        caddy_config.require_fits(settings(many))


def test_the_routes_to_the_lanes_alone_have_the_names_by_which_the_pilot_counts() -> None:
    counted = {"reverse_proxy", "rewrite", "headers", "request_body"}
    api = caddy_config.render(settings(MIXED), vm_address=VM, burst_url=BURST_URL)["apps"]["http"]["servers"]["api"]
    for route in api["routes"]:
        to_lanes = "size" in str(route.get("match"))
        assert (route["handle"][0]["handler"] in counted) == to_lanes, route["handle"][0]


@pytest.mark.parametrize(
    ("client", "wait_s", "timeout_s", "turn_s"),
    [({"max_requests": 3}, 240, 300, 55), ({"max_requests": 1}, 20, 300, 20)],
)
def test_both_waits_end_before_the_request_does(
    client: dict[str, object], wait_s: int, timeout_s: int, turn_s: int
) -> None:
    chosen = settings([{"name": "a", **client}], gateway={"wait_s": wait_s, "timeout_s": timeout_s})
    assert turns.turn_s(chosen) == turn_s
    assert turn_s + wait_s < timeout_s


def test_each_client_with_a_limit_has_a_spelling_of_its_own() -> None:
    chosen = settings([{"name": "a"}, {"name": "b", "max_requests": 3}, {"name": "c", "max_requests": 5}])
    text = document(chosen)
    assert '{"dial":"127.0.0.1:9185","max_requests":3}' in text
    assert '{"dial":"127.0.0.1:09185","max_requests":5}' in text
    assert turns.limited(chosen) == {"b": 3, "c": 5}
    api = json.loads(text)["apps"]["http"]["servers"]["api"]
    assert api["listen"] == [":{env.PORT}", "127.0.0.1:9184", "127.0.0.1:9185"]
    assert Lane.HOME in chosen.lanes
