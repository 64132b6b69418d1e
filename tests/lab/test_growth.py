"""What a stack gains under load, as its declaration allows: further instances of burst, further machines."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from lab.measure.load import Load
from lab.measure.requests import Request
from lab.measure.scenarios import QUICK_BURST
from lab.measure.testbed import lab_up

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("declared_addresses"),
    # asyncio leaves the socket of a connection attempt that is cancelled to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SLOTS = 4
DEADLINE_S = 120.0
KEPT_S = 7.0
"""Longer than an answer takes, and then Caddy keeps a connection that is idle."""


def burst(instances: int) -> list[str]:
    quick = QUICK_BURST.removesuffix("}")
    return ['lanes=["burst"]', f'{quick},"max_requests":{SLOTS},"max_instances":{instances}}}']


async def goes_on(load: Load, true: Callable[[], bool]) -> None:
    """The load lasts until the condition comes true."""
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await load.run(load.every_s)


async def loaded(instances: int) -> tuple[int, Counter[str]]:
    """How many instances a load for one gets in the end, and how many of the latest requests each of them had."""
    # A minute of Google's is 6 s here, and the cold start 2 s.
    async with lab_up(20.0, burst(instances), time_scale=10.0) as testbed:
        async with testbed.load(rate=SLOTS / 0.7) as load:
            await goes_on(load, lambda: testbed.burst_instances() == min(instances, 2))
            before = len(load.samples)
            await goes_on(load, lambda: len(load.samples) >= before + 100)
            found = testbed.burst_instances()
        assert {(sample.outcome, sample.lane) for sample in load.samples} == {("ok", "burst")}
        late = sorted(testbed.received(), key=lambda arrival: arrival.time)[-80:]
        return found, Counter(arrival.process for arrival in late if arrival.request)


def test_a_lasting_load_brings_burst_a_second_instance_and_both_answer() -> None:
    found, answered = asyncio.run(loaded(instances=3))
    assert found >= 2
    assert len(answered) >= 2, answered


def test_a_burst_of_one_instance_stays_alone() -> None:
    found, answered = asyncio.run(loaded(instances=1))
    assert found == 1
    assert len(answered) == 1, answered


def test_both_machines_of_a_group_answer_and_busy_ones_get_a_third() -> None:
    async def main() -> None:
        # A minute of Google's is 1 s here, and the declared 10 minutes until a machine serves are 10 s.
        config = ['lanes=["vm"]', 'vm={"machine_type":"e2-highmem-2","replicas":2,"max_replicas":3}']
        async with lab_up(3.0, config, answer_s=None, time_scale=60.0) as testbed:

            async def reached(load: Load, machines: int) -> None:
                """A new connection may lead anywhere, and Caddy keeps those that are in use: hence the pauses."""
                async with asyncio.timeout(DEADLINE_S):
                    while len({arrival.process for arrival in testbed.received() if arrival.request}) < machines:
                        await asyncio.gather(load.run(1), asyncio.sleep(KEPT_S))

            # About what two machines can do.
            async with testbed.load(rate=5, request=Request(answer_tokens=40)) as load:
                assert testbed.machines() == 2
                await reached(load, 2)
                await goes_on(load, lambda: testbed.machines() == 3)
                await reached(load, 3)
            assert {(sample.outcome, sample.lane) for sample in load.samples} == {("ok", "vm")}

    asyncio.run(main())
