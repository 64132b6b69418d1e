"""Three scenarios with a cold start of 3 s: what callers lose, and who answers. `make scenarios` judges the times."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from lab import picture
from lab.load import Sample, between, percentile, shares
from lab.scenarios import SCENARIOS, Result, run, table

COLD_START_S = 3.0


pytestmark = pytest.mark.usefixtures("declared_addresses")


def result_of(name: str, *, before: float, during: float, after: float) -> Result:
    [scenario] = [scenario for scenario in SCENARIOS if scenario.name == name]
    short = replace(scenario, before=before, during=during, after=after)
    return asyncio.run(run(short, cold_start_s=COLD_START_S))


def lanes(samples: list[Sample]) -> set[str]:
    return {sample.lane for sample in samples}


def test_nobody_waits_for_a_cold_model() -> None:
    result = result_of("cold start", before=0.0, during=5.0, after=4.0)
    assert not result.lost
    assert not result.broken
    assert lanes(between(result.samples, 0.0, COLD_START_S - 1)) == {"vm"}, "nothing may be sent to a cold burst"
    assert shares(result.phase(2))["burst"] >= 0.9, "warm, most goes to burst"
    assert percentile(result.samples, 1.0) < COLD_START_S, "the slowest caller did not wait for the model"


def test_home_refused_is_taken_over_and_back() -> None:
    result = result_of("home refused", before=3.0, during=6.0, after=4.0)
    assert not result.lost
    assert lanes(result.phase(0)) == {"home"}
    assert shares(result.phase(1)).get("home", 0.0) < 0.3
    assert result.samples[-1].lane == "home"


def test_a_dead_pilot_costs_nobody_an_answer() -> None:
    result = result_of("pilot down", before=3.0, during=6.0, after=2.0)
    assert not result.lost
    assert lanes(result.phase(0)) == {"burst"}
    assert "vm" in lanes(result.phase(1)), "without a pilot burst gets nothing"


def test_table_and_picture_show_what_was_seen(tmp_path: Path) -> None:
    [scenario] = [scenario for scenario in SCENARIOS if scenario.name == "vm down"]
    samples = [Sample(0.5, True, "vm", "ok", 0.25), Sample(1.5, False, "home", "lost", float("nan"), "HTTP 503")]
    text = table([Result(scenario, samples, (0.0, 1.0, 2.0, 3.0))])
    assert "| vm down | 2 | 1 | 0 | 0.25 s | vm 100% | home 100% | - |" in text
    drawn = picture.svg([vars(sample) for sample in samples], (0.0, 1.0, 2.0, 3.0), "two requests")
    assert drawn.count("<circle") == 2  # one answer, and one entry of the legend
    (tmp_path / "picture.svg").write_text(drawn)
