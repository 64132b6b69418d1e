"""`python -m lab.measure.matrix`: the VM lane's machines under text and pictures, burst cold and home down, in truth.

Owns: running a cell. Does not own: which cells there are (`cells`), a running lab (`testbed`), the load (`load`), the
bound of a request (`bound`), several labs at a time (`side_by_side`). Everything takes as long as on the declared
machines.
"""

import asyncio
import sys
from typing import Final

from components.machines.requests import ANSWER_TOKENS
from lab.measure import bound, side_by_side
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

MODULE: Final = "lab.measure.matrix"
WARM_S: Final = 30.0
"""How long the load goes on after a cold start."""
DOWN_S: Final = 90.0
"""How long it goes on without home, at least."""
ROOM: Final = 1.2
"""A tier gets a request at most every so many times what one takes there: what is measured is the way, not a queue."""
MOST_S: Final = 20.0
"""Longest time between two requests while another lane is on its way."""
GONE_S: Final = 12.0
"""How long home is gone before anybody asks. In the first 10 s the pilot refuses nobody: a tunnel may be starting."""


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
            bursts = bound.in_line(Lane(possible["burst"].first_token_s, ready), seen.samples)
            seen.burst_s = [burst.alone_s(sample.sent) for burst, sample in zip(bursts, seen.samples, strict=True)]
            seen.marks = [ready, *seen.marks]
            lanes = [{**possible, "burst": burst} for burst in bursts]
        else:
            lanes = [possible for _ in seen.samples]
        seen.bounds = [bound.latest_s(one.sent, there) for one, there in zip(seen.samples, lanes, strict=True)]
        seen.evidence = broken_promises(
            seen.samples,
            testbed.received(),
            testbed.burst_requests(),
            key=testbed.key,
            cut_off="home" if cell.situation == DOWN else "",
        )
    return seen


def main() -> int:
    """Exit status 1 when a promise was not kept, by load or by logs."""
    only = "run the cells whose title contains this, such as `T4 text`"
    arguments = side_by_side.arguments(MODULE, __doc__, only=only, most=8)
    cells = [cell for cell in CELLS if arguments.only in cell.title]
    if arguments.one:
        [cell] = [cell for cell in CELLS if cell.title == arguments.one]
        write(side_by_side.file_of(arguments.samples, cell.title), asyncio.run(run(cell, arguments.cold_start)))
        return 0
    found: dict[Cell, Seen] = {}

    def done(number: int, failed: str) -> None:
        cell = cells[number]
        seen = Seen(failed=failed) if failed else read(side_by_side.file_of(arguments.samples, cell.title))
        found[cell] = seen
        print("\n".join([row(cell, seen), *seen.evidence]), file=sys.stderr, flush=True)

    side_by_side.run(MODULE, [cell.title for cell in cells], arguments, done)
    found = {cell: found[cell] for cell in cells}
    kept = promises(found)
    print("\n".join([*HEAD, *(row(cell, seen) for cell, seen in found.items()), "", kept]))
    return int(any(seen.evidence for seen in found.values()) or "| NO |" in kept)


if __name__ == "__main__":
    sys.exit(main())
