"""A minute of the soak, and mistakes that it must find: rules taken out of the product, and one body for everybody."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import pytest

from lab.measure.soak import table
from lab.measure.soak.callers import Kind
from lab.measure.soak.run import Report, soak
from lab.measure.soak.schedule import Event, schedule
from lab.measure.testbed import Plant
from lab.read.stack import Stack
from tests.gateway.routing import Mutation, find
from tests.lab.test_scenarios_broken import begun_answers_replayed, in_caddy, no_retry_match, planted

SEED: Final = 7
SECONDS: Final = 45.0
FEW: Final = (Kind("short", 8), Kind("short, streamed", 8, streamed=True))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("declared_addresses"),
    # asyncio leaves the socket of a connection attempt that is cancelled to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_a_minute_under_random_faults_breaks_no_promise() -> None:
    report = asyncio.run(soak(SEED, SECONDS, schedule(SEED, SECONDS)))
    text = table.tables(report)
    assert not report.violations, text
    assert len({one.kind for one in report.told if one.status == 200}) >= 10, text
    assert {one.lane for one in report.told} >= {"home", "burst", "vm"}, text


def without(rule: Mutation) -> Plant:
    def plant(stack: Stack) -> None:
        planted(stack, in_caddy(rule))

    return plant


def one_body_for_all(config: dict[str, Any]) -> None:
    kept = '{"messages":[{"role":"user","content":"kept"}],"stream":true,"max_tokens":9}'
    for route in find(config, lambda x: any("retry_match" in str(handler) for handler in x.get("handle", ()))):
        if route["handle"][-1].get("handler") == "reverse_proxy":
            route["handle"].insert(0, {"handler": "request_body", "set": kept})


def under(plant: Plant, events: Sequence[Event], seconds: float = 12.0) -> Report:
    return asyncio.run(soak(1, seconds, events, plant=plant, squeeze=False, kinds=FEW))


def test_without_retries_requests_are_lost() -> None:
    report = under(without(no_retry_match), [Event(3.0, "home-down", 4.0)])
    assert "lost" in {one.kind for one in report.violations}, table.tables(report)


def test_an_answer_that_is_delivered_twice_is_seen() -> None:
    report = under(without(begun_answers_replayed), [], 4.0)
    assert "twice" in {one.kind for one in report.violations}, table.tables(report)


def test_an_answer_to_somebody_else_s_body_is_seen() -> None:
    report = under(without(one_body_for_all), [], 4.0)
    assert "crossed" in {one.kind for one in report.violations}, table.tables(report)
