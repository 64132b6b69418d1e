"""The path to home: when its tunnel is dead, so that only shutting it frees the requests in it.

Owns: the verdict over a row of probes. Does not own: probing and shutting (`tunnel`). Pure.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

DEAD_AFTER: Final = 3


class Seen(StrEnum):
    """How a probe of the path to home ended. Refusals break connections by themselves."""

    ALIVE = "alive"
    REFUSED = "refused"
    SILENT = "silent"


@dataclass(frozen=True)
class HomePath:
    """The path to home: probes in a row without an answer, and whether the tunnel was shut since the last one."""

    silent: int = 0
    shut: bool = False


def path_step(path: HomePath, seen: Seen, in_flight: int) -> tuple[HomePath, bool]:
    """The next state, and whether to shut the tunnel: once per outage, and only if that rescues a request."""
    if seen is Seen.ALIVE:
        return HomePath(), False
    if seen is Seen.REFUSED or in_flight == 0:
        return replace(path, silent=0), False
    path = replace(path, silent=path.silent + 1)
    if path.silent >= DEAD_AFTER and not path.shut:
        return replace(path, shut=True), True
    return path, False
