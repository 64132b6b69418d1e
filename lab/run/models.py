"""The command lines of the model servers: the real one, or the scripted stand-in with its machine's pace.

Owns: what a stand-in is told beside the declared arguments. Does not own: the arguments' translation (`read.images`),
the speeds (`read.pace`), starting a process (`lab`).
"""

import json
from dataclasses import dataclass
from pathlib import Path

from lab.read import images
from lab.read.container import Container
from lab.read.plan import Plan


@dataclass(frozen=True)
class Models:
    """The model servers of a plan, of which `cache` keeps the real weights."""

    plan: Plan
    cache: Path
    scripted: bool
    time_scale: float | None
    """How many times as fast as its machine a stand-in is; None: it has no machine, and its faults set the pace."""

    def command(self, container: Container, address: str, marker: str, journal: Path) -> list[str]:
        """The process that answers for the container at `address`; `marker` is who a stand-in says it is."""
        host, _, port = address.rpartition(":")
        line = images.local_command(
            container.title,
            container.image,
            container.command,
            container.args,
            host=host,
            port=int(port),
            cache=self.cache,
            scripted=self.scripted,
        )
        return [*line, "--marker", marker, "--journal", str(journal), *self._pace(container)] if self.scripted else line

    def _pace(self, container: Container) -> list[str]:
        if self.time_scale is None:
            return []
        return ["--pace", json.dumps(self.plan.paces[container.title].scaled(self.time_scale))]
