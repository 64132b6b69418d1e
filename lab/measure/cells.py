"""The cells of the matrix, and what their load saw: four machines of the VM lane, text and picture, two situations.

Owns: which cells there are, the table, the promises, and the samples' files. Does not own: running a cell (`matrix`),
the bound of a request (`bound`).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from lab.measure import bound
from lab.measure.load import Sample, percentile, shares
from lab.measure.requests import PICTURE_AND_TEXT, TEXT

TIERS: Final = {
    "e2-highmem-2": '{"machine_type":"e2-highmem-2"}',
    "default": "{}",
    "T4": '{"gpu":"t4"}',
    "L4": '{"gpu":"l4"}',
}
"""The VM lane's settings by tier."""
REQUESTS: Final = {"text": TEXT, "picture": PICTURE_AND_TEXT}
COLD, DOWN = "burst cold", "home down"
SITUATIONS: Final = {COLD: 'lanes=["burst","vm"]', DOWN: 'lanes=["home","vm"]'}
REFUSED_S: Final = 2.0
"""Within this a refusal is at once."""


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    tier: str
    request: str
    situation: str

    @property
    def title(self) -> str:
        """As in the table, and as a file's name."""
        return f"{self.tier} {self.request} {self.situation}"


CELLS: Final = tuple(
    Cell(tier, request, situation) for situation in SITUATIONS for request in REQUESTS for tier in reversed(TIERS)
)
"""The fast ones first, whose times suffer from a busy machine."""


@dataclass
class Seen:
    """What a cell's load saw; times in seconds."""

    every_s: float = 0.0
    samples: list[Sample] = field(default_factory=list[Sample])
    bounds: list[float] = field(default_factory=list[float])
    """Of each sample."""
    burst_s: list[float] = field(default_factory=list[float])
    """What burst alone would have given each sample; empty without burst."""
    evidence: list[str] = field(default_factory=list[str])
    marks: list[float] = field(default_factory=list[float])
    """When burst could answer, where there is one, and when the load ended."""
    failed: str = ""
    """Why the cell could not be run."""

    @property
    def late(self) -> list[Sample]:
        """Samples over their bound; a refusal at once is none, a loss is one."""
        return [one for one, most in zip(self.samples, self.bounds, strict=True) if _is_late(one, most)]

    @property
    def lost(self) -> list[Sample]:
        return [one for one in self.samples if one.outcome in ("lost", "broken")]

    @property
    def refused(self) -> list[Sample]:
        return [one for one in self.samples if one.outcome == "refused"]


def _is_late(sample: Sample, most: float) -> bool:
    return sample.outcome != "refused" and not sample.first_token_s <= most


def write(path: Path, seen: Seen) -> None:
    """Samples and bounds as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(seen)))


def read(path: Path) -> Seen:
    """What `write` wrote."""
    document: dict[str, Any] = json.loads(path.read_text())
    document["samples"] = [Sample(**one) for one in document["samples"]]
    return Seen(**document)


# --- the table -------------------------------------------------------------------------------------------------------

HEAD: Final = (
    "| VM | request | situation | every | sent | first token p50 | p99 | lanes | refused | lost | over bound | logs |",
    "|---|---|---|---:|---:|---:|---:|---|---:|---:|---:|---|",
)


def row(cell: Cell, seen: Seen) -> str:
    """One line of the table."""
    start = f"| {cell.tier} | {cell.request} | {cell.situation} |"
    if seen.failed:
        return f"{start} could not be run: {seen.failed} |"
    times = " | ".join(_seconds(percentile(seen.samples, share)) for share in (0.5, 0.99))
    lanes = ", ".join(f"{lane} {share:.0%}" for lane, share in shares(answered(seen)).items()) or "-"
    return (
        f"{start} {seen.every_s:.0f} s | {len(seen.samples)} | {times} | {lanes} | {len(seen.refused)} "
        + f"| {len(seen.lost)} | {len(seen.late)} | {f'{len(seen.evidence)} BROKEN' if seen.evidence else 'kept'} |"
    )


def answered(seen: Seen) -> list[Sample]:
    """Samples that got an answer; the gateway's own words are none."""
    return [one for one in seen.samples if not math.isnan(one.first_token_s)]


def _seconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f} s"


def promises(found: Mapping[Cell, Seen]) -> str:
    """What the product promises, as measured in these cells; one that was not run keeps nothing."""
    lines = ["| promise | measured | limit | kept |", "|---|---|---|---|"]

    def judge(text: str, value: float, limit: float) -> None:
        lines.append(f"| {text} | {value:.3g} | <= {limit:.3g} | {'yes' if value <= limit else 'NO'} |")

    for tier, request, limit in (("T4", "text", 2.0), ("T4", "picture", 6.0), ("default", "text", 15.0)):
        cell = Cell(tier, request, COLD)
        if cell in found:
            judge(
                f"{tier}: p99 first token of a {request} through a cold start, s",
                percentile(found[cell].samples, 0.99),
                limit,
            )
    if (seen := found.get(Cell("default", "picture", COLD))) is not None:
        over = [
            one.first_token_s - most * (1 + bound.SHARE) for one, most in zip(seen.samples, seen.burst_s, strict=True)
        ]
        judge(
            "default: pictures later than waiting for burst, s",
            max((math.inf if math.isnan(one) else one for one in over), default=math.nan),
            bound.MORE_S,
        )
    judge("first tokens over their bound, lost ones included", sum(len(seen.late) for seen in found.values()), 0)
    judge("answers lost or broken", sum(len(seen.lost) for seen in found.values()), 0)
    slow = [one for seen in found.values() for one in seen.refused if one.whole_s > REFUSED_S]
    judge(f"refusals later than {REFUSED_S:.0f} s", len(slow), 0)
    judge("cells that could not be run", sum(bool(seen.failed) for seen in found.values()), 0)
    return "\n".join(lines)
