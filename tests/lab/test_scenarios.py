"""Every fault under load with a cold start of 3 s: what callers lose, who answers, and what the lanes' logs say.

Several faults share a lab, one after another. `make scenarios` gives each a lab of its own, and judges the times: here
a phase waits until its lane is left or serves again, as long as a busy machine needs for it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from lab.measure.cases import ALL, CUT_OFF, HYBRID, SCENARIOS, Result, Scenario
from lab.measure.load import Sample, percentile, shares
from lab.measure.scenarios import QUICK_BURST, run_on, serves, until
from lab.measure.testbed import lab_up

COLD_START_S: Final = 3.0
HUNG_S: Final = 4.0
"""A caller on a busy machine waits less for an answer of 0.6 s, and one who waited for a stuck lane more."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("declared_addresses"),
    # asyncio leaves the socket of a connection attempt that is cancelled to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def scenario(name: str, before: float, during: float, after: float) -> Scenario:
    [found] = [scenario for scenario in SCENARIOS if scenario.name == name]
    return replace(found, before=before, during=during, after=after, stretch=False)


def results_of(lanes: str, scenarios: Sequence[Scenario]) -> dict[str, Result]:
    """One lab, one fault after another; each begins where the one before has recovered."""

    async def main() -> dict[str, Result]:
        async with lab_up(COLD_START_S, [lanes, QUICK_BURST]) as testbed:
            return {one.name: await run_on(testbed, one, cold_start_s=COLD_START_S) for one in scenarios}

    return asyncio.run(main())


def lanes(samples: Sequence[Sample]) -> set[str]:
    return {sample.lane for sample in samples}


def kept(result: Result) -> None:
    """What holds under every fault. Begun answers break only where a fault cuts their lane off."""
    assert not result.lost
    assert result.evidence == []
    assert not result.broken or result.scenario.fault in CUT_OFF


@pytest.fixture(scope="module")
def hybrid(declared_addresses: None) -> dict[str, Result]:
    del declared_addresses
    return results_of(
        HYBRID,
        [
            scenario("burst never starts", 0, 4, 1),
            *(scenario(name, 2, 2, 1) for name in ("burst answers 5xx", "burst slow", "pilot down", "pilot wedged")),
        ],
    )


@pytest.fixture(scope="module")
def home(declared_addresses: None) -> dict[str, Result]:
    del declared_addresses
    faults = {"home refused": 3, "home black-holed": 3, "home slow": 8, "tunnel down": 3}
    faults |= {"home mute": 5, "home answers 500": 8}
    return results_of(ALL, [scenario(name, 2, during, 1) for name, during in faults.items()])


@pytest.fixture(scope="module")
def vm(declared_addresses: None) -> dict[str, Result]:
    del declared_addresses
    return results_of('lanes=["vm"]', [scenario("vm late", 2, 4, 1), scenario("vm down", 2, 4, 1)])


def test_nobody_waits_for_a_cold_model_and_a_burst_that_never_starts_gets_nobody(hybrid: dict[str, Result]) -> None:
    result = hybrid["burst never starts"]
    kept(result)
    assert lanes(result.phase(1)) == {"vm"}
    assert percentile(result.phase(1), 1.0) < COLD_START_S, "the slowest caller did not wait for the model"
    assert result.samples[-1].lane == "burst", "once it can start, it serves"


@pytest.mark.parametrize("name", ["burst answers 5xx", "burst slow", "pilot down", "pilot wedged"])
def test_broken_burst_or_pilot_costs_nobody_an_answer(hybrid: dict[str, Result], name: str) -> None:
    result = hybrid[name]
    kept(result)
    assert shares(result.phase(0)).get("burst", 0.0) >= 0.9, "warm, most goes to burst"
    assert lanes(result.held(1)) == {"vm"}
    assert result.samples[-1].lane == "burst"


@pytest.mark.parametrize("name", ["home refused", "home black-holed", "tunnel down"])
def test_lost_home_is_taken_over_and_back(home: dict[str, Result], name: str) -> None:
    result = home[name]
    kept(result)
    assert result.samples[0].lane == "home"
    assert "home" not in lanes(result.held(1))
    assert result.samples[-1].lane == "home"


def test_slow_home_keeps_its_callers_and_passes_on_the_rest(home: dict[str, Result]) -> None:
    result = home["home slow"]
    kept(result)
    assert lanes(result.phase(1)) > {"home"}, "home's slots are taken, what comes then goes on"


@pytest.mark.parametrize("name", ["home mute", "home answers 500"])
def test_a_home_that_takes_requests_and_answers_none_is_left_and_taken_back(home: dict[str, Result], name: str) -> None:
    result = home[name]
    kept(result)
    assert result.phase(0)[0].lane == "home"
    later = result.held(1)
    assert "home" not in lanes(later)
    assert not [sample for sample in result.broken if sample in later], "only streams that home had begun are broken"
    assert percentile(later, 1.0) < HUNG_S
    assert result.samples[-1].lane == "home"


@pytest.mark.parametrize("name", ["vm late", "vm down"])
def test_callers_wait_for_the_only_lane(vm: dict[str, Result], name: str) -> None:
    result = vm[name]
    kept(result)
    assert lanes(result.samples) == {"vm"}
    assert percentile(result.phase(1), 1.0) > 3.0, "the fault was there"


def test_callers_of_a_full_vm_wait_for_burst() -> None:
    result = results_of(HYBRID, [scenario("vm full", 0, 6, 1)])["vm full"]
    kept(result)
    waited = [sample for sample in result.phase(1) if sample.lane == "burst" and sample.first_token_s > 1.0]
    assert waited, "they were held until burst was up"
    assert result.samples[-1].lane == "burst"


def test_answers_too_short_to_be_seen_wake_burst() -> None:
    async def main() -> None:
        async with lab_up(1.0, [HYBRID, QUICK_BURST], answer_s=0.0) as testbed, testbed.load(2.0) as load:
            assert await until(load, "burst", serves, 1.0)

    asyncio.run(main())
