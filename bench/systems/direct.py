"""No gateway at all: the bound for everything else."""

import contextlib
from collections.abc import Generator

from bench.systems.system import VM, Place, Running, System


@contextlib.contextmanager
def _start(_: Place) -> Generator[Running]:
    yield Running(VM.address, [])


SYSTEM = System("direct", _start)
