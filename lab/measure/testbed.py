"""A lab in this process, with fake models, for every program and test that measures one.

Owns: bringing the lab up and down, and handing out load, faults and the lanes' logs. Does not own: the scenarios
(`scenarios`), the running lab (`run.lab`).
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from lab.control import folder_of
from lab.greeting import arrive
from lab.measure.evidence import Arrival, arrivals
from lab.measure.load import Load
from lab.measure.requests import GREETING, Request
from lab.read import plan as plans
from lab.read.cloud import VM_ADDRESS, Cloud
from lab.read.plan import LANES, Plan
from lab.read.stack import PROJECT, Stack, config_of, render
from lab.run.burst import BurstRequest
from lab.run.lab import Lab
from lab.run.ports import free_port

ANSWER_S: Final = 0.6
"""What a fake model takes for an answer where its machine is not the point, half of it until the first token."""
CHECKED_S: Final = 2.0
"""Within this the checks of a new instance of the gateway have found the lanes, where no pilot tells."""
Plant = Callable[[Stack], None]
"""Breaks a rendered declaration on purpose."""


class Testbed:
    """A running lab, as its first client has it."""

    def __init__(self, lab: Lab, stack: Stack) -> None:
        self.lab = lab
        self.stack = stack
        """As it was declared."""
        self.model: str = stack.outputs["model"]
        self.url: str = stack.outputs["base_url"]
        self.keys: dict[str, str] = stack.outputs["api_keys"]
        """By client."""
        self.key: str = next(iter(self.keys.values()))

    def load(self, rate: float, request: Request = GREETING) -> Load:
        return Load(self.url, self.key, self.model, rate=rate, request=request)

    async def fault(self, name: str, on: bool) -> None:
        await self.lab.fault(name, on)

    def received(self) -> list[Arrival]:
        """What the fake lanes wrote down, those that ended included."""
        return [arrival for lane in LANES for arrival in arrivals(lane, self.lab.journal(lane))]

    @property
    def plan(self) -> Plan:
        """What runs."""
        return self.lab.plan

    def restarts(self) -> dict[str, int]:
        """How often each pod at home was started again by its liveness; without those that never were."""
        return self.lab.status()["restarts"]

    def burst_instances(self) -> int:
        """How many of burst's instances run."""
        return self.lab.burst.service.instances.status()["instances"] if self.lab.burst else 0

    def machines(self) -> int:
        """How many machines of the VM lane serve."""
        return self.lab.vm.status()["machines"] if self.lab.vm else 0

    def burst_start_s(self) -> float | None:
        """How long burst's first start took; None before it."""
        starts: list[float] = self.lab.burst.service.instances.status()["starts_s"] if self.lab.burst else []
        return starts[0] if starts else None

    def burst_requests(self) -> list[BurstRequest]:
        """What came to the front of burst."""
        return list(self.lab.burst.requests) if self.lab.burst else []

    async def wake_gateway(self) -> None:
        """A look at the lanes starts the gateway's instance and no lane; then its checks find them."""
        if not (await arrive(self.url, self.key, every=True)).lane:
            await asyncio.sleep(CHECKED_S)


@contextlib.asynccontextmanager
async def lab_up(
    cold_start_s: float,
    config: Sequence[str],
    plant: Plant | None = None,
    *,
    answer_s: float | None = ANSWER_S,
    time_scale: float = 1.0,
    vm_address: str = VM_ADDRESS,
) -> AsyncGenerator[Testbed]:
    """A running lab with the settings `config`, each `key=JSON`, taken down whatever happens.

    Its models answer in `answer_s`; None: as late as the declared machines, divided by `time_scale`.
    """
    cloud = Cloud(port=free_port(), burst_port=free_port(), vm_address=vm_address)
    settings = {f"{PROJECT}:{key}": value for key, _, value in (item.partition("=") for item in config)}
    declared = {**cloud.config(), **config_of("dev"), **settings}
    stack = await asyncio.to_thread(render, "dev", declared, cloud.compute)
    if plant:
        plant(stack)
    lab = Lab(
        stack,
        plans.read(stack),
        folder_of("testbed"),
        port=cloud.port,
        burst_port=cloud.burst_port,
        fake_models=True,
        cold_start_s=cold_start_s,
        answer_s=answer_s,
        time_scale=time_scale,
        say=lambda _: None,
    )
    try:
        await lab.start()
        testbed = Testbed(lab, stack)
        await testbed.wake_gateway()
        yield testbed
    finally:
        await lab.stop()
