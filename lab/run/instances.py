"""The instances of a Cloud Run service: which of them gets a request, when another starts, and when one ends.

Owns: the line of those who wait for room, the autoscaler, idle time. Does not own: HTTP (`cloudrun`), what an instance
consists of (`launch`).

Google starts instances in two ways (docs.cloud.google.com/run/docs/about-instance-autoscaling, read in copies and
quotations of 2025 and 2026). One follows the load: as many as keep the concurrency, averaged over a minute, at 60 % of
its maximum. The page adds that the threshold is higher at few instances, without a number: a real one may come later.
The other follows demand: a request that finds no room waits, and an instance is started for it. Google doesn't say
which instance gets a request; here it is any that has room, of those that the load wants before the others, so that
what is left over becomes idle. The load on processors is no part of it: nobody knows it of a simulated machine.
"""

import asyncio
import contextlib
import math
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

TARGET: Final = 0.6
"""Share of its concurrency at which the autoscaler keeps an instance."""
WINDOW_S: Final = 60.0
"""Over which it averages."""
LOOKS: Final = 12
"""How often it looks within that time: every 5 s, in copies of 2023; newer ones say `periodically`."""
QUEUE_S: Final = 10.0
"""How long a request waits for room in the last instance; then 429."""
STARTS: Final = 3.5
"""Where an instance starts, it waits as many times the usual start, if that is longer."""
TEND_S: Final = 1.0
"""How often it is looked whether an instance is idle or has died, seconds."""


class Instance(Protocol):
    """A started instance: every container runs and the startup probe passed."""

    @property
    def port(self) -> int: ...
    @property
    def running(self) -> bool: ...
    async def stop(self) -> None: ...


class FullError(Exception):
    """Nobody made room in time."""


@dataclass(eq=False)
class _Running:
    instance: Instance
    in_flight: int = 0
    used: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class _Waiter:
    came: float = field(default_factory=time.monotonic)
    seated: asyncio.Future[_Running] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Instances:
    """Between `least` and `most` instances, each with `concurrency` places. A launch that fails raises `LabError`."""

    def __init__(
        self,
        launch: Callable[[], Awaitable[Instance]],
        *,
        concurrency: int,
        least: int,
        most: int,
        idle_s: float,
        window_s: float,
    ) -> None:
        self._launch, self._concurrency, self._least, self._most = launch, concurrency, least, most
        self._idle_s, self._window_s = idle_s, window_s
        self._running: list[_Running] = []
        """In the order of their start."""
        self._starting: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._waiting: deque[_Waiter] = deque()
        self._admitting = True
        self._starts_s: list[float] = []
        self._started_at = -math.inf
        """When the latest start ended."""
        self._load = _Load(window_s)
        self._wanted = 1
        """By the load."""
        self._tending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts those that always run, and returns when they do."""
        self._tending = asyncio.create_task(self._tend())
        for _ in range(self._least):
            self._start()
        await asyncio.gather(*self._starting)

    async def stop(self) -> None:
        """Ends all, those that are just starting included."""
        self._admitting = False
        tasks = {*self._starting, *({self._tending} if self._tending else ())}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._end_all()

    @property
    def running(self) -> list[Instance]:
        """Those that run, in the order of their start."""
        return [one.instance for one in self._running if one.instance.running]

    def status(self) -> dict[str, Any]:
        """Instances, requests in flight and in line, and how long the starts took, seconds."""
        return {
            "instances": len(self.running),
            "most": self._most,
            "in_flight": self._in_flight + len(self._waiting),
            "starts_s": [round(seconds, 2) for seconds in self._starts_s],
        }

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncGenerator[Instance]:
        """A place in a running instance; raises `FullError`, or `LabError` of the start that it waited for."""
        running = await self._room()
        try:
            yield running.instance
        finally:
            self._leave(running)

    @contextlib.asynccontextmanager
    async def replaced(self) -> AsyncGenerator[None]:
        """Puts a new instance in the place of the old one as Cloud Run does, which never cuts a request for that.

        The old one's requests get their answers first, then the block runs, then those who came meanwhile share the
        new one. On Cloud Run both would run for a while; here they would want the same addresses.
        """
        self._admitting = False
        try:
            while self._in_flight or self._starting:  # noqa: ASYNC110 (what is waited for tells nobody)
                await asyncio.sleep(0.02)
            await self._end_all()
            yield
        finally:
            self._admitting = True
            self._seat()

    async def end(self) -> None:
        """Tells all instances to end under their requests, and returns when they have."""
        await self._end_all()

    @property
    def _in_flight(self) -> int:
        return sum(one.in_flight for one in self._running)

    async def _room(self) -> _Running:
        waiter = _Waiter()
        self._waiting.append(waiter)
        self._seat()
        try:
            return await waiter.seated
        except BaseException:
            # Seated in the moment in which it goes.
            if waiter.seated.done() and not waiter.seated.cancelled() and not waiter.seated.exception():
                self._leave(waiter.seated.result())
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)

    def _patient_until(self, came: float) -> float:
        """How long somebody waits for room."""
        if not self._starting and self._admitting:
            return max(came, self._started_at) + QUEUE_S
        # Until a start has been usual, only the request's own time limit ends it.
        usual_s = sum(self._starts_s) / len(self._starts_s) if self._starts_s else math.inf
        return came + max(QUEUE_S, STARTS * usual_s)

    def _seat(self) -> None:
        """Who waits longest gets the room there is; for the others instances are started."""
        self._bury()
        while self._admitting and self._waiting and (free := self._free()):
            waiter = self._waiting.popleft()
            if not waiter.seated.done():
                chosen = random.choice(free)
                chosen.in_flight += 1
                waiter.seated.set_result(chosen)
        self._load.becomes(self._in_flight)
        while len(self._waiting) > self._concurrency * len(self._starting) and self._may_start:
            self._start()

    def _free(self) -> list[_Running]:
        found = [one for one in self._running if one.in_flight < self._concurrency]
        return [one for one in found if one in self._running[: self._wanted]] or found

    def _leave(self, running: _Running) -> None:
        running.in_flight -= 1
        running.used = time.monotonic()
        self._seat()

    @property
    def _may_start(self) -> bool:
        return self._admitting and len(self._running) + len(self._starting) < self._most

    def _start(self) -> None:
        task = asyncio.create_task(self._launched())
        self._starting.add(task)
        task.add_done_callback(self._started)

    async def _launched(self) -> None:
        if self._ending:
            # Of a service with one instance both have the same addresses.
            await asyncio.wait(self._ending)
        began = time.monotonic()
        instance = await self._launch()
        self._starts_s.append(time.monotonic() - began)
        self._running.append(_Running(instance))

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        self._started_at = time.monotonic()
        if not task.cancelled() and (error := task.exception()):
            # Those who would have got its places.
            self._refuse([*self._waiting][: self._concurrency], error)
        self._seat()

    def _refuse(self, waiters: list[_Waiter], error: BaseException) -> None:
        for waiter in waiters:
            self._waiting.remove(waiter)
            if not waiter.seated.done():
                waiter.seated.set_exception(error)

    def _bury(self) -> None:
        """Ends what is left of those that died."""
        for one in [one for one in self._running if not one.instance.running]:
            self._end(one)

    def _end(self, running: _Running) -> None:
        self._running.remove(running)
        task = asyncio.create_task(running.instance.stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_all(self) -> None:
        for one in [*self._running]:
            self._end(one)
        if self._ending:
            await asyncio.wait(self._ending)

    async def _tend(self) -> None:
        """Ends what is idle or dead, and starts what the load or the declaration wants."""
        looked = time.monotonic()
        while True:
            await asyncio.sleep(min(TEND_S, self._idle_s / 4, self._window_s / LOOKS))
            now = time.monotonic()
            self._seat()
            self._refuse([one for one in self._waiting if now >= self._patient_until(one.came)], FullError())
            # The latest first: the load wants the others.
            idle = [one for one in reversed(self._running) if not one.in_flight and now - one.used >= self._idle_s]
            for one in idle[: max(0, len(self._running) - self._least)]:
                self._end(one)
            if now - looked >= self._window_s / LOOKS:
                looked = now
                # Rounded, for a load that is the target must not be an instance too many.
                self._wanted = max(1, math.ceil(round(self._load.average() / (TARGET * self._concurrency), 6)))
            wanted = max(self._least, self._wanted if self._running else 0)
            while len(self._running) + len(self._starting) < wanted and self._may_start:
                self._start()


class _Load:
    """Requests in flight, averaged over the last `window_s`."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._level, self._since, self._sum = 0, time.monotonic(), 0.0
        self._looks = deque([(self._since, 0.0)], maxlen=LOOKS + 1)

    def becomes(self, level: int) -> None:
        now = time.monotonic()
        self._sum += self._level * (now - self._since)
        self._level, self._since = level, now

    def average(self) -> float:
        """Looked at `LOOKS` times in that time. Before the first of it is over, nobody came in what is missing."""
        self.becomes(self._level)
        self._looks.append((self._since, self._sum))
        began, before = self._looks[0]
        return (self._sum - before) / max(self._window_s, self._since - began)
