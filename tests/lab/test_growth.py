"""What a stack gains under load, as its declaration allows: further instances of burst, further machines."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from components.gateway.pilot.machines import SEEN_S
from lab.measure import testbed as beds
from lab.measure.evidence import Arrival
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


def burst(instances: int) -> list[str]:
    quick = QUICK_BURST.removesuffix("}")
    return ['lanes=["burst"]', f'{quick},"max_requests":{SLOTS},"max_instances":{instances}}}']


async def goes_on(load: Load, true: Callable[[], bool]) -> None:
    """The load lasts until the condition comes true."""
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await load.run(load.every_s)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.5)


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
                """Each request has a connection of its own, which may lead anywhere."""
                await goes_on(load, lambda: len({one.process for one in testbed.received() if one.request}) >= machines)

            # About what two machines can do.
            async with testbed.load(rate=5, request=Request(answer_tokens=40)) as load:
                assert testbed.machines() == 2
                await reached(load, 2)
                await goes_on(load, lambda: testbed.machines() == 3)
                await reached(load, 3)
            assert {(sample.outcome, sample.lane) for sample in load.samples} == {("ok", "vm")}

    asyncio.run(main())


# --- further slots ---------------------------------------------------------------------------------------------------

ANSWER_S = 2.0
GONE_S = SEEN_S + 5.0
"""After a machine's last look; until then the pilot waits for the answer, and Caddy asks the pilot."""
Stay = tuple[float, float]
"""Of a request at a lane: from its arrival to its last token, Unix time."""


class Watch:
    """Which machines serve, from when on, by the lab's own count."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self.since = [(time.time(), count())]

    async def __aenter__(self) -> "Watch":
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._looking.cancel()
        await asyncio.wait({self._looking})

    async def _look(self) -> None:
        while True:
            before = time.time()
            await asyncio.sleep(0.01)
            if (found := self._count()) > self.since[-1][1]:
                # Since then at the earliest.
                self.since.append((before, found))

    def periods(self) -> list[tuple[int, float, float]]:
        """Machines, and from when until when there were so many."""
        ends = [*(at for at, _ in self.since[1:]), math.inf]
        return [(machines, at, end) for (at, machines), end in zip(self.since, ends, strict=True)]


def most(stays: Sequence[Stay], begin: float, end: float) -> int:
    """At a time, within the period. Who leaves makes room for who comes at the same moment."""
    steps = sorted([*((came, 1) for came, _ in stays), *((left, -1) for _, left in stays)])
    running, found = 0, 0
    for number, (at, step) in enumerate(steps):
        running += step
        until = steps[number + 1][0] if number + 1 < len(steps) else math.inf
        if until > begin and at < end:
            found = max(found, running)
    return found


async def crowd(load: Load, callers: int, enough: Callable[[], bool]) -> None:
    """So many callers, each of whom asks again when he has his answer."""
    done = asyncio.create_task(until(enough))
    try:
        while not done.done():
            await (load.run(load.every_s) if len(load.pending) < callers else asyncio.sleep(load.every_s))
        await done
    finally:
        done.cancel()


def never_too_many(stays: Sequence[Stay], watch: Watch) -> None:
    """Slots of machines that aren't there would be taken at once, all of them: there are callers enough.

    One or two more than there are slots may be there, of those who come in the same moment: Caddy looks for a free slot
    (`Upstream.Full`), and counts the request a step later (`reverseProxy`).
    """
    for machines, begin, end in watch.periods():
        assert most(stays, begin, end) < (SLOTS * (machines + 1) if machines else 1), watch.periods()


def at_burst(testbed: beds.Testbed) -> list[Stay]:
    """Those who wait at Google for an instance included."""
    left = {arrival.request: arrival.finished for arrival in testbed.received()}
    return [(one.time, left.get(one.request, math.inf)) for one in testbed.burst_requests() if one.request]


def on_vm(testbed: beds.Testbed) -> list[Stay]:
    return [(one.time, one.finished) for one in testbed.received() if one.lane == "vm" and one.request]


def test_each_instance_of_burst_brings_its_slots_when_it_is_seen_and_they_go_again() -> None:
    async def main() -> None:
        # A minute of Google's is 3 s here, and the cold start 1 s.
        async with lab_up(20.0, burst(3), answer_s=ANSWER_S, time_scale=20.0) as testbed:

            def full(instances: int) -> bool:
                return most(at_burst(testbed), since, math.inf) >= SLOTS * instances

            async with testbed.load(rate=50) as load, Watch(testbed.burst_instances) as watch:
                since = time.time()
                await crowd(load, 4 * SLOTS, lambda: full(3))
            never_too_many(at_burst(testbed), watch)

            def looks() -> list[float]:
                return [one.time for one in testbed.burst_requests() if not one.request]

            # While nobody calls nobody is seen.
            await until(lambda: time.time() - looks()[-1] > GONE_S)
            assert testbed.burst_instances() == 3
            async with testbed.load(rate=50) as again:
                since = time.time()
                await crowd(again, 4 * SLOTS, lambda: full(3))
            new = [at for at in looks() if at > since]
            for seen, (begin, end) in enumerate(pairwise([since, *new[:3]])):
                assert most(at_burst(testbed), begin, end) < SLOTS * (max(1, seen) + 1)
            assert {(sample.outcome, sample.lane) for sample in load.samples + again.samples} == {("ok", "burst")}

    asyncio.run(main())


def test_a_machine_of_the_vm_s_group_does_so_beyond_those_that_always_run() -> None:
    async def main() -> None:
        # A minute of Google's is 1 s here, and the declared 10 minutes until a machine serves are 10 s.
        config = [
            'lanes=["burst","vm"]',
            'burst={"wake":"never"}',
            f'vm={{"machine_type":"e2-standard-8","replicas":1,"max_replicas":2,"max_requests":{SLOTS}}}',
        ]
        async with lab_up(3.0, config, answer_s=None, time_scale=60.0) as testbed:

            async def filled(machines: int) -> None:
                """Callers for more than there can be, until so many machines are full."""
                async with (
                    testbed.load(rate=50, request=Request(answer_tokens=40)) as load,
                    Watch(testbed.machines) as watch,
                ):
                    since = time.time()
                    await crowd(load, 4 * SLOTS, lambda: most(on_vm(testbed), since, math.inf) >= SLOTS * machines)
                never_too_many(on_vm(testbed), watch)
                assert {(sample.outcome, sample.lane) for sample in load.samples} == {("ok", "vm")}

            await filled(2)
            await until(lambda: testbed.machines() == 1)
            await asyncio.sleep(GONE_S)
            await filled(2)

    asyncio.run(main())


# --- several machines at home ----------------------------------------------------------------------------------------


def at_home(testbed: beds.Testbed, since: float) -> list[Arrival]:
    return [one for one in testbed.received() if one.lane == "home" and one.request and one.time >= since]


def test_each_machine_at_home_has_its_slots_while_it_is_there() -> None:
    """Of more callers than there can be slots, so many are at home at a time, however often one goes and comes back."""

    async def main() -> None:
        # Kubernetes' 50 s are 5 here.
        config = ['lanes=["home"]', f'home={{"nodes":2,"max_requests":{SLOTS}}}']
        async with lab_up(3.0, config, answer_s=ANSWER_S, time_scale=10.0) as testbed:

            async def filled(machines: int, enough: int) -> None:
                since = time.time()
                async with testbed.load(rate=50) as load:
                    await crowd(load, 4 * SLOTS, lambda: len(at_home(testbed, since)) >= enough)
                found = at_home(testbed, since)
                stays = [(one.time, one.finished) for one in found]
                assert most(stays, since, math.inf) in (SLOTS * machines, SLOTS * machines + 1)
                assert len({one.process for one in found}) == machines
                assert {(sample.outcome, sample.lane) for sample in load.samples} == {("ok", "home")}

            await filled(2, 6 * SLOTS)
            await testbed.fault("home-node-off", True)
            await asyncio.sleep(GONE_S)
            await filled(1, 3 * SLOTS)
            await testbed.fault("home-node-off", False)
            await filled(2, 6 * SLOTS)

    asyncio.run(main())
