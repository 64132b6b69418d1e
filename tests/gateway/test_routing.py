"""What callers see of the gateway: the rendered configuration in a real Caddy between toy lanes.

Unedited where its times are the point; elsewhere with more patience for a busy machine (`routing.patient`).
"""

import json
import threading
from collections.abc import Iterator

import openai
import pytest

from components.gateway.caddy import walk as declared
from tests.gateway.backends import Behaviour
from tests.gateway.routing import AT_ONCE_S, LARGE, SMALL, Check, ask, environment, patient, rendered, settings
from tests.gateway.routing_checks import CHECKS, TOLD, black_holed_home_is_found_by_checks
from tests.gateway.world import KEY, Answer, World, world
from tests.kit import until


@pytest.fixture(scope="module")
def lanes() -> Iterator[World]:
    with world() as both:
        yield both


@pytest.fixture(scope="class")
def shared(lanes: World) -> Iterator[World]:
    with lanes.caddy(patient(rendered(settings())), environment(settings())):
        yield lanes


class TestGateway:
    """One Caddy for all of them; it is gone before the next class starts its own."""

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_gateway(self, shared: World, check: Check) -> None:
        try:
            check(shared)
        finally:
            shared.settle()


def test_declared_times_find_a_black_holed_home(lanes: World) -> None:
    with lanes.caddy(rendered(settings()), environment(settings())):
        black_holed_home_is_found_by_checks(lanes)


# --- with settings of their own --------------------------------------------------------------------------------------


def test_refusals_of_every_lane_end(lanes: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes that pass their checks and refuse everything: a few attempts, an answer long before `wait_s`."""
    monkeypatch.setattr(declared, "LAST_REFUSAL_MS", 1500)
    chosen = settings(gateway={"wait_s": 30, "timeout_s": 60})
    with lanes.caddy(patient(rendered(chosen)), environment(chosen)):
        lanes.home.behaviour = lanes.vm.behaviour = Behaviour(status=503)
        answer = lanes.call()
        assert (answer.status, answer.lane, answer.headers.get("retry-after")) == (503, "gateway", "5")
        assert answer.seconds < 15
        assert max(lanes.home.begun, lanes.vm.begun) <= 2, "which one is tried again first is a matter of moments"
        with pytest.raises(openai.InternalServerError):
            ask(lanes.sdk())


def test_a_500_that_comes_when_no_time_is_left_stands(lanes: World) -> None:
    chosen = settings(gateway={"wait_s": 1, "timeout_s": 60})
    with lanes.caddy(patient(rendered(chosen)), environment(chosen)):
        lanes.home.behaviour = Behaviour(status=500, body=TOLD, delay=1.5)
        answer = lanes.call()
        assert (answer.status, answer.lane, answer.body) == (500, "home", TOLD)
        assert (lanes.home.begun, lanes.vm.begun) == (1, 0)


@pytest.mark.parametrize("lane", ["home", "vm"])
def test_lane_alone(lanes: World, lane: str) -> None:
    chosen = settings(lanes=[lane])
    with lanes.caddy(patient(rendered(chosen)), environment(chosen), first=lane):
        other = lanes.vm if lane == "home" else lanes.home
        other.down()
        assert [lanes.call(body=body).lane for body in (SMALL, LARGE)] == [lane] * 2
        (lanes.home if lane == "home" else lanes.vm).down()
        answer = lanes.call()
        assert (answer.status, answer.error["code"]) == (503, "no_lane")


@pytest.mark.parametrize("lane", ["home", "vm"])
def test_a_500_of_a_lane_alone_stands(lanes: World, lane: str) -> None:
    chosen = settings(lanes=[lane])
    with lanes.caddy(patient(rendered(chosen)), environment(chosen), first=lane):
        toy = lanes.home if lane == "home" else lanes.vm
        toy.behaviour = Behaviour(status=500, body=TOLD)
        for body in (SMALL, LARGE):
            answer = lanes.call(body=body)
            assert (answer.status, answer.lane, answer.body) == (500, lane, TOLD)
        assert toy.begun == 2


def test_what_the_vm_alone_never_answers_in_time_is_refused_at_once(lanes: World) -> None:
    chosen = settings(
        lanes=["vm"],
        vm={"machine_type": "e2-highmem-2", "speed": {"prompt": 4.6, "picture": 4.65, "answer": 2}},
        gateway={"timeout_s": 300},
    )
    with lanes.caddy(rendered(chosen), environment(chosen), first="vm"):
        for body in (SMALL, LARGE):
            answer = lanes.call(body=body)
            assert (answer.status, answer.lane, answer.error["code"]) == (503, "gateway", "too_slow")
            assert "begins after about 390 s; a request may take 300 s" in answer.error["message"]
            assert (answer.headers["retry-after"], answer.seconds < AT_ONCE_S) == ("60", True)
        assert lanes.vm.begun == 0
        assert lanes.call(body=SMALL[:60_000]).lane == "vm", "a text"
        asked = lanes.vm.begun
        with pytest.raises(openai.InternalServerError) as caught:
            ask(lanes.sdk().with_options(max_retries=2), "x" * 70_000)
        assert (caught.value.code, lanes.vm.begun) == ("too_slow", asked), "the stock client tells it at once"


def test_shutdown_lets_streams_end_and_the_log_tells_no_secret(lanes: World) -> None:
    with lanes.caddy(patient(rendered(settings())), environment(settings())) as process:
        query, body = "/v1/completions?api_key=in-the-query", b'{"prompt":"in-the-body"}'
        lanes.call(path=query, body=body, Cookie="in-a-cookie", X_Request_Id="first")
        stranger, theirs = "Bearer not-a-key-of-anybody", "Bearer in-a-header"
        lanes.call(Authorization=stranger, X_Serverless_Authorization=theirs, X_Request_Id="second")
        lanes.home.behaviour = Behaviour(tokens=[0.3] * 5)
        answers: list[Answer] = []
        caller = threading.Thread(target=lambda: answers.append(lanes.call(X_Request_Id="last")))
        caller.start()
        until(lambda: lanes.home.running == 1, "the stream has begun")
        process.terminate()
        caller.join(30)
        assert process.wait(30) == 0
        assert answers[0].body.count(b"data: ") == 5
    for secret in (KEY, "in-the-query", "in-the-body", "in-a-cookie", "not-a-key", "in-a-header"):
        assert secret not in lanes.log
    lines = [json.loads(line) for line in lanes.log.splitlines()]
    requests = [line for line in lines if line["message"] == "handled request" and line["request"]["uri"] != "/ready"]
    # By their ids: Caddy logs a request after its answer, so the next one may be logged before it.
    told = {x["request_id"]: (x.get("client"), x.get("lane"), x["retries"], x["status"]) for x in requests}
    assert told["first"] == told["last"] == ("demo", "home", 0, 200)
    assert told["second"] == (None, None, None, 401)
