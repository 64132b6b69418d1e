"""One attack after another, and what came of each class: the table's rows.

Owns: the order of sending, judging and keeping. Does not own: the rules (`judge`), the requests.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.attack import judge, worlds
from tests.attack.wire import Attack, End, Exchange, send
from tests.gateway.world import World
from tests.kit import happens

KEPT: Final = 5
"""Requests of a class that are kept at most; the others break the same rules."""
LINGERS_S: Final = 0.3
"""A request of somebody who has left may come to a lane this much later, seconds."""


@dataclass
class Row:
    """What came of one class."""

    kind: str
    tried: int = 0
    answers: Counter[str] = field(default_factory=Counter[str])
    """Status and whose it is."""
    at_lanes: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    seconds: float = 0

    def cells(self) -> list[str]:
        """Of the table."""

        def told(counts: Counter[str]) -> str:
            return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda one: -one[1]))

        verdict = f"{len(self.wrong)} wrong" if self.wrong else "held"
        return [self.kind, str(self.tried), told(self.answers) or "none", told(self.at_lanes) or "nothing", verdict]


class Campaign:
    """All classes against one running gateway; `folder` gets the requests that break a rule."""

    def __init__(self, here: World, folder: Path) -> None:
        self.here, self.folder = here, folder
        self.rows: dict[str, Row] = {}

    def run(self, attacks: Iterable[Attack]) -> None:
        """Each of them, and after each class a look at ordinary callers."""
        kinds: dict[str, None] = {}
        began = time.monotonic()
        for attack in attacks:
            kinds[attack.kind] = None
            self.one(attack)
        for kind in kinds:
            row = self.row(kind)
            row.wrong += judge.afterwards(self.here)
            row.seconds += time.monotonic() - began

    def row(self, kind: str) -> Row:
        return self.rows.setdefault(kind, Row(kind))

    def one(self, attack: Attack) -> list[str]:
        """One attack: what it broke."""
        row = self.row(attack.kind)
        row.tried += 1
        worlds.forget(self.here)
        try:
            got = send(self.here.port, attack)
        except OSError as error:
            got, broken = Exchange(closed=True), [f"the gateway can't be reached: {error!r}"]
        else:
            if attack.end in (End.GONE, End.RESET):
                time.sleep(LINGERS_S)
                happens(lambda: not any(lane.running for lane in worlds.recorders(self.here)), 5)
            broken = judge.wrong(self.here, attack, got)
        for reply in got.replies:
            row.answers[f"{reply.status} {whose(reply.lane, reply.error.get('code'))}"] += 1
        if not got.replies:
            row.answers["left" if attack.end in (End.GONE, End.RESET) else "closed"] += 1
        for one in judge.reached(self.here):
            row.at_lanes[one.lane] += 1
        if broken:
            if len(row.wrong) < KEPT:
                self.keep(attack, got, broken)
            row.wrong += [f"{attack.name}: {sentence}" for sentence in broken]
        return broken

    def keep(self, attack: Attack, got: Exchange, broken: Sequence[str]) -> None:
        """The request as a file, which `--replay` takes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = len(list(self.folder.glob(f"{attack.kind}-*.json"))) + 1
        told = {
            "wrong": list(broken),
            "replies": [[reply.status, reply.headers, reply.body[:500].decode("latin-1")] for reply in got.replies],
            "attack": attack.kept(),
        }
        (self.folder / f"{attack.kind}-{number}.json").write_text(json.dumps(told, indent=1) + "\n")


def whose(lane: str, code: object) -> str:
    """Who an answer is of: a lane, the gateway with its code, or Go's server."""
    if lane == "gateway":
        return str(code) if code else "gateway"
    return lane or "Go"


def table(rows: Sequence[Row]) -> str:
    """All rows, in Markdown."""
    lines = [["class", "tried", "came back", "reached", "verdict"], ["---", "---:", "---", "---", "---"]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [*lines, *(row.cells() for row in rows)])
