"""What clients with a priority, lanes or a limit of their own must see, and what a pin does: one function each.

`test_routing_clients` runs them against the rendered configuration, and against configurations with one rule taken out.
"""

import json
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import openai
import pytest

from components.gateway.caddy import config as caddy_config
from components.settings import Settings, client_keys
from tests.gateway import routing
from tests.gateway.backends import Behaviour, Lane
from tests.gateway.routing import AT_ONCE_S, LARGE, SMALL, Check, ask, sha256
from tests.gateway.routing_checks import TOLD
from tests.gateway.world import VM_ADDRESS, Answer, World
from tests.kit import happens, until

FREE = "/v1/completions"
"""Requests for it are answered at once, where a check says so."""
SLOTS = 4
LIMITS = {"paying": 4, "demo": 3, "batch": 2}
WAIT_S = 2
FEW = 2
CLIENTS: list[dict[str, object]] = [
    {"name": "demo"},
    {"name": "paying", "priority": "high"},
    {"name": "batch", "priority": "background"},
    {"name": "private", "lanes": ["home"]},
    {"name": "cloud", "lanes": ["vm", "burst"]},
    {"name": "few", "priority": "high", "max_requests": FEW},
]
SERVICES = [{"name": "vllm", "preset": "model"}, {"name": "tts", "preset": "tts"}]


def settings(wait_s: int = WAIT_S) -> Settings:
    return routing.settings(
        lanes=["home", "burst", "vm"],
        clients=CLIENTS,
        services=SERVICES,
        gateway={"wait_s": wait_s, "timeout_s": 60, "request_limit_mib": 24},
        home={"max_requests": SLOTS},
        burst={"max_requests": SLOTS},
        vm={"max_requests": SLOTS, "machine_type": "c3-highcpu-8"},
    )


def rendered(here: World, wait_s: int = WAIT_S) -> dict[str, Any]:
    url = f"http://{here.burst.host}:{here.burst.port}"
    return caddy_config.render(settings(wait_s), vm_address=VM_ADDRESS, burst_url=url)


def key(client: str) -> str:
    return f"{client}-key-0123456789"


def environment() -> dict[str, str]:
    own = {client_keys.variable(str(client["name"])): key(str(client["name"])) for client in CLIENTS[1:]}
    return routing.environment(settings()) | own


def of(client: str) -> dict[str, str]:
    return {} if client == "demo" else {"Authorization": f"Bearer {key(client)}"}


def toys(here: World) -> list[Lane]:
    return [here.home, here.burst, here.vm]


def all_up(here: World) -> None:
    """Every lane takes requests of every class, and nobody remembers a failure."""
    here.heal()
    here.pilot.says["/lane/burst"] = 200
    for client, lane in (("demo", "home"), ("batch", "home"), ("private", "home"), ("paying", "home")):
        for body in (SMALL, LARGE):
            until(lambda c=client, b=body, n=lane: here.call(body=b, **of(c)).lane == n, f"{lane} serves {client}")
    for lane in ("home", "burst", "vm"):
        until(lambda n=lane: here.call(X_Lane=n).lane == n, f"{lane} serves who names it")
    for body in (SMALL, LARGE):
        until(lambda b=body: here.call(body=b, **of("cloud")).lane == "burst", "burst serves cloud")
    for toy in toys(here):
        toy.reset()


# --- priority ---------------------------------------------------------------------------------------------------------


def one_by_one(here: World, callers: ThreadPoolExecutor, client: str, count: int) -> list[Future[Answer]]:
    """Callers who stay: Caddy looks for a slot and takes it in two steps, so two at once could both get the last."""
    found: list[Future[Answer]] = []
    for _ in range(count):
        before = sum(toy.running for toy in toys(here))
        found.append(callers.submit(here.call, body=SMALL, **of(client)))
        until(lambda seen=before: sum(toy.running for toy in toys(here)) > seen, f"{client} has a slot")
    return found


def nobody_takes_the_slots_of_a_higher_priority(here: World) -> None:
    """All that the background may have is taken, and its line is long; so with the normal ones. Nobody waits above."""
    for toy in toys(here):
        toy.behaviour = Behaviour(hold=True)
        toy.by_path = {FREE: Behaviour()}
    with ThreadPoolExecutor(60) as callers:
        try:
            one_by_one(here, callers, "batch", 3 * LIMITS["batch"])
            waiting = [callers.submit(here.call, body=SMALL, **of("batch")) for _ in range(20)]
            for client in ("demo", "paying"):
                for _ in range(5):
                    # On any lane: Caddy may still count the one before at home for a moment after his answer.
                    answer = here.call(path=FREE, body=SMALL, **of(client))
                    assert answer.status == 200, "and not 503, when nobody else has ended"
            one_by_one(here, callers, "demo", 3)
            waiting += [callers.submit(here.call, body=SMALL) for _ in range(10)]
            for _ in range(10):
                answer = here.call(path=FREE, body=SMALL, **of("paying"))
                assert answer.status == 200
            assert [toy.running for toy in toys(here)] == [LIMITS["demo"]] * 3
            assert {call.result().error["code"] for call in waiting} == {"no_lane"}
        finally:
            for toy in toys(here):
                toy.release()


def the_next_free_slot_is_the_higher_priority_s(here: World) -> None:
    """Home, burst, VM and the line are full; then all of home's slots are free at once."""
    for toy in toys(here):
        toy.behaviour = Behaviour(hold=True)
    with ThreadPoolExecutor(60) as callers:
        try:
            for client, count in (("batch", 6), ("demo", 3), ("paying", 3)):
                one_by_one(here, callers, client, count)
            assert [toy.running for toy in toys(here)] == [SLOTS] * 3
            line = [callers.submit(here.call, body=SMALL, **of(client)) for client in ["batch"] * 20 + ["demo"] * 5]
            time.sleep(0.3)
            begun = here.home.begun
            late = callers.submit(here.call, body=SMALL, X_Request_Id="late", **of("paying"))
            time.sleep(0.2)
            here.home.behaviour = Behaviour(delay=0.5)
            here.home.release()
            answer = late.result()
            assert (answer.status, answer.lane) == (200, "home")
            order = [received.headers["x-request-id"] for received in here.home.received[begun:]]
            assert order.index("late") < SLOTS, "among the first who got a slot"
            for toy in toys(here):
                toy.behaviour = Behaviour()
                toy.release()
            assert {call.result().status for call in line} == {200}
        finally:
            for toy in toys(here):
                toy.behaviour = Behaviour()
                toy.release()


# --- lanes of a client's own ------------------------------------------------------------------------------------------


def stays_at_home(here: World, statuses: set[int], *, lasting: bool = True) -> None:
    """Whatever its size: an answer of home's or the gateway's, and no byte of it on another lane."""
    here.burst.reset()
    here.vm.reset()
    for body in (SMALL, LARGE):
        answer = here.call(body=body, **of("private"))
        assert answer.status in statuses, answer
        assert answer.lane in ("home", "gateway", "")
        if lasting:
            answer = here.call(path="/v1/audio/speech", body=body, **of("private"))
            assert answer.lane in ("home", "gateway", "")
    assert (here.burst.begun, here.vm.begun) == (0, 0)


def others_go_on(here: World) -> None:
    """The lanes that the private client doesn't get are up."""
    until(lambda: here.call(body=SMALL).lane == "burst", "another client is served elsewhere")


def a_private_client_has_home(here: World) -> None:
    stays_at_home(here, {200})
    with here.held(here.home, SLOTS, **of("paying")):
        stays_at_home(here, {503}, lasting=False)


def a_private_client_when_home_is_refused(here: World) -> None:
    here.home.down()
    stays_at_home(here, {503})
    others_go_on(here)
    stays_at_home(here, {503})


def a_private_client_when_home_refuses(here: World) -> None:
    for status in (502, 503, 504):
        here.home.behaviour = Behaviour(status=status)
        stays_at_home(here, {503})


def a_private_client_when_home_answers_500(here: World) -> None:
    here.home.behaviour = Behaviour(status=500, body=TOLD)
    stays_at_home(here, {500})
    here.pilot.says["/lane/home/alone"] = 503
    assert happens(lambda: here.call(body=SMALL, **of("private")).status == 503), "once the pilot says that it is sick"
    stays_at_home(here, {503, 500})


def a_private_client_when_home_is_black_holed(here: World) -> None:
    here.home.behaviour = Behaviour(check_delay=60)
    assert happens(lambda: here.call(body=SMALL, **of("private")).status == 503)
    here.home.behaviour = Behaviour(check_delay=60, hold=True)
    stays_at_home(here, {503}, lasting=False)
    others_go_on(here)


def a_client_without_home_has_the_rest(here: World) -> None:
    assert [here.call(body=body, **of("cloud")).lane for body in (SMALL, LARGE)] == ["burst"] * 2
    here.pilot.says["/lane/burst"] = 503
    here.pilot.says |= {f"/lane/vm/{size}": 503 for size in ("short", "long", "picture")}
    assert happens(lambda: here.call(body=SMALL, **of("cloud")).lane == "vm"), "though home would be sooner"
    here.vm.down()
    answer = here.call(body=SMALL, **of("cloud"))
    assert (answer.status, answer.lane) == (503, "gateway")
    answer = here.call(path="/v1/audio/speech", body=SMALL, **of("cloud"))
    assert (answer.status, answer.lane, answer.error["code"]) == (403, "gateway", "lane_not_allowed")
    assert here.home.begun == 0


# --- pins -------------------------------------------------------------------------------------------------------------


def a_pin_is_obeyed_and_never_passed_on(here: World) -> None:
    for toy in toys(here):
        for body in (SMALL, LARGE):
            answer = here.call(body=body, X_Lane=toy.name)
            assert (answer.status, answer.lane) == (200, toy.name)
            assert toy.received[-1].sha256 == sha256(body)
            assert "x-lane" not in toy.received[-1].headers
    here.pilot.says |= {f"/lane/vm/{size}": 503 for size in ("short", "long", "picture")}
    time.sleep(1)
    assert here.call(body=SMALL, X_Lane="vm").lane == "vm", "however late it is"
    assert here.call("GET", "/v1/models", None, X_Lane="vm").status == 200


def a_pin_is_for_lanes_that_the_client_has(here: World) -> None:
    for client, value, status, code, told in [
        ("demo", "attic", 400, "unknown_lane", "This key may name: home, burst, vm."),
        ("demo", "home:80", 400, "unknown_lane", "This key may name: home, burst, vm."),
        ("demo", "{env.CLIENT_KEY_DEMO}", 400, "unknown_lane", "This key may name: home, burst, vm."),
        ("demo", "", 400, "unknown_lane", "This key may name: home, burst, vm."),
        ("private", "vm", 403, "lane_not_allowed", "This key may name: home."),
        ("private", "attic", 400, "unknown_lane", "This key may name: home."),
        ("cloud", "home", 403, "lane_not_allowed", "This key may name: burst, vm."),
    ]:
        for path in ("/v1/chat/completions", "/v1/audio/speech"):
            answer = here.call(path=path, body=SMALL, X_Lane=value, **of(client))
            assert (answer.status, answer.error["code"], answer.lane) == (status, code, "gateway"), (client, value)
            assert told in answer.error["message"]
    head = f"POST /v1/completions HTTP/1.1\r\nContent-Length: {len(SMALL)}\r\nX-Lane: home\r\nX-Lane: vm"
    assert here.raw(head, SMALL)[9:12] == b"400", "one lane, not two"
    answer = here.call(path="/v1/audio/speech", body=SMALL, X_Lane="vm")
    assert (answer.status, answer.error["code"]) == (403, "lane_not_allowed")
    assert here.call(path="/v1/audio/speech", body=SMALL, X_Lane="home").lane == "home"
    assert [here.call(body=SMALL, X_Lane="home", **of(client)).lane for client in ("private", "batch")] == ["home"] * 2
    assert (here.burst.begun, here.vm.begun, here.home.begun) == (0, 0, 3)


def a_pin_waits_for_its_lane(here: World) -> None:
    for toy in toys(here):
        toy.down()
        if toy is here.burst:
            here.pilot.says["/lane/burst"] = 503
            until(lambda: here.call(X_Lane="burst").status == 503, "burst is cold")
        begun = [other.begun for other in toys(here)]
        answer = here.call(X_Lane=toy.name)
        assert (answer.status, answer.error["code"], answer.lane) == (503, "no_lane", "gateway")
        assert [other.begun for other in toys(here)] == begun, "nobody else answers"
        toy.up()
        here.pilot.says["/lane/burst"] = 200
        until(lambda name=toy.name: here.call(X_Lane=name).lane == name, f"{toy.name} serves again")


def a_pin_keeps_to_its_client_s_priority(here: World) -> None:
    with here.held(here.vm, LIMITS["batch"], X_Lane="vm", **of("batch")):
        answer = here.call(body=SMALL, X_Lane="vm", **of("batch"))
        assert (answer.status, answer.lane) == (503, "gateway")
        here.vm.by_path = {FREE: Behaviour()}
        assert here.call(path=FREE, body=SMALL, X_Lane="vm").lane == "vm"


# --- how many at a time -----------------------------------------------------------------------------------------------


def a_client_s_own_limit_holds(here: World) -> None:
    here.home.by_path = {FREE: Behaviour()}
    with here.held(here.home, FEW, **of("few")):
        assert here.call(path=FREE, body=SMALL).lane == "home", "others are not concerned"
        answer = here.call(path=FREE, body=SMALL, **of("few"))
        assert (answer.status, answer.error["code"], answer.lane) == (429, "rate_limit_exceeded", "gateway")
        assert (answer.error["type"], answer.headers["retry-after"]) == ("requests", "5")
        assert WAIT_S <= answer.seconds < WAIT_S + AT_ONCE_S
        assert here.call("GET", "/v1/models", None, **of("few")).status == 200
        assert here.call("PUT", FREE, SMALL, **of("few")).status == 405, "what is refused anyway has no turn"
        with pytest.raises(openai.RateLimitError):
            ask(here.sdk(key("few")))
        late: list[Answer] = []
        waiting = threading.Thread(target=lambda: late.append(here.call(body=SMALL, X_Request_Id="w", **of("few"))))
        waiting.start()
        time.sleep(0.5)
        assert late == []
        here.home.release()
        waiting.join(30)
    assert [(a.status, a.lane, a.headers["x-request-id"]) for a in late] == [(200, "home", "w")]


def a_turn_changes_nothing_else(here: World) -> None:
    for body in (SMALL, LARGE):
        plain, own = (here.call(body=body, X_Request_Id="r", Cookie="a=b", **of(client)) for client in ("demo", "few"))
        assert (own.status, own.lane, own.headers["x-request-id"]) == (200, "home", "r")
        assert own.headers.keys() == plain.headers.keys()
        assert here.home.received[-1] == here.home.received[-2]
        assert here.home.received[-1].sha256 == sha256(body)
    assert here.call(path="/v1/audio/speech", body=SMALL, **of("few")).lane == "home"
    assert here.call(body=SMALL, X_Lane="vm", **of("few")).lane == "vm"
    assert here.call(body=b"x" * (25 * 1024 * 1024), **of("few")).status == 413
    here.home.behaviour = Behaviour(status=400, body=TOLD)
    answer = here.call(body=SMALL, **of("few"))
    assert (answer.status, answer.body) == (400, TOLD)


def a_turn_holds_no_token_back(here: World) -> None:
    here.home.behaviour = Behaviour(tokens=[0.0] * 5, step=True)
    seen: list[str] = []
    with here.sdk(key("few")).chat.completions.with_streaming_response.create(
        model="m", messages=[{"role": "user", "content": "hello"}], stream=True
    ) as response:
        here.home.release()
        for line in filter(None, response.iter_lines()):
            seen.append(line)
            here.home.release()
    assert seen == [f'data: {{"index": {index}}}' for index in range(5)]


def who_leaves_gives_his_turn_back(here: World) -> None:
    here.home.behaviour = Behaviour(hold=True)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(SMALL)}\r\nHost: x"
    for count in range(1, FEW + 2):
        with socket.create_connection(("127.0.0.1", here.port), timeout=here.patience) as connection:
            connection.sendall(f"{head}\r\nAuthorization: Bearer {key('few')}\r\n\r\n".encode() + SMALL)
            until(lambda: here.home.running == 1, "it is at home")
        assert happens(lambda seen=count: here.home.gone == seen), "the engine stops working for nobody"


CHECKS: list[Check] = [
    nobody_takes_the_slots_of_a_higher_priority, the_next_free_slot_is_the_higher_priority_s,
    a_private_client_has_home, a_private_client_when_home_is_refused, a_private_client_when_home_refuses,
    a_private_client_when_home_answers_500, a_private_client_when_home_is_black_holed,
    a_client_without_home_has_the_rest, a_pin_is_obeyed_and_never_passed_on,
    a_pin_is_for_lanes_that_the_client_has, a_pin_waits_for_its_lane, a_pin_keeps_to_its_client_s_priority,
    a_client_s_own_limit_holds, a_turn_changes_nothing_else, a_turn_holds_no_token_back, who_leaves_gives_his_turn_back,
]  # fmt: skip

LONG = {
    a_private_client_when_home_is_refused, a_private_client_when_home_refuses,
    a_private_client_when_home_is_black_holed,
}  # fmt: skip
"""They take some 20 s each, nearly all of it waiting."""


def log_lines(log: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.splitlines()]
    return [line for line in lines if line.get("message") == "handled request"]


def logged(here: World, *names: str) -> None:
    """Until these requests are in the log: Caddy writes a line after its answer."""
    until(lambda: all(f'"request_id":"{name}"' in (here.folder / "log").read_text() for name in names), f"{names}")
