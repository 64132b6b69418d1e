"""`python -m lab.scenarios`: every fault under a steady load, on and off again, as the callers see it.

Owns: which faults, under which configuration, in which phases, and the table. Does not own: sending and judging
(`load`), faults themselves (`supervisor`). Judged from the callers' side alone: never from the pilot's state.
"""

import argparse
import asyncio
import contextlib
import json
import math
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from lab.load import Load, Sample, between, percentile, shares
from lab.stack import ROOT

HYBRID: Final = 'lanes=["burst","vm"]'
ALL: Final = 'lanes=["home","burst","vm"]'
QUICK_BURST: Final = 'burst={"idle_s":60,"wake_deadline_s":50,"retry_s":5,"slow_s":1.0,"recovered_s":0.4}'
"""Burst's times shortened, so that one scenario takes a minute; the cold start stays as it is asked for."""


FOUND_S: Final = 2.0
"""Within this the checks find a home whose packets vanish, seconds."""
_ANSWERS: Final = ("--answer-time", "0.6")
"""Seconds the fake models take for an answer, half of them until its first token."""


@dataclass(frozen=True)
class Scenario:
    """One fault under load. `before`, `during` and `after` are seconds; `during` is stretched by the cold start."""

    name: str
    lanes: str
    fault: str | None = None
    warm: bool = False
    """Wait until burst serves before the load counts."""
    before: float = 6.0
    during: float = 12.0
    after: float = 10.0
    rate: float = 2.0
    """Requests a second; the VM answers 3.3, so that a fault and not its queue is measured."""
    stretch: bool = False
    """`during` lasts a cold start longer."""


SCENARIOS: Final = (
    Scenario("vm alone", 'lanes=["vm"]', before=0.0, during=30.0),
    Scenario("cold start", HYBRID, before=0.0, stretch=True),
    Scenario("home refused", ALL, "home-refused"),
    Scenario("home black-holed", ALL, "home-blackhole"),
    Scenario("home slow", ALL, "home-slow"),
    Scenario("tunnel down", ALL, "tunnel-down"),
    Scenario("burst never starts", HYBRID, "burst-never", before=0.0, during=20.0),
    Scenario("burst answers 5xx", HYBRID, "burst-5xx", warm=True),
    Scenario("burst slow", HYBRID, "burst-slow", warm=True, during=20.0),
    Scenario("vm full", HYBRID, "vm-full", warm=True),
    Scenario("vm down", ALL, "vm-down"),
    Scenario("vm late", ALL, "vm-late"),
    Scenario("pilot down", HYBRID, "pilot-down", warm=True),
    Scenario("pilot wedged", HYBRID, "pilot-wedged", warm=True),
)


@dataclass
class Result:
    """What one scenario's load saw; `marks` are the times between the phases, seconds."""

    scenario: Scenario
    samples: list[Sample] = field(default_factory=list[Sample])
    marks: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

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


class LabProcess:
    """A detached lab with fake models, driven through its own command line."""

    def __init__(self, *, cold_start_s: float, config: Sequence[str]) -> None:
        self._cold_start_s, self._config = cold_start_s, list(config)
        self.outputs: dict[str, Any] = {}

    async def up(self) -> None:
        options = [word for item in self._config for word in ("--config", item)]
        await self.call(
            "up",
            "--detach",
            "--fake-models",
            "--no-first-answer",
            "--cold-start",
            str(self._cold_start_s),
            *_ANSWERS,
            *options,
        )
        self.outputs = json.loads(await self.call("outputs", "--json"))
        # The model list wakes the gateway and no lane; two seconds later its checks have found the lanes.
        url, headers = f"{self.outputs['base_url']}/models", {"Authorization": f"Bearer {self._key}"}
        async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as answer:
            await answer.read()
        await asyncio.sleep(2.0)

    async def call(self, *words: str) -> str:
        """Runs one command of the lab; raises with its own words when it fails."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lab", *words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, errors = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"lab {' '.join(words)}: {errors.decode()[-2000:]}")
        return out.decode()

    @property
    def _key(self) -> str:
        return next(iter(self.outputs["api_keys"].values()))

    def load(self, rate: float) -> Load:
        return Load(self.outputs["base_url"], self._key, self.outputs["model"], rate=rate)


@contextlib.asynccontextmanager
async def lab_up(cold_start_s: float, config: Sequence[str]) -> AsyncGenerator[LabProcess]:
    """A running lab, taken down whatever happens."""
    lab = LabProcess(cold_start_s=cold_start_s, config=config)
    try:
        await lab.up()
        yield lab
    finally:
        await lab.call("down")


async def run(scenario: Scenario, *, cold_start_s: float) -> Result:
    """One scenario on a lab of its own."""
    async with lab_up(cold_start_s, [scenario.lanes, QUICK_BURST]) as lab:
        if scenario.warm:
            await _warm_up(lab, cold_start_s)
        during = scenario.during + (cold_start_s if scenario.stretch else 0.0)
        async with lab.load(scenario.rate) as load:
            await load.run(scenario.before)
            start = load.now()
            if scenario.fault:
                await asyncio.gather(lab.call("fault", scenario.fault, "on"), load.run(during))
            else:
                await load.run(during)
            end = load.now()
            if scenario.fault:
                await asyncio.gather(lab.call("fault", scenario.fault, "off"), load.run(scenario.after))
            else:
                await load.run(scenario.after)
            marks = (0.0, start, end, load.now())
        return Result(scenario, sorted(load.samples, key=lambda sample: sample.sent), marks)


async def _warm_up(lab: LabProcess, cold_start_s: float) -> None:
    """Sends until burst answers."""
    async with lab.load(2.0) as load:
        for _ in range(int(cold_start_s) + 30):
            await load.run(1.0)
            if any(sample.lane == "burst" for sample in load.samples):
                return
    raise RuntimeError(f"burst did not answer within {cold_start_s + 30:.0f} s of load")


def table(results: Sequence[Result]) -> str:
    """Markdown: per scenario requests sent, lost, broken, slowest first token, lane shares before/during/after."""
    rows = [
        "| fault | sent | lost | broken | slowest first token | before | during | after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        slowest = percentile(result.samples, 1.0)
        phases = " | ".join(_shares(result.phase(number)) for number in range(3))
        rows.append(
            f"| {result.scenario.name} | {len(result.samples)} | {len(result.lost)} | {len(result.broken)} "
            + f"| {'-' if math.isnan(slowest) else f'{slowest:.2f} s'} | {phases} |"
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
        judge("warm: share of burst", shares(cold.phase(2)).get("burst", 0.0), 0.9, least=True)
        if "vm alone" in found:
            alone = percentile(found["vm alone"].samples, 0.99)
            judge("cold start: p99 first token, in p99 of the VM alone", percentile(cold.samples, 0.99) / alone, 1.2)
    if "home refused" in found:
        refused = found["home refused"]
        added = percentile(refused.phase(1), 0.5) - percentile(refused.phase(0), 0.5)
        judge("home refused: added to the median first token, s", added, 0.1)
    if "home black-holed" in found:
        hole = found["home black-holed"]
        late = [sample for sample in hole.phase(1) if sample.sent >= hole.marks[1] + FOUND_S]
        judge(
            f"home black-holed: slowest first token of requests sent {FOUND_S:.0f} s later, s", percentile(late, 1), 2
        )
        judge("home black-holed: slowest first token of all, s", percentile(hole.samples, 1), 10)
    if "pilot down" in found:
        judge("pilot killed: requests lost", len(found["pilot down"].lost), 0)
    return "\n".join(["| promise | measured | limit | kept |", "|---|---|---|---|", *lines])


def _shares(samples: Sequence[Sample]) -> str:
    return ", ".join(f"{lane} {share:.0%}" for lane, share in shares(samples).items()) or "-"


def main() -> int:
    """Exit status 1 when a request was lost in any scenario, or a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m lab.scenarios", description=__doc__)
    parser.add_argument("--cold-start", type=float, default=45.0, help="seconds until burst's model answers")
    parser.add_argument("--only", default="", help="run the scenarios whose name contains this")
    parser.add_argument("--samples", type=Path, help="folder for every request's sample, one JSON file a scenario")
    arguments = parser.parse_args()
    results: list[Result] = []
    for scenario in SCENARIOS:
        if arguments.only in scenario.name:
            print(f"{scenario.name} ...", file=sys.stderr, flush=True)
            result = asyncio.run(run(scenario, cold_start_s=arguments.cold_start))
            results.append(result)
            print(table([result]).splitlines()[-1], file=sys.stderr, flush=True)
            if arguments.samples:
                arguments.samples.mkdir(parents=True, exist_ok=True)
                path = arguments.samples / f"{scenario.name.replace(' ', '-')}.json"
                path.write_text(json.dumps({"marks": result.marks, "samples": [vars(s) for s in result.samples]}))
    kept = promises(results)
    print(f"{table(results)}\n\n{kept}")
    return int(any(result.lost for result in results) or "| NO |" in kept)


if __name__ == "__main__":
    sys.exit(main())
