"""`python -m lab.measure.scenarios`: every fault under a steady load, on and off again, as the callers see it.

Owns: running a scenario. Does not own: which there are and the table (`cases`), the running lab (`testbed`), sending
(`load`), the faults themselves (`run.faults`), how late each machine answers what (`matrix`). Judged from the callers'
side and by the lanes' own logs (`evidence`), never by the pilot's state.

The lanes are as fast as their declared machines, the VM with a T4: a fault and not a machine's slowness is measured.
"""

import asyncio
import math
import sys
from collections.abc import Callable
from typing import Final

from lab.measure import side_by_side
from lab.measure.cases import CUT_OFF, SCENARIOS, Result, Scenario, promises, read, table, write
from lab.measure.evidence import broken_promises
from lab.measure.load import Load
from lab.measure.requests import Request
from lab.measure.testbed import Testbed, lab_up

MODULE: Final = "lab.measure.scenarios"
QUICK_BURST: Final = 'burst={"idle_s":90,"wake_deadline_s":75,"retry_s":5,"slow_s":2.0,"recovered_s":1.0}'
"""Burst's times shortened, so that one scenario takes a minute or two; the cold start stays as it is asked for."""
MACHINE: Final = 'vm={"gpu":"t4"}'
SHORT: Final = Request(answer_tokens=10)
"""A T4 answers two of them at a time in half a second, about four a second."""
WAIT_S: Final = 60.0
"""A phase waits so long and a cold start longer for a lane to be left or to serve again. Generous, for a busy machine:
only a promise that is not kept takes so long."""
SEEN: Final = 3
"""So many answers in a row say who serves."""


async def run(scenario: Scenario, *, cold_start_s: float) -> Result:
    """One scenario on a lab of its own."""
    async with lab_up(cold_start_s, [scenario.lanes, QUICK_BURST, MACHINE], answer_s=None) as testbed:
        return await run_on(testbed, scenario, cold_start_s=cold_start_s)


async def run_on(testbed: Testbed, scenario: Scenario, *, cold_start_s: float) -> Result:
    """One scenario on a running lab, the fault on and off again."""
    if scenario.warm:
        await warm_up(testbed, cold_start_s)
    during = scenario.during + (cold_start_s if scenario.stretch else 0.0)
    async with testbed.load(scenario.rate, SHORT) as load:
        await load.run(scenario.before)
        start = load.now()
        await _switched(testbed, scenario, load, True)
        await until(load, scenario.leaves, left, cold_start_s)
        await load.run(during)
        end = load.now()
        await _switched(testbed, scenario, load, False)
        await until(load, scenario.returns, serves, cold_start_s)
        await load.run(scenario.after)
        marks = (0.0, start, end, load.now())
    samples = sorted(load.samples, key=lambda sample: sample.sent)
    cut_off = CUT_OFF.get(scenario.fault or "", "")
    evidence = broken_promises(samples, testbed.received(), testbed.burst_requests(), key=testbed.key, cut_off=cut_off)
    return Result(scenario, samples, marks, evidence)


async def _switched(testbed: Testbed, scenario: Scenario, load: Load, on: bool) -> None:
    """The load goes on until the fault is in force or gone."""
    if scenario.fault:
        switching = asyncio.create_task(testbed.fault(scenario.fault, on))
        while not switching.done():
            await load.run(load.every_s)
        await switching


async def until(load: Load, lane: str, seen: Callable[[set[str], str], bool], cold_start_s: float) -> bool:
    """The load goes on until the last answers show it; false if they don't in time."""
    since = load.now()
    while lane and not seen(_last(load, since), lane):
        if load.now() > since + WAIT_S + cold_start_s:
            return False
        await load.run(load.every_s)
    return True


def _last(load: Load, since: float) -> set[str]:
    """Lanes of the last answers to requests sent since then; empty before there are enough."""
    found = [sample.lane for sample in load.samples if sample.sent >= since and sample.lane]
    return set(found[-SEEN:]) if len(found) >= SEEN else set()


def left(last: set[str], lane: str) -> bool:
    """Others serve."""
    return bool(last) and lane not in last


def serves(last: set[str], lane: str) -> bool:
    """Nobody else does."""
    return last == {lane}


async def warm_up(testbed: Testbed, cold_start_s: float) -> None:
    """Sends until burst answers."""
    async with testbed.load(2.0, SHORT) as load:
        if not await until(load, "burst", serves, cold_start_s):
            raise RuntimeError(f"burst did not answer within {WAIT_S + cold_start_s:.0f} s of load")


def main() -> int:
    """Exit status 1 when a request was lost in any scenario, a lane was not left or not taken back, or a promise was
    not kept, by load or by logs.
    """
    only = "run the scenarios whose name contains this"
    arguments = side_by_side.arguments(MODULE, __doc__, only=only, most=3)
    chosen = [scenario for scenario in SCENARIOS if arguments.only in scenario.name]
    if arguments.one:
        [scenario] = [scenario for scenario in SCENARIOS if scenario.name == arguments.one]
        write(arguments.samples, asyncio.run(run(scenario, cold_start_s=arguments.cold_start)))
        return 0
    found: dict[str, Result] = {}
    failures: list[str] = []

    def done(number: int, failed: str) -> None:
        scenario = chosen[number]
        if failed:
            failures.append(f"{scenario.name}: {failed}")
            print(failures[-1], file=sys.stderr, flush=True)
            return
        result = found[scenario.name] = read(arguments.samples, scenario)
        print("\n".join([table([result]).splitlines()[-1], *result.evidence]), file=sys.stderr, flush=True)

    side_by_side.run(MODULE, [scenario.name for scenario in chosen], arguments, done)
    results = [found[scenario.name] for scenario in chosen if scenario.name in found]
    kept = promises(results)
    print("\n".join([table(results), "", kept, *failures]))
    broken = any(one.lost or one.evidence or math.inf in (one.left_s, one.back_s) for one in results)
    return int(bool(failures) or broken or "| NO |" in kept)


if __name__ == "__main__":
    sys.exit(main())
