"""What callers, lanes and the pilot must see of a gateway with burst, one function of the world each.

`test_routing_burst` runs them against the rendered configuration and against broken ones. Home is mostly away.
"""

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from components.gateway.caddy import config as caddy_config
from components.settings import Settings
from tests.gateway.backends import Behaviour
from tests.gateway.routing import AT_ONCE_S, LARGE, SMALL, Check, environment, sha256
from tests.gateway.routing import settings as plain
from tests.gateway.routing_checks import TOLD
from tests.gateway.world import KEY, TOKEN, VM_ADDRESS, Answer, World
from tests.kit import happens, until

TEXT = LARGE[:500_000]
"""Longer than `gateway.short_kib`, as `SMALL` is not."""
REPLAYED = LARGE[:2_000_000]
"""Larger than `gateway.text_kib`, small enough to be replayed."""
STREAMED = LARGE[:5_000_000]
SIZES = {"short": [SMALL], "long": [TEXT], "picture": [REPLAYED, STREAMED]}
HTML = {"Content-Type": "text/html; charset=UTF-8"}


def settings() -> Settings:
    vm = {"max_requests": 2}
    # Who waits for burst does so until Caddy has asked the pilot, which takes a moment on a busy machine.
    gateway = {"wait_s": 5, "timeout_s": 60, "request_limit_mib": 24, "short_kib": 200, "text_kib": 1024}
    return plain(gateway=gateway, lanes=["home", "burst", "vm"], burst={"max_requests": 4}, vm=vm)


def rendered(here: World, burst_url: str = "") -> dict[str, Any]:
    url = burst_url or f"http://{here.burst.host}:{here.burst.port}"
    return caddy_config.render(settings(), vm_address=VM_ADDRESS, burst_url=url)


@contextlib.contextmanager
def started(here: World, config: dict[str, Any], first: str = "vm") -> Generator[None]:
    """Caddy, without home."""
    here.heal()
    here.home.down()
    with here.caddy(config, environment(settings()), first=first, heal=False):
        yield


def cold(here: World) -> None:
    """Home is away, burst is cold, nobody remembers a failure."""
    here.heal()
    here.token(TOKEN)
    here.home.down()
    # Any failure of the VM or burst is forgotten once they are chosen again.
    here.vm.behaviour.healthy = False
    here.pilot.says["/lane/burst"] = 200
    assert happens(lambda: here.call().lane == "burst")
    here.vm.behaviour.healthy = True
    here.pilot.says["/lane/burst"] = 503
    assert happens(lambda: here.call().lane == "vm")
    for toy in (here.home, here.burst, here.vm):
        toy.reset()


def warm(here: World) -> None:
    here.pilot.says["/lane/burst"] = 200
    assert happens(lambda: here.call().lane == "burst")
    assert happens(lambda: here.call(body=REPLAYED).lane == here.call(body=STREAMED).lane == "burst")
    here.burst.reset()
    here.vm.reset()


def later(here: World, body: bytes = SMALL) -> tuple[threading.Thread, list[Answer]]:
    """A caller who waits."""
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(here.call(body=body)))
    thread.start()
    return thread, answers


def vm_answers(here: World) -> bool:
    answer = here.call(body=SMALL)
    assert (answer.status, answer.lane) == (200, "vm")
    return True


def asked_again(here: World, path: str) -> None:
    """Until each of Caddy's handlers (pictures have two) has asked twice: they have the first answer by then."""
    count = here.pilot.asked.count(path) + (5 if path.endswith("picture") else 2)
    until(lambda: here.pilot.asked.count(path) >= count, f"Caddy asks for {path}")


# --- checks ----------------------------------------------------------------------------------------------------------


def cold_burst_gets_nothing(here: World) -> None:
    with here.held(here.vm, 2):
        waiting, answers = later(here)
        time.sleep(0.5)
        assert (answers, here.burst.begun, here.vm.most) == ([], 0, 2)
        here.pilot.says["/lane/burst"] = 200
        waiting.join(30)
        assert [(a.status, a.lane) for a in answers] == [(200, "burst")]
        assert here.burst.received[0].sha256 == sha256(SMALL)


def warm_burst_is_first_and_the_vm_its_backup(here: World) -> None:
    warm(here)
    assert {here.call().lane for _ in range(10)} == {"burst"}
    with here.held(here.burst, 4):
        assert here.call().lane == "vm"
    here.burst.down()
    first = here.call(body=SMALL)
    assert (first.status, first.lane, first.seconds < AT_ONCE_S) == (200, "vm", True)
    assert here.vm.received[-1].sha256 == sha256(SMALL)


def cloud_run_s_own_answers_are_never_seen(here: World) -> None:
    warm(here)
    for status in (429, 500):
        here.burst.behaviour = Behaviour(status=status, headers=HTML, body=b"<html>")
        count = here.burst.begun
        assert happens(lambda seen=count: vm_answers(here) and here.burst.begun > seen), "burst is tried again"
        assert here.vm.received[-1].sha256 == sha256(SMALL)
    here.burst.behaviour = Behaviour(status=500, body=TOLD)
    assert happens(lambda: here.call(body=STREAMED).body == TOLD), "the engine's own words pass"
    until(lambda: "burst answered 429" in (here.folder / "log").read_text(), "the owner gets to know")


def all_at_home_and_warm(here: World) -> None:
    warm(here)
    here.home.up()
    assert happens(lambda: {here.call(body=body).lane for body in (SMALL, REPLAYED, STREAMED)} == {"home"})
    for toy in (here.home, here.burst, here.vm):
        toy.reset()


def attempts(here: World) -> tuple[int, int, int]:
    return here.home.begun, here.burst.begun, here.vm.begun


def a_500_goes_on_to_the_next_lane_that_is_up(here: World) -> None:
    all_at_home_and_warm(here)
    walk = {"home": (1, 0, 0), "burst": (1, 1, 0), "vm": (1, 1, 1)}
    for body in (SMALL, REPLAYED):
        for toy in (here.home, here.burst, here.vm):
            answer = here.call(body=body)
            assert (answer.status, answer.lane, attempts(here)) == (200, toy.name, walk[toy.name]), (
                "nobody is left alone"
            )
            assert toy.received[-1].sha256 == sha256(body)
            toy.behaviour = Behaviour(status=500, body=toy.name.encode())
            for other in (here.home, here.burst, here.vm):
                other.begun = 0
        answer = here.call(body=body)
        assert (answer.status, answer.lane, answer.body, attempts(here)) == (500, "vm", b"vm", walk["vm"])
        for toy in (here.home, here.burst, here.vm):
            toy.reset()
    here.pilot.says["/lane/burst"] = 503
    here.home.behaviour = Behaviour(status=500)
    assert happens(lambda: here.call().lane == "vm")
    here.burst.reset()
    assert (here.call().lane, here.burst.begun) == ("vm", 0), "a cold burst is passed over"


def a_500_walks_in_no_circle(here: World) -> None:
    all_at_home_and_warm(here)
    with here.held(here.home, 2), here.held(here.burst, 4), here.held(here.vm, 2):
        here.burst.behaviour = Behaviour(status=500, body=TOLD)
        here.burst.release()
        until(lambda: here.burst.running == 0, "burst is free again")
        begun = attempts(here)
        answer = here.call()
        assert (answer.status, answer.lane, answer.body) == (500, "burst", TOLD)
        assert (attempts(here), answer.seconds < AT_ONCE_S) == ((begun[0], begun[1] + 2, begun[2]), True)
        here.home.behaviour = Behaviour(status=500, body=b"home's")
        here.home.release()
        until(lambda: here.home.running == 0, "home is free again")
        begun = attempts(here)
        answer = here.call()
        assert (answer.status, answer.lane, answer.body) == (500, "home", b"home's")
        assert attempts(here) == (begun[0] + 2, begun[1] + 1, begun[2])


def broken_after_it_began_is_visible(here: World) -> None:
    warm(here)
    here.burst.behaviour = Behaviour(tokens=[0, 0.1, 0.1], die_in_stream=True)
    answer = here.call()
    assert (answer.status, "IncompleteRead" in answer.body.decode()) == (0, True)
    assert (here.burst.begun, here.vm.begun) == (1, 0)


def gone_caller_frees_burst(here: World) -> None:
    warm(here)
    here.burst.behaviour = Behaviour(hold=True)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(SMALL)}"
    here.raw(head, SMALL, until=lambda: here.burst.running == 1)
    assert happens(lambda: here.burst.gone == 1), "the GPU stops working for nobody"


def without_a_pilot_home_and_vm_serve(here: World) -> None:
    def lanes() -> set[str]:
        return {here.call(body=body).lane for body in (SMALL, REPLAYED, STREAMED)}

    for wedged in (True, False):
        here.home.down()
        here.pilot.says |= {f"/lane/home/{size}": 503 for size in SIZES}
        warm(here)
        if wedged:
            here.pilot.behaviour.check_delay = 30
        else:
            here.pilot.down()
        assert happens(lambda: lanes() == {"vm"}), "nobody says that burst is warm; the VM's own health decides"
        here.burst.reset()
        for _ in range(5):
            assert lanes() == {"vm"}
        # The last that it said of home doesn't last.
        here.home.up()
        assert happens(lambda: lanes() == {"home"})
        assert here.burst.begun == 0
        here.pilot.behaviour.check_delay = 0


def a_size_skips_the_vm_while_it_would_be_later(here: World) -> None:
    """While the pilot says so, and it alone; who waits goes there once the pilot says otherwise."""
    for size, bodies in SIZES.items():
        for body in bodies:
            here.pilot.says[f"/lane/vm/{size}"] = 503
            asked_again(here, f"/lane/vm/{size}")
            waiting, answers = later(here, body)
            others = [other for name, found in SIZES.items() if name != size for other in found]
            assert {here.call(body=other).lane for other in others} == {"vm"}
            assert (answers, here.burst.begun) == ([], 0)
            here.pilot.says[f"/lane/vm/{size}"] = 200
            waiting.join(30)
            assert [(a.status, a.lane) for a in answers] == [(200, "vm")], size
            assert here.vm.received[-1].sha256 == sha256(body)


def a_sick_home_is_left_as_if_it_were_down(here: World) -> None:
    """Though its own check says that it is well; by size, and back as soon as the pilot says so."""
    here.home.up()
    assert happens(lambda: {here.call(body=body).lane for found in SIZES.values() for body in found} == {"home"})
    for size, bodies in SIZES.items():
        here.pilot.says[f"/lane/home/{size}"] = 503
        asked_again(here, f"/lane/home/{size}")
        assert {here.call(body=body).lane for body in bodies} == {"vm"}
        others = [other for name, found in SIZES.items() if name != size for other in found]
        assert {here.call(body=other).lane for other in others} == {"home"}
        here.pilot.says[f"/lane/home/{size}"] = 200
        asked_again(here, f"/lane/home/{size}")
        assert {here.call(body=body).lane for body in bodies} == {"home"}
    here.home.down()
    assert happens(lambda: here.call().lane == "vm"), "a home that is down is down, whatever the pilot says"


def who_is_spared_the_vm_gets_the_next_lane_that_is_up(here: World) -> None:
    here.pilot.says |= {f"/lane/vm/{size}": 503 for size in SIZES}
    for size in SIZES:
        asked_again(here, f"/lane/vm/{size}")
    callers = [later(here, body) for bodies in SIZES.values() for body in bodies]
    time.sleep(0.5)
    assert (here.vm.begun, here.burst.begun) == (0, 0)
    here.pilot.says["/lane/burst"] = 200
    for caller, _ in callers:
        caller.join(30)
    assert {(a.status, a.lane) for _, answers in callers for a in answers} == {(200, "burst")}
    here.vm.down()
    here.pilot.says |= {"/lane/burst": 503} | {f"/lane/vm/{size}": 200 for size in SIZES}
    asked_again(here, "/lane/vm/picture")
    assert here.call(body=STREAMED).error["code"] == "no_lane", "a dead VM is dead, whatever the pilot says"


def too_slow(answer: Answer) -> bool:
    return (answer.status, answer.lane, answer.error["code"]) == (503, "gateway", "too_slow")


def what_comes_too_late_is_refused_at_once(here: World) -> None:
    """One size, in a second, with a reason; also those of it who wait. Nothing is blamed for it."""
    for size, bodies in SIZES.items():
        here.pilot.says[f"/lane/vm/{size}"] = 503
        asked_again(here, f"/lane/vm/{size}")
        callers = [later(here, body) for body in bodies]
        here.pilot.says[f"/lane/refuse/{size}"] = 200
        asked_again(here, f"/lane/refuse/{size}")
        for body in bodies:
            answer = here.call(body=body)
            assert too_slow(answer), (size, answer)
            assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("60", "false")
            assert answer.seconds < AT_ONCE_S
            assert "begins after more than 60 s;" in answer.error["message"]
        for caller, answers in callers:
            caller.join(30)
            assert [too_slow(answer) for answer in answers] == [True], "who waits is told, too"
        others = [other for name, found in SIZES.items() if name != size for other in found]
        assert {here.call(body=other).lane for other in others} == {"vm"}
        here.pilot.says |= {f"/lane/vm/{size}": 200, f"/lane/refuse/{size}": 503}
        asked_again(here, f"/lane/refuse/{size}")
        assert {here.call(body=body).lane for body in bodies} == {"vm"}
    assert here.burst.begun == 0


def nothing_is_refused_that_a_lane_takes(here: World) -> None:
    """Not even if the pilot is late: a lane comes first, and without a pilot nobody is refused."""
    here.pilot.says |= {f"/lane/refuse/{size}": 200 for size in SIZES}
    asked_again(here, "/lane/refuse/picture")
    assert {here.call(body=body).lane for bodies in SIZES.values() for body in bodies} == {"vm"}
    here.home.up()
    assert happens(lambda: here.call().lane == "home")
    here.home.down()
    here.vm.behaviour.healthy = False
    assert happens(lambda: too_slow(here.call()))
    here.pilot.down()
    assert happens(lambda: here.call().error["code"] == "no_lane")


def only_burst_sees_the_token(here: World) -> None:
    warm(here)
    here.call(X_Serverless_Authorization="Bearer evil", Cookie="a=b", X_Request_Id="r", Accept="a", User_Agent="u")
    assert here.burst.received[0].headers == {
        "host": f"{here.burst.host}:{here.burst.port}", "content-length": "13", "content-type": "application/json",
        "accept": "a", "user-agent": "u", "x-request-id": "r", "x-serverless-authorization": f"Bearer {TOKEN}",
    }  # fmt: skip
    here.token("a.new.one\n")
    here.call()
    assert here.burst.received[-1].headers["x-serverless-authorization"] == "Bearer a.new.one"
    here.home.up()
    assert happens(lambda: here.call().lane == "home")
    here.home.down()
    count = here.burst.begun
    for text in (None, "", "not a token", "Bearer"):
        here.token(text)
        for _ in range(3):
            assert here.call().lane == "vm"
    assert here.burst.begun == count, "without a token nothing is sent"
    everything = [*(r.headers for toy in (here.home, here.vm) for r in toy.received),
                  *(headers for toy in (here.home, here.vm, here.pilot) for headers in toy.seen)]  # fmt: skip
    assert {"home", "vm", "pilot"} == {toy.name for toy in (here.home, here.vm, here.pilot) if toy.seen}
    assert all((here.home.received, here.vm.received))
    assert "x-serverless-authorization" not in {name for headers in everything for name in headers}


def status_is_the_pilot_s(here: World) -> None:
    answer = here.call("GET", "/v1/lanes", None, X_Serverless_Authorization="x")
    assert (answer.status, answer.body, answer.lane) == (200, b'{"burst": "as scripted"}', "gateway")
    assert not {"server", "via"} & answer.headers.keys(), answer.headers
    asked = len(here.pilot.asked)
    assert here.call("GET", "/v1/lanes", None, Authorization="Bearer wrong").status == 401
    assert here.call("POST", "/v1/lanes").status == 405
    assert "/status" not in here.pilot.asked[asked:]
    assert {name for headers in here.pilot.seen for name in headers} <= {"host", "user-agent", "accept-encoding"}
    for away in (lambda: here.pilot.says.update({"/status": 500}), here.pilot.down):
        away()
        answer = here.call("GET", "/v1/lanes", None)
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "no_status", "5")


def waiting_can_be_counted(here: World) -> None:
    """What the pilot computes from the admin API: callers in a lane's handler, less those that have a lane."""
    count = 'caddy_http_requests_in_flight{handler="reverse_proxy",server="api"} '

    def waiting() -> int:
        text = here.admin("/metrics")
        inside = int(next((line[len(count) :] for line in text.splitlines() if line.startswith(count)), "0"))
        upstreams = {row["address"]: row["num_requests"] for row in json.loads(here.admin("/reverse_proxy/upstreams"))}
        return inside - sum(upstreams[dial] for dial in ("home:80", "127.0.0.1:9181", f"{VM_ADDRESS}:9931"))

    # Waited for each time: gauge and lanes' counters are two answers, and both fall a moment after a caller has his.
    until(lambda: waiting() == 0, "nobody waits before anybody calls")
    with here.held(here.vm, 2):
        until(lambda: waiting() == 0, "those who have a lane don't count")
        first, second = later(here)[0], later(here, STREAMED)[0]
        until(lambda: waiting() == 2, "those who have none do")
        # Neither the probe nor the status endpoint nor a wrong key count.
        others = itertools.product(("/ready", "/v1/lanes", "/v1/models"), (KEY, "wrong-key-0123456789"), range(10))
        with ThreadPoolExecutor(4) as callers:
            for path, key, _ in others:
                callers.submit(here.call, "GET", path, None, Authorization=f"Bearer {key}")
            assert {waiting() for _ in range(20)} == {2}
        here.pilot.says["/lane/burst"] = 200
        first.join(30)
        second.join(30)
        until(lambda: waiting() == 0, "nobody waits any more")


def admin_is_for_the_pilot_alone(here: World) -> None:
    assert json.loads(here.admin("/config/"))["apps"]
    assert (here.folder / "admin.sock").stat().st_mode & 0o777 == 0o600
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 2019)) != 0
    for path in ("/config/", "/stop", "/reverse_proxy/upstreams", "/metrics", "/lane/burst", "/status"):
        assert here.call("POST", path).status == here.call("GET", path, None).status == 404
    # The hop is for the outer handler's requests only.
    with socket.create_connection(("127.0.0.1", 9181)) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 404 " in connection.recv(100)


CHECKS: list[Check] = [
    cold_burst_gets_nothing, warm_burst_is_first_and_the_vm_its_backup, cloud_run_s_own_answers_are_never_seen,
    a_500_goes_on_to_the_next_lane_that_is_up, a_500_walks_in_no_circle,
    broken_after_it_began_is_visible, gone_caller_frees_burst, a_sick_home_is_left_as_if_it_were_down,
    a_size_skips_the_vm_while_it_would_be_later, who_is_spared_the_vm_gets_the_next_lane_that_is_up,
    what_comes_too_late_is_refused_at_once, nothing_is_refused_that_a_lane_takes, only_burst_sees_the_token,
    status_is_the_pilot_s, waiting_can_be_counted, admin_is_for_the_pilot_alone,
]  # fmt: skip
LONG = {who_is_spared_the_vm_gets_the_next_lane_that_is_up, what_comes_too_late_is_refused_at_once}
"""They take some 12 s each, nearly all of it waiting."""
