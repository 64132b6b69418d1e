"""One soak on a lab of its own: callers, faults and gauges at once, then quiet, then the squeeze.

Owns: the order of it all and the declaration that is soaked. Does not own: the promises (`verdict`), the callers
(`callers`), what breaks when (`schedule`).

The squeeze is the worst that callers can do to memory: with every lane standing still, as many as one instance takes
send the largest body that is kept, and hang up in line; again and again.
"""

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Final

from lab.control import folder_of
from lab.measure.scenarios import MACHINE, QUICK_BURST
from lab.measure.soak import gauges
from lab.measure.soak.callers import KINDS, Callers, Kind, Told
from lab.measure.soak.gauges import Held, Look, Watch
from lab.measure.soak.schedule import Event, Happened
from lab.measure.soak.verdict import Limits, Violation, flat, judge, open_still
from lab.measure.testbed import Plant, Testbed, lab_up

LANES: Final = 'lanes=["home","burst","vm"]'
CLIENTS: Final = (
    'clients=[{"name":"demo"},{"name":"few","max_requests":6},{"name":"private","lanes":["home"],"priority":"high"}]'
)
CONFIG: Final = (LANES, CLIENTS, QUICK_BURST, MACHINE)
COLD_START_S: Final = 3.0
QUIET_S: Final = 6.0
"""Idle connections of the walk end after 4 s."""
POOLED_S: Final = 100.0
"""Traefik keeps idle connections to the pods for 90 s."""
WARM: Final = (Kind("warm-up", 12, streamed=True), Kind("warm-up, 3.9 MiB", 2, size=3_080_000))
WARM_S: Final = 6.0
STOPPED: Final = ("home-stopped", "burst-stopped", "vm-stopped")
PATIENCE_S: Final = 3.0
PHASES: Final = ("under faults", "squeezed", "squeezed without the pilot")
SQUEEZES: Final = 3
"""Without the pilot as often again."""


@dataclass
class Report:
    """What one soak saw."""

    seed: int
    told: list[Told] = field(default_factory=list[Told])
    happened: list[Happened] = field(default_factory=list[Happened])
    limits: Limits = field(default_factory=lambda: Limits(0.0, 0.0, 0))
    memory_mib: dict[str, int] = field(default_factory=dict[str, int])
    """Declared, by the container's title."""
    before: dict[str, Look] = field(default_factory=dict[str, Look])
    after: dict[str, Look] = field(default_factory=dict[str, Look])
    peak_mib: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    """The most, by phase and title."""
    held: tuple[Held, Held] = (Held(), Held())
    violations: list[Violation] = field(default_factory=list[Violation])


async def soak(
    seed: int,
    seconds: float,
    events: Sequence[Event],
    *,
    plant: Plant | None = None,
    squeeze: bool = True,
    config: Sequence[str] = CONFIG,
    kinds: Sequence[Kind] = KINDS,
) -> Report:
    """Callers for so many seconds under these events; their choices are drawn by the seed."""
    report = Report(seed)
    async with lab_up(COLD_START_S, config, plant, answer_s=None) as testbed:
        watch = Watch(lambda: testbed.lab.groups)
        watching = asyncio.create_task(watch.run())
        try:
            await _soaked(report, testbed, watch, seconds, events, kinds, squeeze=squeeze)
        finally:
            watching.cancel()
        report.peak_mib = watch.peak_mib
    for (phase, title), most in report.peak_mib.items():
        if (limit := report.memory_mib.get(title, 0)) and most > limit:
            report.violations.append(Violation("memory", f"{title} {phase}: {most:.0f} of {limit} MiB"))
    report.violations += [Violation("left over", f"still runs: {title}") for title in watch.left()]
    return report


async def _soaked(
    report: Report,
    testbed: Testbed,
    watch: Watch,
    seconds: float,
    events: Sequence[Event],
    kinds: Sequence[Kind],
    *,
    squeeze: bool,
) -> None:
    report.limits = limits_of(testbed)
    report.memory_mib = {one.title: one.memory_mib for one in testbed.plan.gateway.containers}
    folder = folder_of("testbed")
    await Callers("warm", testbed.url, testbed.keys, testbed.model, report.seed, WARM).run(WARM_S)
    await asyncio.sleep(QUIET_S)
    before = await gauges.held(folder)
    report.before = gauges.look(testbed.lab.groups)
    watch.phase = PHASES[0]
    callers = Callers("soak", testbed.url, testbed.keys, testbed.model, report.seed, kinds)
    async with asyncio.TaskGroup() as together:
        together.create_task(callers.run(seconds))
        for event in events:
            together.create_task(_break(testbed, event, report.happened))
    report.told = callers.told
    if squeeze:
        await _squeeze(testbed, watch)
    await asyncio.sleep(QUIET_S)
    kept = await _settled(report, testbed)
    report.held = before, await gauges.held(folder)
    report.violations += judge(report.told, testbed.received(), report.happened, report.limits)
    report.violations += flat(*report.held)
    report.violations += kept


async def _settled(report: Report, testbed: Testbed) -> list[Violation]:
    """Looks until no process has more open than before, or the longest pool of idle connections is over."""
    until = time.monotonic() + POOLED_S
    while True:
        report.after = gauges.look(testbed.lab.groups)
        kept = open_still(report.before, report.after)
        if not kept or time.monotonic() > until:
            return kept
        await asyncio.sleep(1.0)


async def _break(testbed: Testbed, event: Event, happened: list[Happened]) -> None:
    await asyncio.sleep(event.at)
    on = time.time()
    await testbed.fault(event.fault, True)
    await asyncio.sleep(event.lasts)
    await testbed.fault(event.fault, False)
    happened.append(Happened(event.fault, on, time.time()))


@contextlib.asynccontextmanager
async def _all_stand_still(testbed: Testbed) -> AsyncGenerator[None]:
    for fault in STOPPED:
        await testbed.fault(fault, True)
    try:
        yield
    finally:
        for fault in STOPPED:
            await testbed.fault(fault, False)


async def _squeeze(testbed: Testbed, watch: Watch) -> None:
    """Callers with the largest body that is kept hang up in line, with the pilot and without."""
    limits, places = limits_of(testbed), testbed.plan.gateway.concurrency
    kind = Kind("squeeze", places, size=(limits.replay * 3 // 4) - 2**16, leaves="line")
    callers = Callers("squeeze", testbed.url, testbed.keys, testbed.model, 0)

    async with _all_stand_still(testbed), callers.session() as session:
        for pilot_is_down in (False, True):
            watch.phase = PHASES[1 + pilot_is_down]
            if pilot_is_down:
                await testbed.fault("pilot-down", True)
            for _ in range(SQUEEZES):
                drawn = random.Random(0)
                # All leave at once, when the last body is there.
                await asyncio.gather(*(callers.ask(session, kind, drawn, PATIENCE_S) for _ in range(places)))
        await testbed.fault("pilot-down", False)


def limits_of(testbed: Testbed) -> Limits:
    """As Caddy is told them."""
    text = "".join(t for one in testbed.plan.gateway.containers for mount in one.mounts for t in mount.texts)
    waits = [int(found) for found in re.findall(r'"try_duration": ?"(\d+)s"', text)]
    buffers = [int(found) for found in re.findall(r'"request_buffers": ?(\d+)', text)]
    return Limits(max(waits), testbed.plan.gateway.timeout_s, max(buffers) - 1)
