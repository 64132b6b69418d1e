"""The gateway's Caddy configuration as data: what it holds, what it must not hold, and that Caddy accepts it."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import xxhash

from components.gateway.caddy import answers, burst_hop, line, next_lane, pause, upstreams
from components.gateway.caddy import config as caddy_config
from components.gateway.caddy.walk import walks
from components.gateway.pilot.lane import HOLD_S
from components.machines.speeds import BURST_START_S
from components.settings import Settings, client_keys
from components.settings.presets import PRESETS
from components.settings.reading import read
from components.settings.section import SettingsError

CADDY = Path(sys.executable).parent / "caddy"
VM = "10.20.0.5"
NONE = "127.0.0.1:9183"
"""In the place of a lane, for what none can answer in time."""
BURST_URL = "https://pilotlight-burst-abc-ew.a.run.app"
ALL = ["home", "burst", "vm"]
SERVICES = [{"name": preset.partition(".")[0], "preset": preset} for preset in PRESETS]


def settings(**values: object) -> Settings:
    config = {"gcp:project": "my-project", "gcp:region": "europe-west4"}
    return read(config | {f"pilotlight:{key}": json.dumps(value) for key, value in values.items()}, stack="test")


def proxies(chosen: Settings) -> list[dict[str, Any]]:
    """The handlers in front of the lanes, those of the largest bodies first, without those of pins."""
    found: list[dict[str, Any]] = []

    def look(node: object) -> None:
        children: list[object] = []
        if isinstance(node, dict):
            table = cast(dict[str, Any], node)
            found.extend([table] if {"load_balancing", "health_checks"} <= table.keys() else [])
            children = list(table.values())
        elif isinstance(node, list):
            children = cast(list[object], node)
        for child in children:
            look(child)

    api = caddy_config.render(chosen, vm_address=VM, burst_url=BURST_URL)["apps"]["http"]["servers"]["api"]
    look([route for route in api["routes"] if "!/" not in json.dumps(route.get("match"))])
    return [handler for handler in found if "passive" in handler["health_checks"]]


def server(name: str, *, url: str = BURST_URL) -> dict[str, Any]:
    return caddy_config.render(settings(lanes=ALL), vm_address=VM, burst_url=url)["apps"]["http"]["servers"][name]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"lanes": ["vm"]},
        {"lanes": ["home"]},
        {"lanes": ["vm", "home"]},
        {"lanes": ALL},
        {"lanes": ["burst", "vm"], "gateway": {"short_kib": 8, "text_kib": 4096}},
        {"lanes": ["burst"]},
        {"clients": [{"name": f"robot-{number}"} for number in range(100)]},
        {"services": SERVICES},
        {"services": SERVICES, "lanes": ALL},
        {"gateway": {"console": False}},
        {"gateway": {"timeout_s": 3600, "wait_s": 3000, "replay_limit_mib": 1, "request_limit_mib": 1}},
    ],
)
def test_caddy_accepts_it(values: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "caddy.json"
    path.write_text(caddy_config.document(settings(**values), vm_address=VM, burst_url=BURST_URL))
    done = subprocess.run(
        [CADDY, "validate", "--config", path],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PORT": "8080"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("lanes", "dials", "environment"),
    [
        (["home", "vm"], ["home:80", f"{VM}:9931", NONE], {"HTTP_PROXY": "socks5://127.0.0.1:1055", "NO_PROXY": VM}),
        (["vm", "home"], [f"{VM}:9931", "home:80", NONE], {"HTTP_PROXY": "socks5://127.0.0.1:1055", "NO_PROXY": VM}),
        (["vm"], [f"{VM}:9931"], {"NO_PROXY": VM}),
        (["home"], ["home:80"], {"HTTP_PROXY": "socks5://127.0.0.1:1055"}),
    ],
)
def test_lanes_follow_the_settings(lanes: list[str], dials: list[str], environment: dict[str, str]) -> None:
    chosen = settings(lanes=lanes, vm={"machine_type": "t2d-standard-4"})
    handlers = proxies(chosen)
    assert len(handlers) == (4 if len(lanes) > 1 else 2)
    for handler in handlers:
        kept = "request_buffers" in handler
        in_line = [line.DIAL] * (kept and "home" in lanes) + [pause.DIAL] * kept
        assert [upstream["dial"] for upstream in handler["upstreams"]] == [*dials, *in_line]
    always = {"CONSOLE_FOLDER": "/etc/pilotlight/console", "GOGC": "200", "GOMEMLIMIT": "921MiB"}
    assert caddy_config.environment(chosen, vm_address=VM) == environment | always


def test_the_collector_knows_what_memory_caddy_has() -> None:
    found = caddy_config.environment(settings(gateway={"memory_mib": 2000}), vm_address=VM)
    assert found["GOMEMLIMIT"] == "1800MiB", "and leaves some for what Go doesn't count"


def test_handlers_share_capacity_and_failures() -> None:
    """Caddy keeps both per dial address; only the handler that can tell a lane's fault from a caller's adds any."""
    chosen = settings(home={"max_requests": 5}, vm={"max_requests": 3}, gateway={"replay_limit_mib": 2})
    large, *replayed = proxies(chosen)
    assert [upstream["max_requests"] for upstream in large["upstreams"][:2]] == [5, 3]
    for handler in replayed:
        assert handler["upstreams"] == [*large["upstreams"], {"dial": line.DIAL}, {"dial": pause.DIAL}]
        asked = {**handler["health_checks"]["active"], "headers": large["health_checks"]["active"]["headers"]}
        assert asked == large["health_checks"]["active"], "but the size"
    small = replayed[-1]
    assert large["health_checks"]["passive"] == {"max_fails": 1}
    assert small["health_checks"]["passive"] == {
        "max_fails": 1,
        "fail_duration": "2s",
        "unhealthy_status": [502, 503, 504],
    }
    assert "request_buffers" not in large
    assert small["request_buffers"] == 2 * 1024 * 1024 + 1
    assert "retry_match" not in large["load_balancing"]
    expression = small["load_balancing"]["retry_match"][0]["expression"]
    assert "[502, 503, 504]" in expression
    assert "{rp." not in expression


@pytest.mark.parametrize("values", [{}, {"lanes": ["vm", "home"]}, {"lanes": ["home", "burst"]}, {"lanes": ALL}])
def test_a_500_goes_on_where_its_request_is_kept_and_marks_no_lane(values: dict[str, object]) -> None:
    large, *replayed = proxies(settings(**values))
    assert large["load_balancing"]["selection_policy"] == {"policy": "first"}
    assert "Trailer" not in large["headers"]["request"]["set"]
    for handler in replayed:
        assert handler["load_balancing"]["selection_policy"] == {
            "policy": "header",
            "field": "Trailer",
            "fallback": {"policy": "header", "field": "X-Gate", "fallback": {"policy": "first"}},
        }
        assert handler["headers"]["request"]["set"]["Trailer"] == ["{next_lane}"]
        assert "status_code} == 500 && " in handler["load_balancing"]["retry_match"][0]["expression"]
        assert 500 not in handler["health_checks"]["passive"]["unhealthy_status"]


@pytest.mark.parametrize("values", [{"lanes": ["home"]}, {"lanes": ["vm"]}, {"lanes": ["burst"]}])
def test_a_500_of_the_only_lane_stands(values: dict[str, object]) -> None:
    text = json.dumps(proxies(settings(**values)))
    assert "== 500" not in text
    assert ("Trailer" in text) is (values != {"lanes": ["vm"]}), "the line's"


def test_a_500_of_a_service_stands() -> None:
    alone = [handler for handler in proxies(settings(services=SERVICES, lanes=ALL)) if len(handler["upstreams"]) == 1]
    assert alone
    assert "Trailer" not in json.dumps(alone)
    assert "== 500" not in json.dumps(alone)


@pytest.mark.parametrize("lanes", [["home", "vm"], ["vm", "home"], ["home", "burst"], ["vm"], ALL])
@pytest.mark.parametrize("vm", ["10.0.0.2", "10.132.255.17", "127.0.0.2"])
@pytest.mark.parametrize("home", ["home", "a-machine-with-a-name-as-long-as-tailscale-lets-one-be-of-63-ch"])
def test_from_each_lane_on_to_the_next_that_is_up(lanes: list[str], vm: str, home: str) -> None:
    """Chosen as Caddy does, from whichever are up: the next of the later ones, else of the earlier, else the same."""
    chosen = upstreams.upstreams(settings(lanes=lanes, home={"hostname": home}), vm_address=vm)
    dials = [upstream.dial for upstream in chosen]
    marks = next_lane.marks(chosen)
    assert list(marks) == dials
    assert list(marks.values()) == sorted(marks.values()), "as the expression compares them"
    for place, dial in enumerate(dials):
        later_first = dials[place + 1 :] + dials[: place + 1]
        for up in itertools.product((True, False), repeat=len(dials)):
            available = {each for each, answers in zip(dials, up, strict=True) if answers}
            expected = next((each for each in later_first if each in available), NONE)
            assert (
                max([line.DIAL, pause.DIAL, NONE, *available], key=lambda each, mark=marks[dial]: _hash(each, mark))
                == expected
            )


@pytest.mark.parametrize("lanes", [["home", "vm"], ["vm", "home"], ["home"], ["burst"], ALL])
def test_into_the_line_and_out_of_it(lanes: list[str]) -> None:
    """Whom the gate sends there takes it before any lane, and whom the line lets go takes the lanes in their order."""
    chosen = upstreams.upstreams(settings(lanes=lanes), vm_address=VM)
    wanted, mark = [line.DIAL, *(upstream.dial for upstream in chosen), NONE, pause.DIAL], next_lane.to_line(chosen)
    assert sorted(wanted, key=lambda each: _hash(each, mark), reverse=True) == wanted
    assert {"input": line.DIAL, "outputs": ["gateway", "", "", "Expect"]} in _by_address(settings(lanes=lanes))[
        "mappings"
    ]


def _by_address(chosen: Settings) -> dict[str, Any]:
    """Caddy's map of addresses to lanes."""
    server = caddy_config.render(chosen, vm_address=VM, burst_url=BURST_URL)["apps"]["http"]["servers"]["api"]
    handlers = [handler for route in server["routes"] for handler in route["handle"] if handler["handler"] == "map"]
    return next(handler for handler in handlers if "upstream.hostport" in handler["source"])


# --- machines that join a lane ---------------------------------------------------------------------------------------

GROWN: dict[str, Any] = {
    "lanes": ALL,
    "home": {"nodes": 3, "max_requests": 4},
    "burst": {"max_instances": 3, "max_requests": 8},
    "vm": {"replicas": 2, "max_replicas": 4, "max_requests": 2, "machine_type": "c3-highcpu-8"},
}
HOMES = ["home:80", "home:080", "home:0080"]
BURSTS = ["127.0.0.1:9181", "127.0.0.1:09181", "127.0.0.1:009181"]
VMS = [f"{VM}:9931", f"{VM}:09931", f"{VM}:009931"]


def test_each_further_machine_is_a_place_after_its_lane_s() -> None:
    for handler in proxies(settings(**GROWN)):
        found = {each["dial"]: each.get("max_requests") for each in handler["upstreams"]}
        if "home:80" in found and BURSTS[0] in found:
            assert list(found)[:9] == [*HOMES, *BURSTS, *VMS]
            assert list(found.values())[:9] == [4, 4, 4, 8, 8, 8, 4, 2, 2]
            told = handler["headers"]["request"]["set"].get(line.HEADER, [""])[0]
            if told:
                assert told.endswith(" ".join(f"{dial}={most}" for dial, most in [*found.items()][:9]))


def test_a_further_machine_s_place_is_up_while_the_pilot_says_so_and_never_without_it() -> None:
    servers = caddy_config.render(settings(**GROWN), vm_address=VM, burst_url=BURST_URL)["apps"]["http"]["servers"]
    for lane, dials, least in (("home", HOMES[1:], 2), ("burst", BURSTS[1:], 2), ("vm", VMS[1:], 3)):
        for machines, dial in enumerate(dials, start=least):
            [route] = [route for route in servers["checks"]["routes"] if f'"{dial}"' in json.dumps(route)]
            [asked] = route["handle"]
            assert asked["rewrite"]["uri"] == f"/lane/{lane}/{machines}/{{http.request.header.X-Size}}"
            assert [each["dial"] for each in asked["upstreams"]] == ["127.0.0.1:9182"]
            assert "handle_response" not in asked


def test_a_machine_is_its_lane_in_log_and_answer() -> None:
    """The map goes by the address that was dialled, which has no zeros."""
    assert [each["outputs"][0] for each in _by_address(settings(**GROWN))["mappings"]][:3] == ["home", "burst", "vm"]


def test_nobody_is_sent_to_a_further_machine_while_a_lane_is_free() -> None:
    """By a mark. Without one the walk's order counts."""
    chosen = upstreams.upstreams(settings(**GROWN), vm_address=VM)
    lanes = [upstream.dial for upstream in chosen]
    for mark in (*next_lane.marks(chosen).values(), next_lane.to_line(chosen)):
        order = sorted(
            [*lanes, *HOMES[1:], *BURSTS[1:], *VMS[1:]], key=lambda each, mark=mark: _hash(each, mark), reverse=True
        )
        assert sorted(order[:3]) == sorted(lanes)


def test_a_service_at_home_shares_no_place_with_a_further_machine() -> None:
    for nodes in (1, 3):
        chosen = settings(services=SERVICES, home={"nodes": nodes})
        own = [each.dial for _, each in upstreams.service_upstreams(chosen)]
        places = [dial for each in upstreams.upstreams(chosen, vm_address=VM) for dial in each.places]
        assert len({*own, *places}) == len(own) + len(places) == len(own) + nodes + 1


@pytest.mark.parametrize("nodes", [1, 2])
def test_which_machine_answered_is_told_to_the_pilot_and_not_to_callers(nodes: int) -> None:
    """By Traefik's cookie, which it sets where there are several. The pilot asks by way of the checks."""
    servers = caddy_config.render(settings(home={"nodes": nodes}), vm_address=VM)["apps"]["http"]["servers"]
    deleted = {name for handler in proxies(settings(home={"nodes": nodes}))
               for name in handler["headers"]["response"]["delete"]}  # fmt: skip
    assert ("Set-Cookie" in deleted) is (nodes > 1)
    assert "Set-Cookie" not in json.dumps(servers["checks"])


def test_one_instance_and_one_machine_are_one_place() -> None:
    one = settings(lanes=ALL, vm={"replicas": 2, "machine_type": "c3-highcpu-8"})
    assert not any(upstream.further for upstream in upstreams.upstreams(one, vm_address=VM))
    alone = settings(lanes=["vm"], vm={"max_replicas": 3, "machine_type": "c3-highcpu-8"})
    assert not any(upstream.further for upstream in upstreams.upstreams(alone, vm_address=VM)), "there is no pilot"


def _hash(dial: str, mark: str) -> int:
    return xxhash.xxh64_intdigest(f"{dial}{mark}".encode())


def test_nothing_ends_a_request_before_its_time() -> None:
    chosen = settings(gateway={"wait_s": 100, "timeout_s": 200})
    text = caddy_config.document(chosen, vm_address=VM)
    for handler in proxies(chosen):
        assert handler["load_balancing"]["try_duration"] == "100s"
        assert not {"response_header_timeout", "read_timeout", "write_timeout"} & handler["transport"].keys()
    server = caddy_config.render(chosen, vm_address=VM)["apps"]["http"]["servers"]["api"]
    assert not {"read_timeout", "write_timeout"} & server.keys()
    assert "stream_timeout" not in text


@pytest.mark.parametrize(
    ("changes", "wait_s"),
    [
        ({}, 55),
        ({"lanes": ["vm"]}, 55),
        ({"lanes": ALL}, 120),
        ({"gateway": {"timeout_s": 90}}, 45),
        ({"lanes": ALL, "gateway": {"timeout_s": 200}}, 100),
        ({"lanes": ALL, "gateway": {"wait_s": 280}}, 280),
    ],
    ids=json.dumps,
)
def test_who_waits_hears_before_a_proxy_gives_up_and_longer_only_for_a_cold_start(
    changes: dict[str, Any], wait_s: int
) -> None:
    chosen = settings(**changes)
    assert chosen.wait_s == wait_s
    assert {handler["load_balancing"]["try_duration"] for handler in proxies(chosen)} == {f"{wait_s}s"}


def test_the_default_wait_outlasts_burst_s_start_and_its_demand_the_pause_before_the_next_try() -> None:
    assert settings(lanes=ALL).wait_s > BURST_START_S
    assert answers.RETRY_AFTER_S < HOLD_S


def test_a_client_s_key_is_named_and_never_written() -> None:
    key = "a-key-of-its-own-0123456789"
    chosen = settings(clients=[{"name": "robot-lab", "key": key}, {"name": "demo"}])
    text = caddy_config.document(chosen, vm_address=VM)
    assert key not in text
    assert "{env.CLIENT_KEY_ROBOT_LAB}" in text
    assert client_keys.variable("robot-lab") == "CLIENT_KEY_ROBOT_LAB"


@pytest.mark.parametrize("name", ["robot_lab", "Robot", "robot.lab", "1robot", ""])
def test_names_that_could_share_a_variable_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"clients\.0\.name: is refused"):
        settings(clients=[{"name": name}])


def test_nothing_can_be_changed_from_outside_while_it_runs() -> None:
    """A pilot has a socket, which only root of the instance may use; without one there is no way in at all."""
    alone = caddy_config.render(settings(lanes=["vm"]), vm_address=VM)["admin"]
    assert alone == {"disabled": True, "config": {"persist": False}}
    piloted = caddy_config.render(settings(), vm_address=VM)["admin"]
    assert piloted == {"listen": "unix/admin.sock|0600", "config": {"persist": False}}


def test_a_configuration_shares_nothing_with_the_next() -> None:
    """One that is edited in place, as tests do, must not change what is rendered later."""

    def empty(part: object) -> None:
        if isinstance(part, dict | list):
            inside = cast(dict[str, object] | list[object], part)
            for inner in [*inside.values()] if isinstance(inside, dict) else inside:
                empty(inner)
            inside.clear()

    for walk in (["home", "vm"], ["home", "burst", "vm"]):
        first = caddy_config.render(settings(lanes=walk), vm_address=VM, burst_url=BURST_URL)
        text = json.dumps(first)
        empty(first)
        assert json.dumps(caddy_config.render(settings(lanes=walk), vm_address=VM, burst_url=BURST_URL)) == text


def test_too_many_clients_are_refused() -> None:
    caddy_config.require_fits(settings(clients=[{"name": f"c{number}"} for number in range(400)]))
    # Names that can't be packed: real ones are alike, and the first 60,000 bytes of theirs are thousands.
    names = [hashlib.sha512(str(number).encode()).hexdigest() for number in range(400)]
    with pytest.raises(SettingsError, match=r"clients: .* at most 65280 bytes.*Consequence: .*Fix: declare fewer"):
        caddy_config.require_fits(settings(model={"aliases": names}))


def test_the_model_list_names_the_declared_model() -> None:
    text = caddy_config.document(settings(model={"name": "acme/robot-7b"}), vm_address=VM)
    assert "/v1/models/acme/robot-7b" in text
    assert "Qwen" not in text


def test_each_service_is_asked_at_home_under_an_address_of_its_own() -> None:
    """Caddy keeps running requests and failures by the address as it is written."""
    chosen = settings(services=SERVICES, lanes=ALL)
    config = caddy_config.render(chosen, vm_address=VM, burst_url=BURST_URL)
    text = json.dumps(config)
    own = [home for _, home in upstreams.service_upstreams(chosen)]
    assert [home.dial for home in own] == ["home:080", "home:0080", "home:00080"]
    assert {home.address for home in own} == {"home:80"}
    routes = config["apps"]["http"]["servers"]["checks"]["routes"]
    checks = {
        route["match"][0]["header"]["X-Lane"][0]: route["handle"][0] for route in routes if "X-Lane" in str(route)
    }
    for service, home in upstreams.service_upstreams(chosen):
        assert text.count(f'"dial": "{home.dial}"') == 2, "for small and large bodies"
        check = checks[home.dial]
        assert check["upstreams"] == [{"dial": f"tcp/{home.dial}"}]
        assert check["headers"]["request"]["set"]["Host"] == [service.name]
        assert check["rewrite"]["uri"] == service.health


def test_dozens_of_services_fit_a_secret() -> None:
    many = [{"name": f"s{n}", "image": "ghcr.io/a/b:1.2.3", "model": f"m{n}", "paths": [f"/v1/s{n}"], "slices": 0}
            for n in range(160)]  # fmt: skip
    text = caddy_config.document(settings(services=[SERVICES[0], *many], lanes=ALL), vm_address=VM, burst_url=BURST_URL)
    assert len(text) > 13 * caddy_config.SECRET_LIMIT
    assert len(caddy_config.packed(text)) < caddy_config.SECRET_LIMIT / 4


# --- with burst ------------------------------------------------------------------------------------------------------


def test_burst_stands_between_home_and_vm_and_counts_as_declared() -> None:
    values = {"lanes": ALL, "burst": {"max_requests": 7}, "vm": {"max_requests": 2, "replicas": 3}}
    for handler in proxies(settings(**values)):
        assert handler["upstreams"] == [
            {"dial": "home:80", "max_requests": 8},
            {"dial": "127.0.0.1:9181", "max_requests": 7},
            {"dial": f"{VM}:9931", "max_requests": 6},
            {"dial": NONE},
            *([{"dial": line.DIAL}, {"dial": pause.DIAL}] if "request_buffers" in handler else []),
        ]


KIB = 1024
SLOW = {"machine_type": "e2-highmem-2", "speed": {"prompt": 4.6, "picture": 4.65, "answer": 2.0}}
FAST = {"machine_type": "c3-highcpu-8", "speed": {"prompt": 50, "picture": 29, "answer": 8}}


@pytest.mark.parametrize(
    ("gateway", "sizes"),
    [
        ({}, [("picture-streamed", 4096), ("picture-replayed", 64), ("long-replayed", 2), ("short-replayed", None)]),
        (
            {"short_kib": 3, "text_kib": 100, "replay_limit_mib": 1},
            [("picture-streamed", 1024), ("picture-replayed", 100), ("long-replayed", 3), ("short-replayed", None)],
        ),
        ({"text_kib": 4096}, [("picture-streamed", 4096), ("long-replayed", 2), ("short-replayed", None)]),
    ],
)
@pytest.mark.parametrize("lanes", [ALL, ["home", "vm"], ["burst", "vm"]])
def test_size_decides_on_replay_and_on_the_vm(
    lanes: list[str], gateway: dict[str, int], sizes: list[tuple[str, int | None]]
) -> None:
    chosen = settings(lanes=lanes, gateway=gateway, vm=FAST)
    found = walks(chosen, upstreams.upstreams(chosen, vm_address=VM))
    assert [(walk.name, walk.above and walk.above // KIB) for walk in found] == sizes
    for walk in found:
        size, handling = walk.name.split("-")
        assert walk.handler["health_checks"]["active"]["headers"]["X-Size"] == [size]
        assert ("request_buffers" in walk.handler) == ("retry_match" in walk.handler["load_balancing"])
        assert ("request_buffers" in walk.handler) == (handling == "replayed")


@pytest.mark.parametrize(
    ("lanes", "asked"), [(["home"], ""), (["burst"], ""), (["home", "burst"], "/lane/home/"), (["vm"], "")]
)
def test_without_a_vm_beside_another_lane_a_size_means_nothing(lanes: list[str], asked: str) -> None:
    """Whether home is left is asked with one size for all, where there is another lane."""
    chosen = settings(lanes=lanes, vm=FAST)
    found = walks(chosen, upstreams.upstreams(chosen, vm_address=VM))
    assert [(walk.name, walk.above and walk.above // KIB) for walk in found] == [("streamed", 4096), ("replayed", None)]
    text = caddy_config.document(chosen, vm_address=VM, burst_url=BURST_URL)
    assert NONE not in text
    assert "/lane/vm/" not in text
    for word in ("X-Size", "/lane/home/"):
        assert (word in text) == bool(asked)
    for walk in found:
        assert walk.handler["health_checks"]["active"]["headers"].get("X-Size") == (["short"] if asked else None)


@pytest.mark.parametrize(
    ("timeout_s", "sizes"),
    [
        (300, ["picture-refused", "long-replayed", "short-replayed"]),
        (200, ["picture-refused", "long-refused", "short-replayed"]),
        (600, ["streamed", "replayed"]),
    ],
)
def test_what_the_vm_alone_never_answers_in_time_is_refused_with_the_seconds(timeout_s: int, sizes: list[str]) -> None:
    gateway = {"timeout_s": timeout_s, "wait_s": timeout_s - 1}
    chosen = settings(lanes=["vm"], gateway=gateway, vm=SLOW)
    found = walks(chosen, upstreams.upstreams(chosen, vm_address=VM))
    assert [walk.name for walk in found] == sizes
    for walk in found:
        if walk.name.endswith("refused"):
            assert walk.handler["status_code"] == 503
            assert walk.handler["headers"]["Retry-After"] == ["60"]
            error = json.loads(walk.handler["body"])["error"]
            seconds = {"picture-refused": 390, "long-refused": 261}[walk.name]
            assert (error["code"], f"begins after about {seconds} s;" in error["message"]) == ("too_slow", True), error


def test_the_hop_alone_knows_token_and_tls() -> None:
    found = server("burst")
    assert found["listen"] == ["127.0.0.1:9181"]
    proxy = found["routes"][2]["handle"][0]
    assert proxy["upstreams"] == [{"dial": "pilotlight-burst-abc-ew.a.run.app:443"}]
    assert proxy["transport"]["tls"] == {"server_name": "pilotlight-burst-abc-ew.a.run.app", "handshake_timeout": "2s"}
    request = proxy["headers"]["request"]
    assert request["delete"] == ["*"]
    assert request["set"]["Host"] == ["pilotlight-burst-abc-ew.a.run.app"]
    assert request["set"]["X-Serverless-Authorization"] == ["Bearer {http.vars.token}"]
    assert "Authorization" not in request["set"]
    refused = [entry["match"] for entry in proxy["handle_response"]]
    assert refused[0] == {"status_code": [401, 403, 429, 502, 503, 504]}
    assert refused[1] == {"status_code": [500], "headers": {"Content-Type": ["text/*"]}}
    assert "token" not in json.dumps([server("api"), server("checks")])


@pytest.mark.parametrize("url", ["", "http://burst.example.com", "http://10.0.0.1:80", "burst.example.com", "https://"])
def test_the_token_never_travels_in_the_clear(url: str) -> None:
    with pytest.raises(ValueError, match="burst's address must be https://"):
        server("burst", url=url)


def test_on_this_machine_burst_may_be_plain() -> None:
    proxy = server("burst", url="http://127.0.0.3:8799")["routes"][2]["handle"][0]
    assert (proxy["upstreams"], "tls" in proxy["transport"]) == ([{"dial": "127.0.0.3:8799"}], False)


def test_only_the_pilot_s_volume_leads_to_caddy_s_control() -> None:
    config = caddy_config.render(settings(lanes=ALL), vm_address=VM, burst_url=BURST_URL)
    assert config["admin"] == {"listen": "unix/admin.sock|0600", "config": {"persist": False}}
    assert config["apps"]["http"]["metrics"] == {}
    assert {name: found["listen"] for name, found in config["apps"]["http"]["servers"].items()} == {
        "api": [":{env.PORT}", "127.0.0.1:9184"], "checks": ["127.0.0.1:9180"], "burst": ["127.0.0.1:9181"],
        "refusal": [NONE], "line": [line.DIAL], "pause": [pause.DIAL],
    }  # fmt: skip


def test_without_burst_nothing_leads_to_it() -> None:
    text = caddy_config.document(settings(), vm_address=VM, burst_url=BURST_URL)
    for word in ("9181", "run.app", "id-token", "/lane/burst"):
        assert word not in text


def test_the_vm_alone_has_no_pilot() -> None:
    text = caddy_config.document(settings(lanes=["vm"]), vm_address=VM)
    for word in ("9182", "9183", "9186", "X-Line", "X-Gate", "admin.sock", "metrics", "/v1/lanes", "X-Size"):
        assert word not in text


def test_the_limit_leaves_room_for_any_address() -> None:
    assert len(burst_hop.WIDEST_URL) > len(BURST_URL)
    chosen = settings(lanes=ALL)

    def size(vm: str, url: str) -> int:
        return len(caddy_config.packed(caddy_config.document(chosen, vm_address=vm, burst_url=url)))

    widest = size(caddy_config.WIDEST_ADDRESS, burst_hop.WIDEST_URL)
    for number in range(50):
        name = hashlib.sha512(str(number).encode()).hexdigest()[:63]
        assert size(f"10.{number}.2{number}.137", f"https://{name}-ew.a.run.app") < widest + caddy_config.ROOM
