"""The VM lane's machines: one at its address, or a group behind the balancer's, which grows as its autoscaler says.

Owns: how many machines run, and since when. Does not own: what a machine runs (`launch`), which of them a connection
reaches (`balancer`), the declaration (`read.vm`).

Google's autoscaler looks at a minute's average of the processors, wants as many machines as would bring it to the
target, and keeps what was wanted at most within ten minutes. A machine tells it nothing until its declared
initialisation is over (docs.cloud.google.com/compute/docs/autoscaler/understanding-autoscaler-decisions). Here it
serves from then on, and no sooner: so long it may take to fetch its weights.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from lab.errors import LabError
from lab.read.vm import Scaling, Vm
from lab.run.balancer import Backend, Balancer
from lab.run.ports import free_port
from lab.run.processes import Process

MINUTE_S: Final = 60.0
"""Over which the autoscaler averages."""
STABLE_S: Final = 600.0
"""How long the largest size that was wanted holds."""
STOP_S: Final = 2.0
"""Between SIGTERM and SIGKILL."""


@dataclass(eq=False)
class _Machine:
    number: int
    port: int
    process: Process
    backend: Backend
    at_s: float = 0.0
    busy_s: float = 0.0
    """By the machine's own clock."""


class Autoscaler:
    """The size that a group should have. Pure."""

    def __init__(self, scaling: Scaling, least: int, stable_s: float) -> None:
        self._scaling, self._least, self._stable_s = scaling, least, stable_s
        self._wanted: deque[tuple[float, int]] = deque()

    def size(self, now: float, shares: list[float]) -> int:
        """`shares`: how busy the processors of each serving machine were."""
        # Rounded, for a load that is the target must not be a machine too many.
        wanted = math.ceil(round(sum(shares) / self._scaling.busy, 6))
        self._wanted.append((now, min(self._scaling.most, max(self._least, wanted))))
        while self._wanted[0][0] < now - self._stable_s:
            self._wanted.popleft()
        return max(size for _, size in self._wanted)


class Machines:
    """`launch(number, host, port)` starts a machine's server. Times of the autoscaler are divided by `time_scale`."""

    def __init__(self, vm: Vm, launch: Callable[[int, str, int], Awaitable[Process]], *, time_scale: float) -> None:
        self._vm, self._launch, self._time_scale = vm, launch, time_scale
        self._single: Process | None = None
        self._machines: list[_Machine] = []
        self._starting = 0
        self._balancer: Balancer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Returns when those that always run answer; does nothing if they do."""
        vm = self._vm
        if vm.most == 1:
            if not self._single or not self._single.running:
                self._single = await self._launch(1, vm.address, vm.port)
            return
        if self._balancer:
            return
        assert vm.balancing
        balancing = vm.balancing
        self._balancer = Balancer(vm.address, vm.port, check_s=balancing.check_s, failures=balancing.failures)
        try:
            async with asyncio.TaskGroup() as machines:
                for number in range(1, vm.machines + 1):
                    machines.create_task(self._add(number))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        await self._balancer.start()
        if vm.scaling:
            self._spawn(self._scale(vm.scaling))

    async def stop(self) -> None:
        """Nobody answers at the address any more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._balancer:
            await self._balancer.stop()
        running = [*(machine.process for machine in self._machines), *([self._single] if self._single else [])]
        await asyncio.gather(*(process.stop(STOP_S) for process in running))
        self._machines.clear()
        self._balancer, self._starting = None, 0

    @property
    def addresses(self) -> list[str]:
        """Of each machine's server."""
        if self._vm.most == 1:
            return [f"{self._vm.address}:{self._vm.port}"]
        return [f"127.0.0.1:{machine.port}" for machine in self._machines]

    def status(self) -> dict[str, Any]:
        """Machines that serve, those that are on their way, and the maximum."""
        serving = self._balancer.healthy if self._balancer else int(bool(self._single and self._single.running))
        return {"machines": serving, "starting": self._starting, "most": self._vm.most}

    async def _add(self, number: int) -> None:
        assert self._balancer
        port = free_port()
        process = await self._launch(number, "127.0.0.1", port)
        backend = self._balancer.add("127.0.0.1", port)
        self._machines.append(_Machine(number, port, process, backend))

    async def _scale(self, scaling: Scaling) -> None:
        autoscaler = Autoscaler(scaling, self._vm.machines, STABLE_S / self._time_scale)
        while True:
            await asyncio.sleep(MINUTE_S / self._time_scale)
            shares = await asyncio.gather(*(self._share(machine) for machine in self._machines))
            size = autoscaler.size(time.monotonic(), shares)
            for number in range(len(self._machines) + self._starting + 1, size + 1):
                self._starting += 1
                self._spawn(self._grow(number, scaling.start_s / self._time_scale))
            for machine in self._machines[size:]:
                self._machines.remove(machine)
                self._spawn(self._shrink(machine))

    async def _grow(self, number: int, start_s: float) -> None:
        try:
            await asyncio.sleep(start_s)
            with contextlib.suppress(LabError):
                await self._add(number)
        finally:
            self._starting -= 1

    async def _shrink(self, machine: _Machine) -> None:
        assert self._balancer
        assert self._vm.balancing
        try:
            await self._balancer.drain(machine.backend, self._vm.balancing.draining_s)
        finally:
            await machine.process.stop(STOP_S)

    async def _share(self, machine: _Machine) -> float:
        """How busy its processors were since the last time; not at all at the first, or where it doesn't tell."""
        busy_s, at_s = machine.busy_s, machine.at_s
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as client,
                client.get(f"http://127.0.0.1:{machine.port}/_busy") as answer,
            ):
                if answer.status == 200:
                    told = await answer.json()
                    machine.busy_s, machine.at_s = told["busy_s"], told["at_s"]
        spent_s = machine.at_s - at_s
        return (machine.busy_s - busy_s) / spent_s * self._vm.working if at_s and spent_s else 0.0

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
