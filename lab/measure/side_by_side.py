"""Several labs at a time: each a process with a network and a folder of its own, where the system gives such networks.

Owns: starting the processes, and what one that failed said last. Does not own: what they measure (`matrix`,
`scenarios`). Elsewhere they run one after another, for the declaration fixes ports.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from lab.read.stack import ROOT
from lab.run import own_network

_APART: Final = (sys.executable, own_network.__file__)


def run(module: str, jobs: Sequence[Sequence[str]], most: int, done: Callable[[int, str], None]) -> None:
    """`python -m module` with the words of each job, `most` at a time; `done` gets its number, and why it failed."""
    apart = subprocess.run([*_APART, "-c", ""], check=False, capture_output=True).returncode == 0
    program = _APART if apart else (sys.executable,)
    asyncio.run(_run([[*program, "-m", module, *words] for words in jobs], most if apart else 1, done))


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
