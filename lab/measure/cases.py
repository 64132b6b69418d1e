"""The faults under load: which, under which configuration, in which phases; what was seen of each, and the table.

Owns: the list, what a result holds, writing and reading it, and the verdicts. Does not own: running one (`scenarios`),
the faults themselves (`run.faults`), a request's outcome (`load`).
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from lab.measure import side_by_side
from lab.measure.load import Sample, between, percentile, shares

HYBRID: Final = 'lanes=["burst","vm"]'
ALL: Final = 'lanes=["home","burst","vm"]'

FOUND_S: Final = 2.0
"""Within this the checks find a home whose packets vanish, seconds."""
LEFT_S: Final = 6.0
"""Within this the pilot leaves a home that takes requests and answers none, or answers them with 500, seconds."""
CUT_OFF: Final = {
    "home-refused": "home", "home-blackhole": "home", "home-mute": "home", "tunnel-down": "home", "vm-down": "vm",
}  # fmt: skip
"""Faults that swallow a lane's answers on their way."""


@dataclass(frozen=True)
class Scenario:
    """One fault under load. `before`, `during` and `after` are seconds: the last ones of each phase, counted from when
    the phase has shown what it waits for.
    """

    name: str
    lanes: str
    fault: str | None = None
    leaves: str = ""
    """Lane that callers lose by the fault: the phase waits until the others serve. Empty: it waits for nothing."""
    returns: str = ""
    """Lane that must serve without the fault: the last phase waits until it does. Empty: it waits for nothing."""
    warm: bool = False
    """Wait until burst serves before the load counts."""
    before: float = 6.0
    during: float = 12.0
    after: float = 10.0
    rate: float = 2.0
    """Requests a second: half of what the VM can answer, so that a fault and not its queue is measured."""
    stretch: bool = False
    """`during` lasts a cold start longer."""


SCENARIOS: Final = (
    Scenario("vm alone", 'lanes=["vm"]', before=0.0, during=30.0),
    Scenario("cold start", HYBRID, returns="burst", before=0.0, stretch=True),
    Scenario("home refused", ALL, "home-refused", "home", "home"),
    Scenario("home black-holed", ALL, "home-blackhole", "home", "home"),
    Scenario("home slow", ALL, "home-slow", returns="home"),
    # Slow enough that home still has free slots when the pilot must have left it: full, it gets nobody anyway.
    Scenario("home mute", ALL, "home-mute", "home", "home", during=12.0, rate=1.0),
    Scenario("home answers 500", ALL, "home-500", "home", "home"),
    Scenario("tunnel down", ALL, "tunnel-down", "home", "home"),
    Scenario("burst never starts", HYBRID, "burst-never", "burst", "burst", before=0.0, during=40.0, stretch=True),
    Scenario("burst answers 5xx", HYBRID, "burst-5xx", "burst", "burst", warm=True),
    Scenario("burst slow", HYBRID, "burst-slow", "burst", "burst", warm=True),
    Scenario("pilot down", HYBRID, "pilot-down", "burst", "burst", warm=True),
    Scenario("pilot wedged", HYBRID, "pilot-wedged", "burst", "burst", warm=True),
    # With burst cold, or another lane would do the work: callers wait in the gateway, which holds 80 of them.
    Scenario("vm full", HYBRID, "vm-full", returns="burst", before=0.0, rate=1.0, stretch=True),
    Scenario("vm down", HYBRID, "vm-down", rate=1.0),
    Scenario("vm late", HYBRID, "vm-late", rate=1.0),
)


@dataclass
class Result:
    """What one scenario's load saw; `marks` are the times between the phases, seconds."""

    scenario: Scenario
    samples: list[Sample] = field(default_factory=list[Sample])
    marks: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    evidence: list[str] = field(default_factory=list[str])
    """What the lanes' logs say against the product."""

    @property
    def lost(self) -> list[Sample]:
        """Requests whose answer never began."""
        return [sample for sample in self.samples if sample.outcome == "lost"]

    @property
    def broken(self) -> list[Sample]:
        """Answers that began and did not end well."""
        return [sample for sample in self.samples if sample.outcome == "broken"]

    def phase(self, number: int) -> list[Sample]:
        """Samples sent before (0), during (1) or after (2) the fault."""
        return between(self.samples, self.marks[number], self.marks[number + 1])

    def held(self, number: int) -> list[Sample]:
        """Those sent in the last seconds of the phase, when it no longer waited for anything."""
        seconds = (self.scenario.before, self.scenario.during, self.scenario.after)[number]
        return between(self.samples, self.marks[number + 1] - seconds, self.marks[number + 1])

    @property
    def left_s(self) -> float:
        """From the fault's beginning until nobody's request went to the lane that it takes, seconds; infinite if some
        always did, NaN if it takes none.
        """
        lane = self.scenario.leaves
        if not lane or lane in {sample.lane for sample in self.held(1)}:
            return math.inf if lane else math.nan
        return max((one.sent - self.marks[1] for one in self.phase(1) if one.lane == lane), default=0.0)

    @property
    def back_s(self) -> float:
        """From the fault's end to the first token of the lane that returns, for a request sent since, seconds; infinite
        if none came, NaN if none must.
        """
        lane = self.scenario.returns
        begun = (
            one.sent + one.first_token_s - self.marks[2]
            for one in self.phase(2)
            if one.lane == lane and one.outcome == "ok"
        )
        return min(begun, default=math.inf) if lane else math.nan


def write(folder: Path, result: Result) -> None:
    """What the load saw, as JSON; `picture` draws it."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {**asdict(result), "scenario": result.scenario.name}
    side_by_side.file_of(folder, result.scenario.name).write_text(json.dumps(document))


def read(folder: Path, scenario: Scenario) -> Result:
    """What `write` wrote."""
    document = json.loads(side_by_side.file_of(folder, scenario.name).read_text())
    samples = [Sample(**sample) for sample in document["samples"]]
    return Result(scenario, samples, tuple(document["marks"]), document["evidence"])


def table(results: Sequence[Result]) -> str:
    """Markdown, per scenario: requests sent, lost, broken, what the lanes' logs say against it, slowest first token,
    how long it took until the fault's lane was left and until it served again, lane shares before, during and after.
    """
    rows = [
        "| fault | sent | lost | broken | by the lanes' logs | slowest first token | left after | back after "
        + "| before | during | after |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        slowest = percentile(result.samples, 1.0)
        phases = " | ".join(_shares(result.phase(number)) for number in range(3))
        rows.append(
            f"| {result.scenario.name} | {len(result.samples)} | {len(result.lost)} | {len(result.broken)} "
            + f"| {f'{len(result.evidence)} BROKEN' if result.evidence else 'kept'} "
            + f"| {_seconds(slowest)} | {_seconds(result.left_s)} | {_seconds(result.back_s)} | {phases} |"
        )
    return "\n".join(rows)


def promises(results: Sequence[Result]) -> str:
    """What the product promises, as measured in these results; a scenario that was not run is left out."""
    found = {result.scenario.name: result for result in results}
    lines: list[str] = []

    def judge(text: str, value: float, limit: float, *, least: bool = False) -> None:
        kept = value >= limit if least else value <= limit
        lines.append(f"| {text} | {value:.3g} | {'>=' if least else '<='} {limit:.3g} | {'yes' if kept else 'NO'} |")

    if "cold start" in found:
        cold = found["cold start"]
        judge("warm: share of burst", shares(cold.held(2)).get("burst", 0.0), 0.9, least=True)
        if "vm alone" in found:
            alone = percentile(found["vm alone"].samples, 0.99)
            judge("cold start: p99 first token, in p99 of the VM alone", percentile(cold.samples, 0.99) / alone, 1.2)
    if "home refused" in found:
        refused = found["home refused"]
        # Streams alone: a plain answer's first token is its last, and the median of both kinds jumps between them.
        before, during = ([one for one in refused.phase(number) if one.streamed] for number in (0, 1))
        added = percentile(during, 0.5) - percentile(before, 0.5)
        judge("home refused: added to the median first token, s", added, 0.1)
    if "home black-holed" in found:
        hole = found["home black-holed"]
        late = [sample for sample in hole.phase(1) if sample.sent >= hole.marks[1] + FOUND_S]
        judge(
            f"home black-holed: slowest first token of requests sent {FOUND_S:.0f} s later, s", percentile(late, 1), 2
        )
        judge("home black-holed: slowest first token of all, s", percentile(hole.samples, 1), 10)
    for name in ("home mute", "home answers 500"):
        if name in found:
            result = found[name]
            late = [sample for sample in result.phase(1) if sample.sent >= result.marks[1] + LEFT_S]
            judge(f"{name}: requests lost", len(result.lost), 0)
            judge(
                f"{name}: answers broken of requests sent {LEFT_S:.0f} s later",
                sum(s in late for s in result.broken),
                0,
            )
            judge(f"{name}: slowest first token of requests sent {LEFT_S:.0f} s later, s", percentile(late, 1), 2)
            judge(f"{name}: home's share of them", shares(late).get("home", 0.0), 0)
    if "pilot down" in found:
        judge("pilot killed: requests lost", len(found["pilot down"].lost), 0)
    return "\n".join(["| promise | measured | limit | kept |", "|---|---|---|---|", *lines])


def _seconds(value: float) -> str:
    return "-" if math.isnan(value) else "NEVER" if math.isinf(value) else f"{value:.2f} s"


def _shares(samples: Sequence[Sample]) -> str:
    return ", ".join(f"{lane} {share:.0%}" for lane, share in shares(samples).items()) or "-"
