"""`python lab/run/own_network.py -m bench`: every system in one run, and `bench/RESULTS.md` with what came out.

Owns: the command line, the order of the tables, what is said. Does not own: any table (`tables`). It wants a network of
its own, for the declaration fixes its ports.
"""

import argparse
import datetime
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.errors import BenchError
from bench.load import wrk
from bench.results import TITLES, Section, in_readme, markdown, picture
from bench.stage import QUICK, SMOKE, WHOLE, Scale, Stage
from bench.tables import failover, features, line, requests, start, streams
from bench.vm import machine
from lab.errors import LabError

HERE: Final = Path(__file__).parent
TABLES: Final[dict[str, Callable[[Stage], list[Section]]]] = {
    "requests": requests.run,
    "streams": streams.run,
    "line": line.run,
    "start": start.run,
    "render": start.render,
    "features": features.run,
    "failover": failover.run,
}
"""By name on the command line; one may make several tables of the results."""


def main() -> int:
    """Exit status: 0 measured, whether or not a goal is missed; 1 it can't be; 2 unusable arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures the gateway and its peers here.")
    scales = {"whole": WHOLE, "quick": QUICK, "smoke": SMOKE}
    parser.add_argument("--scale", choices=scales, default="whole", help="how much (default: whole, some 20 minutes)")
    parser.add_argument("--only", choices=TABLES, action="append", help="a part, and no other")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of RESULTS.md and the pictures")
    given = parser.parse_args()
    try:
        run(scales[given.scale], given.only or list(TABLES), given.out)
    except (BenchError, LabError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run(scale: Scale, names: Sequence[str], out: Path) -> None:
    """Measures and writes."""
    begun, before = time.monotonic(), os.getloadavg()[0]

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:5.0f} s  {text}", flush=True)

    sections: list[Section] = []
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), scale, say)
        with stage.open():
            for name in names:
                say(f"{name}:")
                sections += TABLES[name](stage)
    took = time.monotonic() - begun
    skipped = [f"{system.name}: {why}" for system in requests.systems() if (why := stage.why_not(system))]
    for section in sections:
        if section.plot:
            (out / picture(section.key)).write_text(section.plot)
    text = markdown(sections, facts(scale, before, took), skipped)
    (out / "RESULTS.md").write_text(text)
    if out == HERE and len(sections) == len(TITLES):
        readme = HERE.parent / "README.md"
        readme.write_text(in_readme(readme.read_text(), text))
    say(f"written: {out / 'RESULTS.md'}, {len(sections)} of {len(TITLES)} tables")


def facts(scale: Scale, load_before: float, took_s: float) -> list[str]:
    """What somebody must know to judge the figures."""
    cores = len(os.sched_getaffinity(os.getppid()))
    return [
        f"{machine.cpu()}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}; "
        + f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.",
        f"Load average {load_before:.2f} before, {os.getloadavg()[0]:.2f} at the end, the run's own load included"
        + ("; **other programs ran beside it**" if load_before > 0.5 else "") + ".",
        f"{scale.rounds} round{'s' if scale.rounds > 1 else ''}, {took_s / 60:.0f} minutes"
        + ("; a quick run, good for a first look only." if scale.quick else "."),
        "The measured system has one core, generator and model servers (`bench/load`, Python and epoll) the other one; "
        + f"requests of 1 KB are sent by {'wrk' if wrk.PROGRAM else '`bench/load/closed.py`, for there is no wrk'}.",
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
