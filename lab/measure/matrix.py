"""`python -m lab.measure.matrix`: the VM lane's machines under text and pictures, burst cold and home down, in truth.

Owns: running a cell, and the cells side by side. Does not own: which cells there are (`cells`), a running lab
(`testbed`), the load (`load`), the bound of a request (`bound`). Everything takes as long as on the declared machines;
each cell has a network of its own where the system gives one, and else they run one after another.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from components.machines.requests import ANSWER_TOKENS
from components.machines.speeds import BURST_START_S
from lab.measure import bound
from lab.measure.bound import Lane
from lab.measure.cells import (
    CELLS,
    COLD,
    DOWN,
    HEAD,
    REQUESTS,
    SITUATIONS,
    TIERS,
    Cell,
    Seen,
    promises,
    read,
    row,
    write,
)
from lab.measure.evidence import broken_promises
from lab.measure.testbed import lab_up
from lab.read.stack import ROOT
from lab.run import own_network

WARM_S: Final = 30.0
"""How long the load goes on after a cold start."""
DOWN_S: Final = 90.0
"""How long it goes on without home, at least."""
ROOM: Final = 1.2
"""A tier gets a request at most every so many times what one takes there: what is measured is the way, not a queue."""
MOST_S: Final = 20.0
"""Longest time between two requests while another lane is on its way."""
GONE_S: Final = 1.0
"""How long home is gone before anybody asks: checks have found it."""
NETWORK: Final = (sys.executable, own_network.__file__)
"""Python in a network of its own."""


def every_s(cell: Cell, possible: dict[str, Lane], answer_s: float, cold_start_s: float) -> float:
    """Seconds between two requests: what the tier can serve, or sooner where most will wait for burst anyway."""
    alone = ROOM * (possible["vm"].first_token_s + answer_s)
    waits = cell.situation == COLD and possible["vm"].first_token_s > cold_start_s / 2
    return max(1.0, min(alone, MOST_S) if waits else alone)


async def run(cell: Cell, cold_start_s: float) -> Seen:
    """One cell on a lab of its own."""
    request, seen = REQUESTS[cell.request], Seen()
    config = [SITUATIONS[cell.situation], f"vm={TIERS[cell.tier]}"]
    async with lab_up(cold_start_s, config, answer_s=None) as testbed:
        possible = bound.lanes(testbed.plan, request, testbed.model)
        vm = testbed.plan.paces["vm/model"]
        if cell.situation == DOWN:
            del possible["home"]
            await testbed.fault("home-refused", True)
            await asyncio.sleep(GONE_S)
        seen.every_s = every_s(cell, possible, ANSWER_TOKENS / vm.speed.answer, cold_start_s)
        within = possible["vm"].alone_s(0) < testbed.plan.gateway.timeout_s
        down = max(DOWN_S, 2 * seen.every_s) if within else 3.0
        async with testbed.load(1 / seen.every_s, request) as load:
            await load.run(cold_start_s + WARM_S if cell.situation == COLD else down)
            seen.marks = [load.now()]
        seen.samples = sorted(load.samples, key=lambda sample: sample.sent)
        if "burst" in possible:
            ready = testbed.burst_start_s() or cold_start_s
            possible["burst"] = Lane(possible["burst"].first_token_s, ready)
            seen.burst_s = [possible["burst"].alone_s(sample.sent) for sample in seen.samples]
            seen.marks = [ready, *seen.marks]
        seen.bounds = [bound.latest_s(sample.sent, possible) for sample in seen.samples]
        seen.evidence = broken_promises(
            seen.samples,
            testbed.received(),
            testbed.burst_requests(),
            key=testbed.key,
            cut_off="home" if cell.situation == DOWN else "",
        )
    return seen


# --- side by side ----------------------------------------------------------------------------------------------------


def has_networks() -> bool:
    """Whether labs can run side by side here."""
    return subprocess.run([*NETWORK, "-c", ""], check=False, capture_output=True).returncode == 0


async def run_all(cells: Sequence[Cell], cold_start_s: float, side_by_side: int, folder: Path) -> list[Seen]:
    """All cells, so many at a time, each then in a network of its own; their samples are left in `folder`."""
    program = NETWORK if side_by_side > 1 else (sys.executable,)
    places = asyncio.Semaphore(side_by_side)

    async def one(cell: Cell) -> Seen:
        path = folder / f"{cell.title.replace(' ', '-')}.json"
        words = [*program, "-m", "lab.measure.matrix", "--cell", cell.title]
        words += ["--cold-start", str(cold_start_s), "--samples", str(folder)]
        with tempfile.TemporaryDirectory() as own:
            async with places:
                path.unlink(missing_ok=True)
                environment = {**os.environ, "PILOTLIGHT_LAB_FOLDER": own}
                process = await asyncio.create_subprocess_exec(
                    *words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
                )
                _, errors = await process.communicate()
            if not path.exists():
                told = errors.decode().strip().splitlines() or ["no word"]
                seen = Seen(failed=told[-1])
            else:
                seen = read(path)
        print("\n".join([row(cell, seen), *seen.evidence]), file=sys.stderr, flush=True)
        return seen

    return list(await asyncio.gather(*map(one, cells)))


def main() -> int:
    """Exit status 1 when a promise was not kept, by load or by logs."""
    parser = argparse.ArgumentParser(prog="python -m lab.measure.matrix", description=__doc__)
    parser.add_argument("--cold-start", type=float, default=BURST_START_S, help="seconds until burst's model answers")
    parser.add_argument("--only", default="", help="run the cells whose title contains this, such as `T4 text`")
    parser.add_argument("--side-by-side", type=int, default=8, help="labs at a time, where each has its own network")
    parser.add_argument("--samples", type=Path, default=ROOT / ".lab" / "scenarios", help="folder for every sample")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cells = [cell for cell in CELLS if arguments.only in cell.title]
    if arguments.cell:
        [cell] = [cell for cell in CELLS if cell.title == arguments.cell]
        seen = asyncio.run(run(cell, arguments.cold_start))
        write(arguments.samples / f"{cell.title.replace(' ', '-')}.json", seen)
        return 0
    folder = Path(arguments.samples)
    side_by_side = arguments.side_by_side if has_networks() else 1
    results = asyncio.run(run_all(cells, arguments.cold_start, side_by_side, folder))
    found = dict(zip(cells, results, strict=True))
    kept = promises(found)
    print("\n".join([*HEAD, *(row(cell, seen) for cell, seen in found.items()), "", kept]))
    return int(any(seen.evidence for seen in results) or "| NO |" in kept)


if __name__ == "__main__":
    sys.exit(main())
