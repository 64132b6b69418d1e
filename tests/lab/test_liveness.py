"""The declared liveness of home's engine, carried out in the lab as the kubelet does it, with its times shortened."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import pytest

from lab.control import folder_of
from lab.measure import scenarios
from lab.measure.testbed import lab_up
from lab.read import home
from lab.read.stack import Stack

CONFIG: Final = ('lanes=["home","vm"]',)
WAIT_S: Final = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("declared_addresses")]


def quickly(stack: Stack) -> None:
    [release] = [one for one in stack.of_type(home.RELEASE) if one.name == "home-vllm"]
    release.inputs["values"]["liveness"] |= {"periodSeconds": 1, "timeoutSeconds": 3, "failures": 2}


async def until(true: Callable[[], bool], told: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, f"it never happened: {told}"
        await asyncio.sleep(0.1)


def probes() -> list[str]:
    log = folder_of("testbed") / "logs" / "home-vllm-liveness.log"
    return log.read_text().splitlines() if log.exists() else []


def test_a_stuck_engine_is_started_again_until_it_is_none() -> None:
    async def main() -> None:
        async with lab_up(1.0, CONFIG, quickly, answer_s=0.0) as testbed:
            before = len(probes())
            await until(lambda: len(probes()) >= before + 3, "an idle engine is probed")
            assert {line.partition(":")[0] for line in probes()[before:]} == {"alive"}
            await testbed.fault("home-mute", True)
            await until(lambda: testbed.restarts() == {"home/vllm": 1}, "a mute engine is started again")
            await until(lambda: testbed.restarts() == {"home/vllm": 2}, "the fault is on, so it is mute again")
            await testbed.fault("home-mute", False)
            await until(lambda: probes()[-1].startswith("alive: it gave a token"), "it works")
            count = testbed.restarts()["home/vllm"]
            await asyncio.sleep(4)
            assert testbed.restarts() == {"home/vllm": count}
            async with testbed.load(1.0) as load:
                assert await scenarios.until(load, "home", scenarios.serves, 0.0), "callers have it again"

    asyncio.run(main())


def test_an_engine_that_answers_500_is_started_again() -> None:
    async def main() -> None:
        async with lab_up(1.0, CONFIG, quickly, answer_s=0.0) as testbed:
            await testbed.fault("home-500", True)
            await until(lambda: testbed.restarts() == {"home/vllm": 1}, "an engine that answers 500 is started again")

    asyncio.run(main())
