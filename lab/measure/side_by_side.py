"""Several labs at a time: each a process with a network and a folder of its own, where the system gives such networks.

Owns: the command line, starting the processes, and what one that failed said last. Does not own: what they measure
(`matrix`, `scenarios`). Elsewhere they run one after another, for the declaration fixes ports.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from components.machines.speeds import BURST_START_S
from lab.read.stack import ROOT
from lab.run import own_network

_APART: Final = (sys.executable, own_network.__file__)


def arguments(module: str, doc: str | None, *, only: str, most: int) -> argparse.Namespace:
    """What such a program is told; `one` names the only job of a process that `run` has started."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=doc)
    parser.add_argument("--cold-start", type=float, default=BURST_START_S, help="seconds until burst's model answers")
    parser.add_argument("--only", default="", help=only)
    parser.add_argument("--side-by-side", type=int, default=most, help="labs at a time, where each has its own network")
    parser.add_argument("--samples", type=Path, default=ROOT / ".lab" / "scenarios", help="folder for every sample")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def run(module: str, titles: Sequence[str], given: argparse.Namespace, done: Callable[[int, str], None]) -> None:
    """`python -m module` for each job, as many at a time as are given; `done` gets its number, and why it failed."""
    words = ["--cold-start", str(given.cold_start), "--samples", str(given.samples)]
    apart = subprocess.run([*_APART, "-c", ""], check=False, capture_output=True).returncode == 0
    program = _APART if apart else (sys.executable,)
    commands = [[*program, "-m", module, *words, "--one", title] for title in titles]
    asyncio.run(_run(commands, given.side_by_side if apart else 1, done))


async def _run(commands: Sequence[Sequence[str]], most: int, done: Callable[[int, str], None]) -> None:
    places = asyncio.Semaphore(most)

    async def one(number: int, command: Sequence[str]) -> None:
        with tempfile.TemporaryDirectory() as own:
            async with places:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    cwd=ROOT,
                    env={**os.environ, "PILOTLIGHT_LAB_FOLDER": own},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
                _, errors = await process.communicate()
        lines = errors.decode().strip().splitlines()
        done(number, "" if process.returncode == 0 else lines[-1].strip() if lines else "it ended without a word")

    async with asyncio.TaskGroup() as group:
        for number, command in enumerate(commands):
            group.create_task(one(number, command))


def file_of(folder: Path, title: str) -> Path:
    """Where a job leaves its samples."""
    return folder / f"{title.replace(' ', '-')}.json"
