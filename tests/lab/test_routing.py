"""What callers see of the gateway: the rendered configuration, unedited, in a real Caddy between toy lanes.

Every check is a function of the world, so that `test_broken_rule_is_seen` can run it against a configuration with one
safety rule taken out, and see it fail.
"""

import copy
import hashlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import openai
import pytest

from components.config import read
from components.gateway import caddy
from components.settings import Settings
from tests.lab.backends import KEY, VM_ADDRESS, Answer, Behaviour, World, world

Check = Callable[[World], None]
Mutation = Callable[[dict[str, Any]], None]

SMALL = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 100_000 + b'"}]}'
LARGEST_REPLAYED = os.urandom(4 * 1024 * 1024)
LARGE = os.urandom(20_000_000)
WAIT_S = 2


def settings(**changes: object) -> Settings:
    """Two slots a lane, a short wait; `ghost` is a client whose key variable is never set."""
    values: dict[str, object] = {
        "clients": [{"name": "demo"}, {"name": "ghost"}],
        "gateway": {"wait_s": WAIT_S, "timeout_s": 60, "request_limit_mib": 24},
        "home": {"max_requests": 2},
        "vm": {"max_requests": 2},
        **changes,
    }
    config = {"gcp:project": "my-project", "gcp:region": "europe-west4"}
    return read(config | {f"pilotlight:{key}": json.dumps(value) for key, value in values.items()}, stack="test")


def rendered(chosen: Settings) -> dict[str, Any]:
    return caddy.render(chosen, vm_address=VM_ADDRESS)


def environment(chosen: Settings) -> dict[str, str]:
    return caddy.environment(chosen, vm_address=VM_ADDRESS) | {caddy.key_variable("demo"): KEY}


@pytest.fixture(scope="module")
def lanes() -> Iterator[World]:
    with world() as both:
        yield both


@pytest.fixture(scope="class")
def shared(lanes: World) -> Iterator[World]:
    with lanes.caddy(rendered(settings()), environment(settings())):
        yield lanes


def sdk(here: World, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{here.port}/v1", api_key=key, max_retries=0, timeout=here.patience)


def ask(client: openai.OpenAI) -> str | None:
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
    return answer.choices[0].message.content


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def until(true: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.02)
    return False


# --- lanes -----------------------------------------------------------------------------------------------------------


def home_is_first(here: World) -> None:
    answer = here.call(body=SMALL, X_Request_Id="robot-7.1")
    assert (answer.status, answer.lane, answer.headers["x-request-id"]) == (200, "home", "robot-7.1")
    assert [(r.sha256, r.headers["x-request-id"]) for r in here.home.received] == [(sha256(SMALL), "robot-7.1")]
    assert here.tunnel.asked == {"home:80"}, "home is dialled through the tunnel, the VM never is"
    assert len(here.call(X_Request_Id="{env.PATH}").headers["x-request-id"]) == 36


def refused_home_costs_a_blink_and_comes_back(here: World) -> None:
    here.home.down()
    first = here.call(body=SMALL)
    assert (first.status, first.lane) == (200, "vm")
    assert first.seconds < 0.1
    assert here.vm.received[0].sha256 == sha256(SMALL)
    for _ in range(5):
        assert here.call().lane == "vm"
    here.home.up()
    assert until(lambda: here.call().lane == "home")


def refusal_by_status_goes_to_the_next_lane(here: World) -> None:
    here.home.behaviour = Behaviour(status=503)
    answer = here.call(body=LARGEST_REPLAYED)
    assert (answer.status, answer.lane, answer.seconds < 0.5) == (200, "vm", True)
    assert here.home.received[-1].sha256 == here.vm.received[-1].sha256 == sha256(LARGEST_REPLAYED)


def failed_home_is_left_alone(here: World) -> None:
    """Its checks pass, but every request breaks: one attempt, then the next lane, for this caller and the next ones."""
    here.home.behaviour = Behaviour(die_after=0)
    for _ in range(10):
        answer = here.call(body=SMALL)
        assert (answer.status, answer.lane, answer.seconds < 0.2) == (200, "vm", True)
    assert here.home.begun == 1
    assert {r.sha256 for r in here.vm.received} == {sha256(SMALL)}


def black_holed_home_is_found_by_checks(here: World) -> None:
    here.home.behaviour = Behaviour(check_delay=5, hold=True)
    time.sleep(2)
    assert here.call().lane == "vm"


def a_lane_s_own_errors_pass(here: World) -> None:
    body = b'{"error":{"message":"max_tokens is too large","type":"BadRequestError","param":null,"code":400}}'
    for status in (400, 404, 429, 500):
        here.home.behaviour = Behaviour(status=status, body=body)
        answer = here.call()
        assert (answer.status, answer.lane, answer.body) == (status, "home", body)
    assert here.vm.begun == 0


def large_body_on_each_lane(here: World) -> None:
    assert here.call(body=LARGE).lane == "home"
    here.home.down()
    assert until(lambda: here.call().lane == "vm")
    assert here.call(body=LARGE).lane == "vm"
    for lane in (here.home, here.vm):
        assert lane.received[-1].sha256 == sha256(LARGE)


def half_a_large_body_is_never_repeated(here: World) -> None:
    here.home.behaviour = Behaviour(die_after=8_000_000)
    answer = here.call(body=LARGE)
    assert (answer.status, answer.lane) in [(503, "gateway"), (0, "")], "the caller sees it"
    assert answer.seconds < 1, "at once"
    here.home.behaviour = Behaviour()
    assert here.vm.begun == 0
    answer = here.call()
    assert (answer.lane, answer.seconds < 0.2) == ("home", True), "its checks say home lives"


def refused_large_body_is_visible(here: World) -> None:
    here.home.behaviour = Behaviour(status=503)
    answer = here.call(body=LARGE)
    assert (answer.status, answer.lane, answer.error["code"]) == (503, "gateway", "no_lane")
    assert here.vm.begun == 0


# --- capacity and waiting --------------------------------------------------------------------------------------------


def full_lanes_wait_in_line(here: World) -> None:
    here.home.behaviour = here.vm.behaviour = Behaviour(hold=True)
    late: list[Answer] = []
    waiting = threading.Thread(target=lambda: late.append(here.call(body=SMALL)))
    with here.held(here.home, 2), here.held(here.vm, 2):
        waiting.start()
        time.sleep(0.5)
        assert (late, here.home.most, here.vm.most) == ([], 2, 2)
        here.home.release()
        waiting.join(5)
    assert [(a.status, a.lane) for a in late] == [(200, "home")]
    assert late[0].seconds < 1
    assert here.home.received[-1].sha256 == sha256(SMALL)


def waiting_ends_in_503(here: World) -> None:
    here.home.behaviour = here.vm.behaviour = Behaviour(hold=True)
    with here.held(here.home, 2), here.held(here.vm, 2):
        answer = here.call()
    assert (answer.status, answer.error["code"], answer.headers.get("retry-after")) == (503, "no_lane", "5")
    assert WAIT_S <= answer.seconds < WAIT_S + 0.5
    assert answer.lane == "gateway"


def a_check_takes_no_slot(here: World) -> None:
    here.home.behaviour = Behaviour(check_delay=0.9, delay=0.1)
    time.sleep(1)
    assert [here.call().lane for _ in range(10)] == ["home"] * 10
    with here.held(here.home, 2):
        assert here.vm.begun == 0


def gone_caller_frees_the_lane(here: World) -> None:
    here.home.behaviour = Behaviour(hold=True)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(SMALL)}"
    here.raw(head, SMALL, until=lambda: here.home.running == 1)
    assert until(lambda: here.home.gone == 1), "the engine stops working for nobody"
    here.home.behaviour = Behaviour()
    assert here.call().lane == "home", "and the lane is not blamed"


# --- streams and slow answers ----------------------------------------------------------------------------------------


def stream_is_not_buffered(here: World) -> None:
    client, pauses = sdk(here), [0.5, 0.1, 0.1, 0.1, 0.1]
    ask(client)
    here.home.behaviour = Behaviour(tokens=pauses)
    start = time.monotonic()
    seen: list[float] = []
    with client.chat.completions.with_streaming_response.create(
        model="m", messages=[{"role": "user", "content": "hello"}], stream=True
    ) as response:
        assert time.monotonic() - start < 0.3, "headers come before the first token"
        seen.extend(time.monotonic() - start for line in response.iter_lines() if line)
    assert len(seen) == len(pauses)
    assert all(0 <= got - sent < 0.3 for got, sent in zip(seen, itertools.accumulate(pauses), strict=True))
    assert seen[-1] - seen[0] > 0.3, "events come one by one"


def slow_answers_arrive(here: World) -> None:
    """Twice on one connection: deadlines of the first request must not reach into the second."""
    here.home.behaviour = Behaviour(delay=1)
    client = sdk(here)
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
        assert (answer.lane, answer.seconds < 0.2) == ("home", True), f"{sent} of {length} bytes were sent"


def malformed_chunk_is_not_the_lane_s_fault(here: World) -> None:
    head = "POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked"
    answer = here.raw(head, b"5\r\nhello\r\nZZ\r\nbroken\r\n")
    assert answer.startswith(b"HTTP/1.1 411 ")
    follow = here.call()
    assert (follow.lane, follow.seconds < 0.2, here.home.begun) == ("home", True, 1)


def bad_lengths_are_refused(here: World) -> None:
    start = "POST /v1/chat/completions HTTP/1.1\r\n"
    for expected, lines in {
        "411": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5", "Accept: */*"],
        "413": [f"Content-Length: {24 * 1024 * 1024 + 1}", "Content-Length: 9223372036854775807"],
        "400": [f"Content-Length: {bad}" for bad in ("", "-1", "+5", "5x", "5\r\nContent-Length: 6")],
    }.items():
        for line in lines:
            assert here.raw(start + line, b"0\r\n\r\n")[9:12].decode() == expected, line
    assert (here.home.begun, here.vm.begun) == (0, 0)
    with pytest.raises(openai.APIStatusError) as caught:
        sdk(here).chat.completions.create(model="m", messages=[{"role": "user", "content": "x" * 25 * 1024 * 1024}])
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
    assert (here.home.begun, here.vm.begun) == (0, 0)
    assert here.call(Authorization=f"bearer {KEY}").status == 200
    with pytest.raises(openai.AuthenticationError):
        ask(sdk(here, "wrong-key-0123456789"))


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
    assert [m.id for m in sdk(here).models.list()] == [sdk(here).models.retrieve(model).id] == [model]
    with pytest.raises(openai.NotFoundError):
        sdk(here).models.retrieve("other")
    assert (here.home.begun, here.vm.begun) == (0, 0)
    for path in ("completions?key=1", "/completions", "../v1/completions", "%63ompletions", "COMPLETIONS"):
        assert here.call(path=f"/v1/{path}").status == 200
    assert {r.path for r in here.home.received} == {"/v1/completions"}


def lanes_see_only_what_they_need(here: World) -> None:
    sent = {"Server": "uvicorn", "Via": "1.1 x", "Set-Cookie": "a=b", "X-Served-By": "me", "X-Request-Id": "mine"}
    here.home.behaviour = Behaviour(headers=sent)
    answer = here.call(
        Cookie="session=1", X_Serverless_Authorization="Bearer t", Proxy_Authorization="Basic x",
        X_Forwarded_For="1.2.3.4", X_Forwarded_Host="evil", X_Forwarded_Proto="ftp", Forwarded="for=1.2.3.4",
        X_Real_Ip="1.2.3.4", X_Lane="home:80", Host="evil", Connection="Keep-Alive, X-Request-Id", Upgrade="websocket",
        X_Request_Id="r", Accept_Encoding="gzip", Content_Type="{env.CLIENT_KEY_DEMO}", Accept="text/event-stream",
        User_Agent="robot",
    )  # fmt: skip
    assert here.home.received[0].headers == {
        "host": "home:80", "content-length": "13", "content-type": "{env.CLIENT_KEY_DEMO}", "x-request-id": "r",
        "accept": "text/event-stream", "user-agent": "robot",
    }  # fmt: skip
    assert not {"server", "via", "set-cookie"} & answer.headers.keys()
    assert (answer.lane, answer.headers["x-request-id"]) == ("home", "r")


CHECKS: list[Check] = [
    home_is_first, refused_home_costs_a_blink_and_comes_back, refusal_by_status_goes_to_the_next_lane,
    failed_home_is_left_alone, black_holed_home_is_found_by_checks, a_lane_s_own_errors_pass, large_body_on_each_lane,
    half_a_large_body_is_never_repeated, refused_large_body_is_visible, full_lanes_wait_in_line, waiting_ends_in_503,
    a_check_takes_no_slot, gone_caller_frees_the_lane, stream_is_not_buffered, slow_answers_arrive,
    caller_s_abort_is_not_the_lane_s_fault, malformed_chunk_is_not_the_lane_s_fault, bad_lengths_are_refused,
    only_keys_open_the_door, only_the_api_s_paths_exist, lanes_see_only_what_they_need,
]  # fmt: skip


class TestGateway:
    """One Caddy for all of them; it is gone before the next class starts its own."""

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_gateway(self, shared: World, check: Check) -> None:
        try:
            check(shared)
        finally:
            shared.settle()


# --- each safety rule, taken out once --------------------------------------------------------------------------------


def find(tree: object, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Every object in the configuration that is `wanted`."""
    found: list[dict[str, Any]] = []
    children: list[object] = []
    if isinstance(tree, dict):
        node = cast(dict[str, Any], tree)
        found += [node] if wanted(node) else []
        children = list(node.values())
    elif isinstance(tree, list):
        children = cast(list[object], tree)
    for child in children:
        found += find(child, wanted)
    return found


def proxies(config: dict[str, Any], *, replay: bool) -> list[dict[str, Any]]:
    return find(config, lambda x: "load_balancing" in x and ("request_buffers" in x) == replay)


def api(config: dict[str, Any]) -> dict[str, Any]:
    return config["apps"]["http"]["servers"]["api"]


def no_retry_match(config: dict[str, Any]) -> None:
    del proxies(config, replay=True)[0]["load_balancing"]["retry_match"]


def short_placeholders(config: dict[str, Any]) -> None:
    for rule in proxies(config, replay=True)[0]["load_balancing"]["retry_match"]:
        rule["expression"] = rule["expression"].replace("{http.reverse_proxy.", "{rp.")


def no_fail_duration(config: dict[str, Any]) -> None:
    del proxies(config, replay=True)[0]["health_checks"]["passive"]["fail_duration"]


def no_unhealthy_status(config: dict[str, Any]) -> None:
    del proxies(config, replay=True)[0]["health_checks"]["passive"]["unhealthy_status"]


def no_request_buffers(config: dict[str, Any]) -> None:
    del proxies(config, replay=True)[0]["request_buffers"]


def buffer_a_byte_short(config: dict[str, Any]) -> None:
    proxies(config, replay=True)[0]["request_buffers"] -= 1


def large_bodies_retried(config: dict[str, Any]) -> None:
    large, small = proxies(config, replay=False)[0], proxies(config, replay=True)[0]
    large["load_balancing"]["retry_match"] = small["load_balancing"]["retry_match"]


def large_failures_counted(config: dict[str, Any]) -> None:
    proxies(config, replay=False)[0]["health_checks"]["passive"]["fail_duration"] = "2s"


def no_active_checks(config: dict[str, Any]) -> None:
    for proxy in find(config, lambda x: "load_balancing" in x):
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
    for proxy in find(config, lambda x: "load_balancing" in x):
        proxy["response_buffers"] = 65536


def response_header_timeout(config: dict[str, Any]) -> None:
    for proxy in find(config, lambda x: "load_balancing" in x):
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
    without(config, lambda route: "Content-Length" in str(route.get("match")) and "411" in str(route))


def no_size_guard(config: dict[str, Any]) -> None:
    without(config, lambda route: "expression" in str(route.get("match")) and "413" in str(route))


def no_key_needed(config: dict[str, Any]) -> None:
    for route in find(config, lambda x: "vars" in str(x.get("match")) and "handle" in x):
        del route["match"]


def caller_s_headers_pass(config: dict[str, Any]) -> None:
    for headers in find(config, lambda x: x.get("delete") == ["*"]):
        del headers["delete"]


def lane_s_headers_pass(config: dict[str, Any]) -> None:
    for headers in find(config, lambda x: x.get("deferred") is True):
        del headers["delete"]


def paths_as_sent(config: dict[str, Any]) -> None:
    without(config, lambda route: route["handle"][0]["handler"] == "rewrite")


def refusals_pass(config: dict[str, Any]) -> None:
    for proxy in find(config, lambda x: "load_balancing" in x):
        del proxy["handle_response"]


def no_error_bodies(config: dict[str, Any]) -> None:
    del api(config)["errors"]


BROKEN: list[tuple[Mutation, Check]] = [
    (no_retry_match, refusal_by_status_goes_to_the_next_lane),
    (no_retry_match, refused_home_costs_a_blink_and_comes_back),
    (short_placeholders, refusal_by_status_goes_to_the_next_lane),
    (short_placeholders, refused_home_costs_a_blink_and_comes_back),
    (no_fail_duration, failed_home_is_left_alone),
    (no_unhealthy_status, refusal_by_status_goes_to_the_next_lane),
    (no_request_buffers, refusal_by_status_goes_to_the_next_lane),
    (buffer_a_byte_short, refusal_by_status_goes_to_the_next_lane),
    (large_bodies_retried, half_a_large_body_is_never_repeated),
    (large_failures_counted, half_a_large_body_is_never_repeated),
    (no_active_checks, black_holed_home_is_found_by_checks),
    (checks_share_the_lane_s_name, a_check_takes_no_slot),
    (no_capacity, full_lanes_wait_in_line),
    (no_waiting, full_lanes_wait_in_line),
    (responses_buffered, stream_is_not_buffered),
    (response_header_timeout, slow_answers_arrive),
    (default_idle_timeout, bad_lengths_are_refused),
    (write_timeout, slow_answers_arrive),
    (no_length_guard, malformed_chunk_is_not_the_lane_s_fault),
    (no_size_guard, bad_lengths_are_refused),
    (no_key_needed, only_keys_open_the_door),
    (caller_s_headers_pass, lanes_see_only_what_they_need),
    (lane_s_headers_pass, lanes_see_only_what_they_need),
    (paths_as_sent, only_the_api_s_paths_exist),
    (refusals_pass, refused_large_body_is_visible),
    (no_error_bodies, waiting_ends_in_503),
]


@pytest.mark.parametrize(("mutation", "check"), BROKEN, ids=lambda value: value.__name__)
def test_broken_rule_is_seen(lanes: World, mutation: Mutation, check: Check) -> None:
    config = rendered(settings())
    intact = copy.deepcopy(config)
    mutation(config)
    assert config != intact
    with lanes.caddy(config, environment(settings())), pytest.raises(AssertionError):
        check(lanes)


# --- with settings of their own --------------------------------------------------------------------------------------


def test_refusals_of_every_lane_end(lanes: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes that pass their checks and refuse everything: a few attempts, an answer long before `wait_s`."""
    monkeypatch.setattr(caddy, "LAST_REFUSAL_MS", 1500)
    chosen = settings(gateway={"wait_s": 30, "timeout_s": 60})
    with lanes.caddy(rendered(chosen), environment(chosen)):
        lanes.home.behaviour = lanes.vm.behaviour = Behaviour(status=503)
        answer = lanes.call()
        assert (answer.status, answer.lane, answer.headers.get("retry-after")) == (503, "gateway", "5")
        assert (lanes.home.begun, lanes.vm.begun) == (2, 2)
        with pytest.raises(openai.InternalServerError):
            ask(sdk(lanes))


@pytest.mark.parametrize("lane", ["home", "vm"])
def test_lane_alone(lanes: World, lane: str) -> None:
    chosen = settings(lanes=[lane])
    with lanes.caddy(rendered(chosen), environment(chosen), first=lane):
        other = lanes.vm if lane == "home" else lanes.home
        other.down()
        assert [lanes.call(body=body).lane for body in (SMALL, LARGE)] == [lane] * 2
        (lanes.home if lane == "home" else lanes.vm).down()
        answer = lanes.call()
        assert (answer.status, answer.error["code"]) == (503, "no_lane")


def test_shutdown_lets_streams_end_and_the_log_tells_no_secret(lanes: World) -> None:
    with lanes.caddy(rendered(settings()), environment(settings())) as process:
        lanes.call(path="/v1/completions?api_key=in-the-query", body=b'{"prompt":"in-the-body"}', Cookie="in-a-cookie")
        lanes.call(Authorization="Bearer not-a-key-of-anybody", X_Serverless_Authorization="Bearer in-a-header")
        lanes.home.behaviour = Behaviour(tokens=[0.3] * 5)
        answers: list[Answer] = []
        caller = threading.Thread(target=lambda: answers.append(lanes.call(X_Request_Id="last")))
        caller.start()
        time.sleep(0.5)
        process.terminate()
        caller.join(5)
        assert process.wait(8) == 0
        assert answers[0].body.count(b"data: ") == 5
    for secret in (KEY, "in-the-query", "in-the-body", "in-a-cookie", "not-a-key", "in-a-header"):
        assert secret not in lanes.log
    lines = [json.loads(line) for line in lanes.log.splitlines()]
    requests = [line for line in lines if line["message"] == "handled request" and line["request"]["uri"] != "/ready"]
    assert [(x.get("client"), x["lane"], x["retries"], x["status"]) for x in requests[-3:]] == [
        ("demo", "home", 0, 200), (None, "gateway", None, 401), ("demo", "home", 0, 200),
    ]  # fmt: skip
    assert requests[-1]["request_id"] == "last"
