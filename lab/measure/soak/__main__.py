"""`python -m lab.measure.soak [--seed N] [--seconds S]`: callers under random faults; exit status 1 if a promise broke.

Owns: the command line, the search for the shortest schedule that fails, and what is kept of a failure. Does not own: a
soak (`run`), the promises (`verdict`).

The seed draws the schedule and what each caller asks. The machine's own timing is no part of it: a seed that failed
once may need a second run.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from lab.control import folder_of
from lab.measure.soak import table
from lab.measure.soak.run import Report, soak
from lab.measure.soak.schedule import Event, schedule
from lab.measure.soak.shrink import shortest
from lab.read.stack import ROOT

SECONDS: Final = 360.0
SHRINK_S: Final = 900.0
"""The search ends after this; what it has found until then is told."""
TAIL_S: Final = 20.0
"""A shorter schedule's callers go on for so long after its last fault."""


def main() -> int:
    """Exit status 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m lab.measure.soak", description=__doc__)
    parser.add_argument("--seed", type=int, help="replays a run (default: a new one)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"how long (default: {SECONDS:.0f})")
    parser.add_argument("--schedule", type=Path, help="faults from a file that a failed run has written")
    parser.add_argument("--shrink", type=float, default=SHRINK_S, help=f"longest search, s (default: {SHRINK_S:.0f})")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    events = schedule(seed, given.seconds)
    if given.schedule:
        events = tuple(Event(**event) for event in json.loads(given.schedule.read_text()))
    print(f"seed {seed}: {len(events)} faults in {given.seconds:.0f} s; again with `make soak SEED={seed}`", flush=True)
    report = asyncio.run(soak(seed, given.seconds, events))
    print(table.tables(report))
    if not report.violations:
        return 0
    kept = _keep(report, events)
    if given.shrink:
        print(f"\nthe shortest schedule that fails is looked for, {given.shrink:.0f} s at most ...", flush=True)
        found = asyncio.run(_shrunk(report, events, given.shrink))
        (kept / "shortest.json").write_text(json.dumps([asdict(event) for event in found], indent=1))
        print(f"of {len(events)} faults these are left:\n{table.events(found)}")
        print(f"again: python -m lab.measure.soak --seed {seed} --schedule {kept / 'shortest.json'}")
    return 1


def _keep(report: Report, events: tuple[Event, ...]) -> Path:
    """Logs, schedule and what was told, for whoever looks for the cause."""
    kept = ROOT / ".lab" / "soak" / str(report.seed)
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder_of("testbed") / "logs", kept / "logs")
    for journal in (folder_of("testbed") / "run").glob("*.journal"):
        shutil.copy(journal, kept)
    (kept / "schedule.json").write_text(json.dumps([asdict(event) for event in events], indent=1))
    (kept / "report.json").write_text(json.dumps({**asdict(report), "peak_mib": None}))
    print(f"\nlogs and notes: {kept}")
    return kept


async def _shrunk(report: Report, events: tuple[Event, ...], limit_s: float) -> tuple[Event, ...]:
    kinds = {one.kind for one in report.violations}
    end = time.monotonic() + limit_s

    async def fails(tried: tuple[Event, ...]) -> bool:
        seconds = max((event.at + event.lasts for event in tried), default=0.0) + TAIL_S
        if time.monotonic() + seconds > end:
            return False
        found = await soak(report.seed, seconds, tried, squeeze="memory" in kinds)
        broken = bool(kinds & {one.kind for one in found.violations})
        print(f"  {len(tried)} faults, {seconds:.0f} s: {'fails' if broken else 'holds'}", flush=True)
        return broken

    return await shortest(events, fails, lambda: time.monotonic() > end)


if __name__ == "__main__":
    sys.exit(main())
