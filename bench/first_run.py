"""`python -m bench.first_run`: how long a newcomer waits, from a fresh clone to the first token of `make lab`.

Owns: the measuring and its table. Not a table of the comparison's: it needs PyPI, and that runs in a network of its
own. Does not own: what a run of `make lab` does.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.errors import BenchError
from lab.read.stack import ROOT

WAYS: Final = {
    "uv, nothing in its cache": ("uv", "cold"),
    "uv, from its cache": ("uv", "cold"),
    "pip, nothing in its cache": ("pip", "pip"),
}
"""Installer, and the folder of its cache; in this order, so that the second finds what the first fetched."""
ANSWER: Final = b"first answer: "
LIMIT_S: Final = 1200.0
"""For one of the two steps."""


def main() -> int:
    """Exit status: 0 measured, 1 a step failed, PyPI that can't be reached among them."""
    print(f"{'':<28}{'install, s':>12}{'first token, s':>16}{'together, s':>14}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, (way, (installer, cache)) in enumerate(WAYS.items()):
            clone = Path(folder) / str(number)
            try:
                _run(["git", "clone", "--quiet", str(ROOT), str(clone)], Path(folder), {})
                took = installed(clone, installer, Path(folder) / cache), first_token(clone)
            except BenchError as error:
                print(f"bench: {way}: {error}", file=sys.stderr)
                return 1
            print(f"{way:<28}{took[0]:>12.1f}{took[1]:>16.1f}{sum(took):>14.1f}", flush=True)
    return 0


def installed(clone: Path, installer: str, cache: Path) -> float:
    """Seconds of `make .venv/ready`."""
    begun = time.monotonic()
    _run(
        ["make", ".venv/ready", f"INSTALLER={installer}", f"PYTHON={sys.executable}"],
        clone,
        {"UV_CACHE_DIR": str(cache), "PIP_CACHE_DIR": str(cache)},
    )
    return time.monotonic() - begun


def first_token(clone: Path) -> float:
    """Seconds from the start of the lab, which `make lab` starts, to the first token of its first answer.

    In a network of its own: beside another lab it would find the declared ports taken.
    """
    begun = time.monotonic()
    command = [".venv/bin/python", "lab/run/own_network.py", "-m", "lab", "up"]
    with subprocess.Popen(command, cwd=clone, env=_environment({}), stdout=subprocess.PIPE) as process:
        assert process.stdout
        said = b""
        try:
            while said.partition(ANSWER)[2] == b"":
                piece = os.read(process.stdout.fileno(), 4096)
                if not piece or time.monotonic() - begun > LIMIT_S:
                    raise BenchError(f"the lab gave no answer: {said.decode(errors='replace')[-500:]}")
                said += piece
            return time.monotonic() - begun
        finally:
            process.terminate()


def _run(command: list[str], where: Path, own: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=where, env=_environment(own), capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {(done.stderr or done.stdout)[-500:]}")


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Without what `make` hands down to a make inside of it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))} | dict(own)


if __name__ == "__main__":
    sys.exit(main())
