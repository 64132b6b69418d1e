"""How Cloud Run's instances grow and go in the lab: by load, by demand, by idleness, up to the declared maximum."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from lab.errors import LabError
from lab.run import instances
from lab.run.instances import FullError, Instance, Instances
from tests.kit import DEADLINE_S, eventually, run

WINDOW_S = 0.24


class Toy:
    """An instance that holds its number."""

    def __init__(self, number: int) -> None:
        self._number, self._running = number, True

    @property
    def port(self) -> int:
        return self._number

    @property
    def running(self) -> bool:
        return self._running

    async def stop(self) -> None:
        self._running = False


class Launcher:
    """Starts toys, numbered; `gate` holds starts back, and `failing` of them fail."""

    def __init__(self) -> None:
        self.toys: list[Toy] = []
        self.launches = self.failing = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> Instance:
        self.launches += 1
        await self.gate.wait()
        if self.failing:
            self.failing -= 1
            raise LabError("the probe failed")
        self.toys.append(Toy(len(self.toys)))
        return self.toys[-1]


class Callers:
    """Requests that stay until they are told to go; `seats` has the instance of each that has one."""

    def __init__(self, service: Instances) -> None:
        self._service = service
        self._going: list[asyncio.Event] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.seats: list[int] = []
        self.errors: list[Exception] = []

    def come(self, count: int) -> None:
        for _ in range(count):
            self._going.append(asyncio.Event())
            self._tasks.append(asyncio.create_task(self._stay(self._going[-1])))

    async def _stay(self, going: asyncio.Event) -> None:
        try:
            async with self._service.place() as instance:
                self.seats.append(instance.port)
                await going.wait()
        except (FullError, LabError) as error:
            self.errors.append(error)

    async def go(self) -> None:
        for going in self._going:
            going.set()
        await asyncio.gather(*self._tasks)
        self._going.clear()
        self._tasks.clear()
        self.seats.clear()


@contextlib.asynccontextmanager
async def serving(launcher: Launcher, **options: Any) -> AsyncGenerator[tuple[Instances, Callers]]:
    defaults: dict[str, Any] = {"concurrency": 2, "least": 0, "most": 3, "idle_s": 600.0, "window_s": 600.0}
    service = Instances(launcher, **{**defaults, **options})
    await service.start()
    callers = Callers(service)
    try:
        yield service, callers
    finally:
        launcher.gate.set()
        await callers.go()
        await service.stop()
        assert not any(toy.running for toy in launcher.toys)


def test_another_instance_starts_for_those_who_find_no_room_up_to_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "QUEUE_S", 0.2)
    monkeypatch.setattr(instances, "TEND_S", 0.05)

    async def scenario() -> None:
        launcher = Launcher()
        launcher.gate.clear()
        async with serving(launcher) as (service, callers):
            for more, launches in ((2, 1), (1, 2), (1, 2), (1, 3), (1, 3), (2, 3)):
                callers.come(more)
                await asyncio.sleep(0.01)
                assert launcher.launches == launches
            launcher.gate.set()
            await eventually(lambda: len(callers.seats) == 6)
            assert sorted(callers.seats) == [0, 0, 1, 1, 2, 2]
            await eventually(lambda: len(callers.errors) == 2)
            assert [type(error) for error in callers.errors] == [FullError] * 2
            assert service.status()["instances"] == 3

    run(scenario())


def test_a_lasting_load_over_the_target_starts_another_though_nobody_waits() -> None:
    async def scenario() -> None:
        launcher = Launcher()
        async with serving(launcher, concurrency=10, window_s=WINDOW_S) as (service, callers):
            callers.come(6)
            await asyncio.sleep(3 * WINDOW_S)
            assert launcher.launches == 1, "6 of 10 is the target"
            callers.come(1)
            await eventually(lambda: service.status()["instances"] == 2)
            await asyncio.sleep(3 * WINDOW_S)
            assert launcher.launches == 2, "the load wants no third"
            callers.come(6)
            await eventually(lambda: service.status()["instances"] == 3)
            callers.come(12)
            await asyncio.sleep(3 * WINDOW_S)
            assert launcher.launches == 3, "the load wants a fifth, and there may be three"

    run(scenario())


def test_load_is_an_average_over_the_whole_window(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(instances.time, "monotonic", lambda: now)
    load = instances._Load(60.0)  # pyright: ignore[reportPrivateUsage]
    seen: list[float] = []
    load.becomes(8)
    for second in range(5, 95, 5):
        now = 1000.0 + second
        seen.append(round(load.average(), 3))
        if second == 30:
            load.becomes(2)
    assert seen[:6] == [0.667, 1.333, 2.0, 2.667, 3.333, 4.0], "who came since the start, spread over a minute"
    assert seen[11] == 5.0, "half of the minute 8, half of it 2"
    assert seen[17] == 2.0, "what is older than a minute is forgotten"


def test_requests_are_spread_over_what_the_load_wants() -> None:
    async def scenario() -> None:
        launcher = Launcher()
        async with serving(launcher, concurrency=4, window_s=WINDOW_S, most=2) as (service, callers):
            callers.come(4)
            await eventually(lambda: service.status()["instances"] == 2)
            assert set(callers.seats) == {0}
            callers.come(1)
            await eventually(lambda: 1 in callers.seats)
            await callers.go()
            async with asyncio.timeout(DEADLINE_S):
                # As many as one holds: each of them is chosen now and then.
                while set(callers.seats) != {0, 1}:
                    await callers.go()
                    callers.come(4)
                    await asyncio.sleep(0.01)

    run(scenario())


def test_what_the_load_no_longer_wants_becomes_idle_and_ends() -> None:
    async def scenario() -> None:
        launcher = Launcher()
        options: dict[str, Any] = {"concurrency": 4, "window_s": WINDOW_S, "idle_s": 0.6, "most": 2}
        async with serving(launcher, **options) as (service, callers):
            callers.come(5)
            await eventually(lambda: service.status()["instances"] == 2)
            await callers.go()
            async with asyncio.timeout(DEADLINE_S):
                # One at a time is a load for one instance; the other one goes in the end.
                while service.status()["instances"] == 2:
                    callers.come(1)
                    await asyncio.sleep(0.02)
                    await callers.go()
            assert len(service.running) == 1
            await eventually(lambda: service.status()["instances"] == 0)
            assert launcher.launches == 2

    run(scenario())


def test_those_that_always_run_start_at_once_and_stay() -> None:
    async def scenario() -> None:
        launcher = Launcher()
        async with serving(launcher, least=2, idle_s=0.05) as (service, _):
            assert service.status()["instances"] == 2
            await asyncio.sleep(0.3)
            assert [toy.running for toy in launcher.toys] == [True, True]
            await launcher.toys[0].stop()
            await eventually(lambda: len(launcher.toys) == 3)
            assert service.running == launcher.toys[1:]

    run(scenario())


def test_a_start_that_fails_fails_those_who_would_have_got_its_places() -> None:
    async def scenario() -> None:
        launcher = Launcher()
        async with serving(launcher) as (service, callers):
            callers.come(2)
            await eventually(lambda: len(callers.seats) == 2)
            launcher.gate.clear()
            launcher.failing = 1
            callers.come(3)
            await eventually(lambda: launcher.launches == 3)
            launcher.gate.set()
            await eventually(lambda: len(callers.seats) + len(callers.errors) == 5)
            assert [str(error) for error in callers.errors] == ["the probe failed"] * 2
            assert len(set(callers.seats)) == 2, "the other start served the third"
            assert service.status()["instances"] == 2

    run(scenario())


def test_who_waits_for_a_further_instance_is_refused_after_some_usual_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "QUEUE_S", 0.0)
    monkeypatch.setattr(instances, "TEND_S", 0.05)

    async def scenario() -> None:
        launcher = Launcher()
        launcher.gate.clear()
        async with serving(launcher, concurrency=1) as (service, callers):
            callers.come(1)
            await asyncio.sleep(0.2)
            assert not callers.errors, "no start has been usual yet"
            launcher.gate.set()
            await eventually(lambda: len(callers.seats) == 1)
            usual_s = service.status()["starts_s"][0]
            launcher.gate.clear()
            callers.come(1)
            asked = asyncio.get_running_loop().time()
            await eventually(lambda: len(callers.errors) == 1)
            assert isinstance(callers.errors[0], FullError)
            assert asyncio.get_running_loop().time() - asked > 3.4 * usual_s
            launcher.gate.set()
            await eventually(lambda: service.status()["instances"] == 2)

    run(scenario())


def test_a_caller_who_leaves_in_line_or_in_a_place_takes_none() -> None:
    async def scenario() -> None:
        launcher = Launcher()
        async with serving(launcher, concurrency=1, most=1) as (service, callers):
            callers.come(1)
            await eventually(lambda: len(callers.seats) == 1)
            waiting = asyncio.create_task(service.place().__aenter__())
            await asyncio.sleep(0.01)
            assert service.status()["in_flight"] == 2
            waiting.cancel()
            await asyncio.wait({waiting})
            assert service.status()["in_flight"] == 1
            await callers.go()
            async with service.place():
                waiting = asyncio.create_task(service.place().__aenter__())
                await asyncio.sleep(0.01)
            # It has the place now, and doesn't know it yet.
            waiting.cancel()
            await asyncio.wait({waiting})
            assert waiting.cancelled()
            callers.come(1)
            await eventually(lambda: len(callers.seats) == 1)

    run(scenario())
