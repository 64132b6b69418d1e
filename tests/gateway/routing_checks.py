"""What callers must see of the gateway, one function of the world each.

`test_routing` runs them against the rendered configuration, `test_routing_broken` against configurations with one
safety rule taken out.
"""

import contextlib
import json
import socket
import threading
import time
from typing import Any

import openai
import pytest

from components.gateway.caddy import next_lane
from components.gateway.caddy.upstreams import upstreams
from components.gateway.caddy.walk import FAIL_DURATION
from tests.gateway.backends import Behaviour
from tests.gateway.routing import ALIAS, AT_ONCE_S, LARGE, LARGEST_REPLAYED, SMALL, WAIT_S, Check, ask, settings, sha256
from tests.gateway.world import KEY, VM_ADDRESS, Answer, World
from tests.kit import happens, until

# --- lanes -----------------------------------------------------------------------------------------------------------


def home_is_first(here: World) -> None:
    answer = here.call(body=SMALL, X_Request_Id="robot-7.1")
    assert (answer.status, answer.lane, answer.headers["x-request-id"]) == (200, "home", "robot-7.1")
    assert [(r.sha256, r.headers["x-request-id"]) for r in here.home.received] == [(sha256(SMALL), "robot-7.1")]
    assert here.tunnel.asked == {"home:80"}, "home is dialled through the tunnel, the VM never is"
    assert len(here.call(X_Request_Id="{env.PATH}").headers["x-request-id"]) == 36


def no_caller_chooses_what_the_tunnel_dials(here: World) -> None:
    """The SOCKS5 listener dials whatever it is asked to, the whole tailnet and the network behind it."""
    for name in ("Host", "X_Forwarded_Host", "X_Forwarded_For", "Forwarded", "X_Lane", "Proxy"):
        here.call(body=SMALL, **{name: "10.0.0.9:22"})
    here.raw("CONNECT 10.0.0.9:22 HTTP/1.1")
    here.raw(f"POST http://10.0.0.9:22/v1/chat/completions HTTP/1.1\r\nContent-Length: {len(SMALL)}", SMALL)
    assert here.call(body=SMALL).lane == "home"
    assert here.tunnel.asked == {"home:80"}


def refused_home_costs_a_blink_and_comes_back(here: World) -> None:
    here.home.down()
    first = here.call(body=SMALL)
    assert (first.status, first.lane) == (200, "vm")
    assert first.seconds < AT_ONCE_S
    assert here.vm.received[0].sha256 == sha256(SMALL)
    for _ in range(5):
        assert here.call().lane == "vm"
    here.home.up()
    assert happens(lambda: here.call().lane == "home")


def refusal_by_status_goes_to_the_next_lane(here: World) -> None:
    here.home.behaviour = Behaviour(status=503)
    answer = here.call(body=LARGEST_REPLAYED)
    assert (answer.status, answer.lane, answer.seconds < AT_ONCE_S) == (200, "vm", True)
    assert here.home.received[-1].sha256 == here.vm.received[-1].sha256 == sha256(LARGEST_REPLAYED)


def failed_home_is_left_alone(here: World) -> None:
    here.home.behaviour = Behaviour(die_after=0)
    left_alone(here, SMALL)


def refusing_home_is_left_alone(here: World) -> None:
    here.home.behaviour = Behaviour(status=503)
    left_alone(here, LARGEST_REPLAYED)


def left_alone(here: World, body: bytes) -> None:
    """Its checks pass, but every request fails: one attempt, then the next lane, for this caller and the next ones."""
    start = time.monotonic()
    for _ in range(10):
        answer = here.call(body=body)
        assert (answer.status, answer.lane, answer.seconds < AT_ONCE_S) == (200, "vm", True)
    rests = (time.monotonic() - start) / float(FAIL_DURATION.removesuffix("s"))
    assert here.home.begun <= 1 + rests, "a quiet machine is done before the first rest is over"
    assert {r.sha256 for r in here.vm.received} == {sha256(body)}


def black_holed_home_is_found_by_checks(here: World) -> None:
    # Only the checks get no answer at first: so it is they that find home.
    here.home.behaviour = Behaviour(check_delay=60)
    until(lambda: here.call().lane == "vm", "home is left")
    here.home.behaviour = Behaviour(check_delay=60, hold=True)
    assert here.call().lane == "vm"


def a_lane_s_own_errors_pass(here: World) -> None:
    body = b'{"error":{"message":"max_tokens is too large","type":"BadRequestError","param":null,"code":400}}'
    for status in (400, 404, 429):
        here.home.behaviour = Behaviour(status=status, body=body)
        answer = here.call()
        assert (answer.status, answer.lane, answer.body) == (status, "home", body)
    assert here.vm.begun == 0


def large_body_on_each_lane(here: World) -> None:
    assert here.call(body=LARGE).lane == "home"
    here.home.down()
    assert happens(lambda: here.call().lane == "vm")
    assert here.call(body=LARGE).lane == "vm"
    for lane in (here.home, here.vm):
        assert lane.received[-1].sha256 == sha256(LARGE)


def half_a_large_body_is_never_repeated(here: World) -> None:
    here.home.behaviour = Behaviour(die_after=8_000_000)
    answer = here.call(body=LARGE)
    assert (answer.status, answer.lane) in [(503, "gateway"), (0, "")], "the caller sees it"
    assert answer.seconds < AT_ONCE_S
    here.home.behaviour = Behaviour()
    assert here.vm.begun == 0
    answer = here.call()
    assert (answer.lane, answer.seconds < AT_ONCE_S) == ("home", True), "its checks say home lives"


def refused_large_body_is_visible(here: World) -> None:
    here.home.behaviour = Behaviour(status=503)
    answer = here.call(body=LARGE)
    assert (answer.status, answer.lane, answer.error["code"]) == (503, "gateway", "no_lane")
    assert here.vm.begun == 0


# --- 500, which may be the request's own fault -----------------------------------------------------------------------

POISON = "/v1/completions"
"""Every request for it is one, where a check says so."""
TOLD = b'{"error":{"message":"the engine failed","type":"InternalServerError","param":null,"code":500}}'


def a_500_is_repeated_on_the_next_lane(here: World) -> None:
    """Whatever the size is that is kept, and nobody is left alone for it."""
    for body in (b'{"model":"m"}', SMALL, LARGEST_REPLAYED):
        here.home.reset()
        here.home.behaviour = Behaviour(status=500, body=TOLD)
        answer = here.call(body=body)
        assert (answer.status, answer.lane, answer.seconds < AT_ONCE_S) == (200, "vm", True)
        assert [(r.length, r.sha256) for r in (*here.home.received, *here.vm.received[-1:])] == [
            (len(body), sha256(body))
        ] * 2
        here.home.behaviour = Behaviour()
        assert here.call(body=body).lane == "home"


def the_last_lane_s_500_stands(here: World) -> None:
    here.home.behaviour = Behaviour(status=500, body=b'{"error":"home\'s"}')
    here.vm.behaviour = Behaviour(status=500, body=TOLD, headers={"X-Engine": "llama.cpp"})
    answer = here.call(body=SMALL)
    assert (answer.status, answer.lane, answer.body, answer.headers.get("x-engine")) == (500, "vm", TOLD, "llama.cpp")
    assert (here.home.begun, here.vm.begun) == (1, 1)
    with here.held(here.home, 2):
        here.vm.reset()
        here.vm.behaviour = Behaviour(status=500, body=TOLD)
        answer = here.call(body=SMALL)
        assert (answer.status, answer.lane, here.vm.begun) == (500, "vm", 1), "nobody comes after it"


def a_500_beside_full_lanes_ends(here: World) -> None:
    with here.held(here.home, 2), here.held(here.vm, 2):
        here.home.behaviour = Behaviour(status=500, body=TOLD)
        here.home.release()
        until(lambda: here.home.running == 0, "home is free again")
        begun = here.home.begun
        answer = here.call(body=SMALL)
        assert (answer.status, answer.lane, answer.body) == (500, "home", TOLD)
        assert (here.home.begun - begun, answer.seconds < AT_ONCE_S) == (2, True)


def poison_is_nobody_else_s_trouble(here: World) -> None:
    for lane in (here.home, here.vm):
        lane.by_path = {POISON: Behaviour(status=500, body=TOLD)}
    for _ in range(40):
        assert here.call(path=POISON).status == 500
        assert {row["fails"] for row in json.loads(here.admin("/reverse_proxy/upstreams"))} == {0}
        answer = here.call(body=SMALL)
        assert (answer.status, answer.lane, answer.seconds < AT_ONCE_S) == (200, "home", True)
    assert (here.home.begun, here.vm.begun) == (80, 40)


def a_large_request_s_500_stands(here: World) -> None:
    here.home.behaviour = Behaviour(status=500, body=TOLD)
    answer = here.call(body=LARGE)
    assert (answer.status, answer.lane, answer.body) == (500, "home", TOLD)
    assert (here.home.begun, here.vm.begun) == (1, 0)


def no_caller_chooses_his_lane(here: World) -> None:
    """Not by the mark with which Caddy itself goes on from home, in its header or one that could have been it."""
    for mark in next_lane.marks(upstreams(settings(), vm_address=VM_ADDRESS)).values():
        for lines in (
            f"{next_lane.FIELD}: {mark}",
            f"Connection: x\r\n{next_lane.FIELD}: {mark}",
            f"X-Next-Lane: {mark}",
        ):
            here.raw(f"POST /v1/completions HTTP/1.1\r\nContent-Length: {len(SMALL)}\r\n{lines}", SMALL)
    assert (here.home.begun, here.vm.begun) == (6, 0)


# --- capacity and waiting --------------------------------------------------------------------------------------------


def full_lanes_wait_in_line(here: World) -> None:
    late: list[Answer] = []
    waiting = threading.Thread(target=lambda: late.append(here.call(body=SMALL)))
    with here.held(here.home, 2), here.held(here.vm, 2):
        waiting.start()
        time.sleep(0.5)
        assert (late, here.home.most, here.vm.most) == ([], 2, 2)
        here.home.release()
        waiting.join(30)
    assert [(a.status, a.lane) for a in late] == [(200, "home")]
    assert here.home.received[-1].sha256 == sha256(SMALL)


def waiting_ends_in_503(here: World) -> None:
    with here.held(here.home, 2), here.held(here.vm, 2):
        answer = here.call()
    assert (answer.status, answer.error["code"], answer.headers.get("retry-after")) == (503, "no_lane", "5")
    assert WAIT_S <= answer.seconds < WAIT_S + AT_ONCE_S
    assert answer.lane == "gateway"


def a_check_takes_no_slot(here: World) -> None:
    # Several at any time: a new one begins every half second.
    here.home.behaviour = Behaviour(check_delay=2)
    count = here.home.checks
    until(lambda: here.home.checks >= count + 4, "checks are under way")
    assert [here.call().lane for _ in range(10)] == ["home"] * 10
    with here.held(here.home, 2):
        pass


def gone_caller_frees_the_lane(here: World) -> None:
    here.home.behaviour = Behaviour(hold=True)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(SMALL)}"
    here.raw(head, SMALL, until=lambda: here.home.running == 1)
    assert happens(lambda: here.home.gone == 1), "the engine stops working for nobody"
    here.home.behaviour = Behaviour()
    assert here.call().lane == "home", "and the lane is not blamed"


# --- streams and slow answers ----------------------------------------------------------------------------------------


def stream_is_not_buffered(here: World) -> None:
    """Headers come before the lane has a token, each event before it has the next one."""
    here.home.behaviour = Behaviour(tokens=[0.0] * 5, step=True)
    seen: list[str] = []
    try:
        with here.sdk().chat.completions.with_streaming_response.create(
            model="m", messages=[{"role": "user", "content": "hello"}], stream=True
        ) as response:
            here.home.release()
            for line in filter(None, response.iter_lines()):
                seen.append(line)
                here.home.release()
    except openai.APITimeoutError as error:
        raise AssertionError("headers wait for the first token") from error
    assert seen == [f'data: {{"index": {index}}}' for index in range(5)]


def no_other_stream_is_buffered(here: World) -> None:
    """Caddy hands on at once what is `text/event-stream`, and whatever has no known length: lines of JSON, sound."""
    for kind in ("application/x-ndjson", "audio/mpeg", "application/octet-stream"):
        here.home.behaviour = Behaviour(tokens=[0.0] * 3, step=True, headers={"Content-Type": kind})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 2"
        told: list[bytes] = []
        with socket.create_connection(("127.0.0.1", here.port), timeout=here.patience) as caller:
            caller.sendall(head.encode() + b"\r\n\r\n{}")
            with contextlib.suppress(TimeoutError), caller.makefile("rb") as answer:
                told += iter(answer.readline, b"\r\n")
                assert f"Content-Type: {kind}\r\n".encode() in told
                for _ in range(3):
                    here.home.release()
                    told.append(next(line for line in answer if line.startswith(b"data: ")))
        assert told[-3:] == [f'data: {{"index": {index}}}\n'.encode() for index in range(3)], kind


def slow_answers_arrive(here: World) -> None:
    """Twice on one connection: deadlines of the first request must not reach into the second."""
    here.home.behaviour = Behaviour(delay=1)
    client = here.sdk()
    try:
        assert [ask(client) for _ in range(2)] == ["I am home"] * 2
    except openai.APIError as error:
        raise AssertionError("the answer was cut off") from error


# --- the caller's fault ----------------------------------------------------------------------------------------------


def caller_s_abort_is_not_the_lane_s_fault(here: World) -> None:
    for length, sent in ((1_000, 100), (3_000_000, 1_000_000), (20_000_000, 8_000_000)):
        here.raw(f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {length}", LARGE[:sent], until=lambda: True)
        time.sleep(0.1)
        answer = here.call()
        assert (answer.lane, answer.seconds < AT_ONCE_S) == ("home", True), f"{sent} of {length} bytes were sent"


def bad_lengths_are_refused(here: World) -> None:
    start = "POST /v1/chat/completions HTTP/1.1\r\n"
    for expected, lines in {
        "411": ["Accept: */*"],
        "413": [f"Content-Length: {24 * 1024 * 1024 + 1}", "Content-Length: 9223372036854775807"],
        "400": [f"Content-Length: {bad}" for bad in ("", "-1", "+5", "5x", "5\r\nContent-Length: 6")],
    }.items():
        for line in lines:
            assert here.raw(start + line, b"0\r\n\r\n")[9:12].decode() == expected, line
    assert (here.home.begun, here.vm.begun) == (0, 0)
    with pytest.raises(openai.APIStatusError) as caught:
        here.sdk().chat.completions.create(model="m", messages=[{"role": "user", "content": "x" * 25 * 1024 * 1024}])
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


# --- the door --------------------------------------------------------------------------------------------------------


def only_keys_open_the_door(here: World) -> None:
    wrong = [
        "", "Bearer", "Bearer ", "Bearer *", f"Basic {KEY}", KEY, f"Bearer {KEY}x", f"Bearer {KEY[:-1]}",
        f"BEARER {KEY}", f"Bearer  {KEY}", f"Bearer {KEY[:-1]}*", "Bearer {env.CLIENT_KEY_DEMO}",
        "Bearer {env.CLIENT_KEY_GHOST}",
        f"Bearer {KEY}, Bearer x", "Bearer " + "x" * 5000, f"Bearer\t{KEY}",
    ]  # fmt: skip
    for value in wrong:
        for path in ("/v1/chat/completions", "/v1/models", "/v1/nothing", "/V1/models", "//v1/models", "/v1"):
            answer = here.call("POST", path, Authorization=value)
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key"), (value, path)
    for answer in (here.call(Authorization="", Api_Key=KEY), here.call(Authorization="", X_Api_Key=KEY)):
        assert (answer.status, "`Authorization: Bearer <key>`" in answer.error["message"]) == (401, True)
    assert (here.home.begun, here.vm.begun) == (0, 0)
    assert here.call(Authorization=f"bearer {KEY}").status == 200
    with pytest.raises(openai.AuthenticationError):
        ask(here.sdk("wrong-key-0123456789"))


def only_the_api_s_paths_exist(here: World) -> None:
    model = "Qwen/Qwen2.5-VL-7B-Instruct"
    for method, path, status, code in [
        ("GET", "/", 404, "not_found"),
        ("GET", "/metrics", 404, "not_found"),
        ("POST", "/v1/chat/completions/../../metrics", 404, "not_found"),
        ("POST", "/v1/embeddings", 404, "not_found"),
        ("POST", "/v1/chat/completions/x", 404, "not_found"),
        ("GET", "/v1/models/other", 404, "model_not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("PUT", "/v1/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("DELETE", f"/v1/models/{model}", 405, "method_not_allowed"),
    ]:
        answer = here.call(method, path, None)
        assert (answer.status, answer.error["code"], answer.lane) == (status, code, "gateway"), path
    assert here.call("GET", "/ready", None, Authorization="").status == 200
    names = [model, ALIAS]
    assert [m.id for m in here.sdk().models.list()] == names
    assert [here.sdk().models.retrieve(name).id for name in names] == names
    assert json.loads(here.call("GET", f"/v1/models/{ALIAS}", None).body)["root"] == model
    with pytest.raises(openai.NotFoundError, match=f"serves: {model}, {ALIAS}"):
        here.sdk().models.retrieve("other")
    assert (here.home.begun, here.vm.begun) == (0, 0)
    for path in ("completions?key=1", "/completions", "../v1/completions", "%63ompletions", "COMPLETIONS"):
        assert here.call(path=f"/v1/{path}").status == 200
    assert {r.path for r in here.home.received} == {"/v1/completions"}


def lanes_see_only_what_they_need(here: World) -> None:
    sent = {"Server": "uvicorn", "Via": "1.1 x", "Set-Cookie": "a=b", "X-Served-By": "me", "X-Request-Id": "mine"}
    here.home.behaviour = Behaviour(headers=sent)
    _what_home_sees(here)
    _what_home_sees(here, X_Lane="home")


def _what_home_sees(here: World, **pin: Any) -> None:
    answer = here.call(
        Cookie="session=1", Trailer="1.6", X_Serverless_Authorization="Bearer t", Proxy_Authorization="Basic x",
        X_Forwarded_For="1.2.3.4", X_Forwarded_Host="evil", X_Forwarded_Proto="ftp", Forwarded="for=1.2.3.4",
        X_Real_Ip="1.2.3.4", Host="evil", Connection="Keep-Alive, X-Request-Id", Upgrade="websocket",
        X_Request_Id="r", Accept_Encoding="gzip", Content_Type="{env.CLIENT_KEY_DEMO}", Accept="text/event-stream",
        User_Agent="robot", **pin,
    )  # fmt: skip
    assert here.home.received[-1].headers == {
        "host": "home:80", "content-length": "13", "content-type": "{env.CLIENT_KEY_DEMO}", "x-request-id": "r",
        "accept": "text/event-stream", "user-agent": "robot",
    }  # fmt: skip
    assert not {"server", "via", "set-cookie"} & answer.headers.keys()
    assert (answer.lane, answer.headers["x-request-id"]) == ("home", "r")


CHECKS: list[Check] = [
    home_is_first, no_caller_chooses_what_the_tunnel_dials,
    refused_home_costs_a_blink_and_comes_back, refusal_by_status_goes_to_the_next_lane,
    failed_home_is_left_alone, refusing_home_is_left_alone, a_lane_s_own_errors_pass, large_body_on_each_lane,
    a_500_is_repeated_on_the_next_lane, the_last_lane_s_500_stands, a_500_beside_full_lanes_ends,
    poison_is_nobody_else_s_trouble, a_large_request_s_500_stands, no_caller_chooses_his_lane,
    half_a_large_body_is_never_repeated, refused_large_body_is_visible, full_lanes_wait_in_line, waiting_ends_in_503,
    a_check_takes_no_slot, gone_caller_frees_the_lane, stream_is_not_buffered, no_other_stream_is_buffered,
    slow_answers_arrive,
    caller_s_abort_is_not_the_lane_s_fault, bad_lengths_are_refused,
    only_keys_open_the_door, only_the_api_s_paths_exist, lanes_see_only_what_they_need,
]  # fmt: skip
