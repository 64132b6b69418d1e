"""A home whose `/health` says 200 and that serves nobody: real Caddy and pilot, as declared, between toy lanes."""

import contextlib
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from components import ports
from components.settings import Settings
from tests.gateway.backends import Behaviour, Lane
from tests.gateway.pilot.world import Asked, Reply, Toy
from tests.gateway.piloted import log, pilot
from tests.gateway.routing import environment, rendered, settings
from tests.gateway.world import World, world
from tests.kit import close, until

CALLER_S = 8.0
"""A caller waits so long."""
HANGING_S = 20.0
"""The first ones, who are there when home gets stuck, are freed and answered in this time."""


def declared() -> Settings:
    """Who hangs at home is repeated elsewhere only while he may still wait."""
    return settings(gateway={"wait_s": 30, "timeout_s": 60})


class Engine(Lane):
    """A vLLM: its front counts, and answers health and metrics whatever the engine does."""

    def checked(self, path: str) -> tuple[int, bytes]:
        if path != "/metrics":
            return super().checked(path)
        failed = self.begun if self.behaviour.status == 500 else 0
        answered = self.begun - self.running - self.gone - failed
        errors = f'http_requests_total{{handler="/v1/chat/completions",method="POST",status="5xx"}} {failed}'
        return 200, f"vllm:time_to_first_token_seconds_count {answered}\n{errors}\n".encode()


@pytest.fixture(scope="module")
def lanes() -> Iterator[World]:
    with world(Engine) as all_lanes:
        yield all_lanes


@contextlib.contextmanager
def daemon(here: World) -> Generator[None]:
    """The tunnel's, as far as the pilot can end it."""

    async def shut(_: Asked) -> Reply:
        here.tunnel.cut()
        return 200, ""

    toy = Toy(shut)
    here.tunnel.run(toy.start(here.folder / ports.TAILSCALED_SOCKET))
    try:
        yield
    finally:
        here.tunnel.run(close(toy.server)) if toy.server else None


@pytest.fixture
def here(lanes: World) -> Iterator[World]:
    chosen = declared()
    with lanes.caddy(rendered(chosen), environment(chosen)), daemon(lanes), pilot(lanes, chosen):
        until(lambda: '"home is warm' in log(lanes).read_text(), "the pilot sees home")
        yield lanes
    lanes.heal()


def test_a_stuck_home_takes_nobody_down(here: World) -> None:
    """Six callers one after the other and two who hang there from the start: the VM answers them all."""
    here.home.behaviour = Behaviour(hold=True)
    with ThreadPoolExecutor(2) as callers:
        hanging = [callers.submit(here.call) for _ in range(2)]
        until(lambda: here.home.running == 2, "both are at home")
        assert here.home.behaviour.healthy
        answers = [call.result() for call in hanging]
    assert [(a.status, a.lane, a.seconds < HANGING_S) for a in answers] == [(200, "vm", True)] * 2
    later = [here.call() for _ in range(6)]
    assert [(a.status, a.lane, a.seconds < CALLER_S) for a in later] == [(200, "vm", True)] * 6
    here.home.behaviour = Behaviour()
    here.home.release()
    until(lambda: here.call().lane == "home", "home is taken back", 40)


def test_a_home_that_answers_500_gets_nobody(here: World) -> None:
    here.home.behaviour = Behaviour(status=500, body=b'{"error":{"message":"CUDA error"}}')
    patient = here.sdk().with_options(max_retries=openai.DEFAULT_MAX_RETRIES)
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
    first = patient.chat.completions.with_raw_response.create(model="m", messages=messages)
    assert first.headers["X-Served-By"] == "vm", "the stock SDK's own second or third try gets there"

    def left() -> bool:
        return {(answer.status, answer.lane) for answer in [here.call() for _ in range(9)]} == {(200, "vm")}

    # Until home is left, the VM is spared for what home would begin sooner, so that the first 500s stand.
    until(left, "nine in a row are the VM's", 15)
    here.home.behaviour = Behaviour()
    until(lambda: here.call().lane == "home", "home is taken back", 40)
