"""The soak's own rules: the schedule, the shortest one, and each promise broken once by hand."""

import asyncio
import hashlib
import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import pytest

from lab.measure.evidence import Arrival
from lab.measure.requests import words
from lab.measure.soak import table
from lab.measure.soak.callers import Answer, Body, Kind, Told
from lab.measure.soak.gauges import Held, Look
from lab.measure.soak.run import Report
from lab.measure.soak.schedule import CALM_S, GROUPS, SETTLE_S, Event, Happened, schedule
from lab.measure.soak.shrink import shortest
from lab.measure.soak.verdict import FRONT, WAITED_OUT, Limits, flat, judge, open_still, outcome
from lab.read.stack import ROOT
from lab.run.faults import FAULTS

FAULTS_THERE: Final = {fault for faults in GROUPS.values() for fault in faults}
MIB: Final = 1024 * 1024
LIMITS: Final = Limits(wait_s=120.0, timeout_s=300.0, replay=4 * MIB)


# --- the schedule -----------------------------------------------------------------------------------------------------


def test_every_fault_of_the_lab_has_a_group_but_the_one_that_is_two_and_that_of_a_second_machine() -> None:
    assert sum(map(len, GROUPS.values())) == len(FAULTS_THERE)
    assert FAULTS_THERE | {"vm-late", "home-node-off"} == set(FAULTS)


@pytest.mark.parametrize("seed", range(5))
def test_a_schedule_breaks_everything_and_each_thing_in_one_way_at_a_time(seed: int) -> None:
    events = schedule(seed, 360.0)
    assert events == schedule(seed, 360.0) != schedule(seed + 100, 360.0)
    assert {event.fault for event in events} == FAULTS_THERE
    for faults in GROUPS.values():
        mine = sorted((event for event in events if event.fault in faults), key=lambda event: event.at)
        assert all(one.at + one.lasts < two.at for one, two in pairwise(mine))
    assert min(event.at for event in events) >= CALM_S
    assert all(event.lasts > 0 for event in events)
    together = max(sum(o.at <= e.at < o.at + o.lasts for o in events) for e in events)
    assert together >= 3, "faults meet"


# --- the shortest schedule --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guilty", [(), (7,), (3, 11), (0, 1, 2, 19)])
def test_what_is_left_is_what_is_needed(guilty: tuple[int, ...]) -> None:
    events = tuple(Event(float(number), "pilot-down", 1.0) for number in range(20))
    needed = {events[number] for number in guilty}
    tried: list[tuple[Event, ...]] = []

    async def fails(some: tuple[Event, ...]) -> bool:
        tried.append(some)
        return needed <= set(some)

    found = asyncio.run(shortest(events, fails, lambda: False))
    assert set(found) == needed
    assert found == tuple(sorted(found, key=lambda event: event.at))
    assert len(tried) < 120


def test_the_search_ends_with_what_it_has_when_time_is_up() -> None:
    events = tuple(Event(float(number), "pilot-down", 1.0) for number in range(16))
    tried: list[tuple[Event, ...]] = []

    async def fails(some: tuple[Event, ...]) -> bool:
        tried.append(some)
        return events[5] in some

    found = asyncio.run(shortest(events, fails, lambda: len(tried) >= 2))
    assert events[5] in found
    assert (len(tried), len(found)) == (2, 8) or len(found) < 16


# --- an answer against its request ------------------------------------------------------------------------------------

DIGEST: Final = "a" * 64


def chunk(text: str | None, *, digest: str = DIGEST, answer: str = "fake-vm-1") -> bytes:
    delta = {} if text is None else {"content": text}
    head: dict[str, Any] = {"id": answer, "choices": [{"delta": delta}], "received": {"sha256": digest}}
    return b"data: " + json.dumps(head).encode()


DONE: Final = b"data: [DONE]"
GOOD: Final = [chunk("BACKEND:vm"), chunk(" token1"), chunk(" token2"), chunk(None), DONE, b""]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (GOOD, ""),
        ([chunk("BACKEND:vm", digest="b" * 64), *GOOD[1:]], "it answers another request"),
        ([chunk("BACKEND:home"), *GOOD[1:]], "token 0 is 'BACKEND:home'"),
        ([*GOOD[:2], chunk(" token2", answer="fake-vm-2"), *GOOD[3:]], "parts of several answers"),
        ([*GOOD[:2], chunk(" token1"), *GOOD[2:]], "token 2 is ' token1'"),
        ([*GOOD[:2], *GOOD[3:]], "2 of 3 tokens"),
        ([b"data: {}", *GOOD], "it has another form"),
        ([*GOOD[:5], *GOOD], "it went on after its end"),
    ],
)
def test_a_stream_that_is_not_its_request_s_is_seen(lines: list[bytes], words: str) -> None:
    answer = Answer("vm", DIGEST, 3)
    for line in lines:
        answer.line(line)
    assert answer.done
    assert answer.crossed.startswith(words)
    assert bool(answer.crossed) == bool(words)


def whole(text: str, digest: str = DIGEST) -> bytes:
    content = f"{text} sha256={digest} length=9"
    return json.dumps({"choices": [{"message": {"content": content}}], "received": {"sha256": digest}}).encode()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (whole("BACKEND:vm token1 token2"), ""),
        (whole("BACKEND:vm token1 token2", "b" * 64), "it answers another request"),
        (whole("BACKEND:home token1 token2"), "its text is not vm's"),
        (whole("BACKEND:vm token1"), "its text is not vm's"),
        (chunk("BACKEND:vm"), "it has another form"),
        (b"{}", "it has another form"),
    ],
)
def test_a_whole_answer_that_is_not_its_request_s_is_seen(raw: bytes, words: str) -> None:
    answer = Answer("vm", DIGEST, 3)
    answer.whole(raw)
    assert answer.crossed.startswith(words)
    assert bool(answer.crossed) == bool(words)


def test_each_body_has_a_mark_and_a_digest_of_its_own() -> None:
    body = Body(Kind("k", 1, text_tokens=300), "m")
    (one, digest), (two, other) = body.marked("a", 3), body.marked("b", 3)
    assert digest == hashlib.sha256(one).hexdigest() != other == hashlib.sha256(two).hexdigest()
    assert (json.loads(one)["user"], json.loads(one)["max_tokens"]) == ("a", 3)
    assert words(300) in json.loads(one)["messages"][0]["content"]


# --- the promises -----------------------------------------------------------------------------------------------------

OK: Final = Told("short", "r", 100, False, sent=100.0, begun=101.0, ended=102.0, status=200, lane="vm")
LOST: Final = replace(OK, status=503, code="no_lane", lane="gateway")
HOUR: Final = 3600.0


def at(lane: str, time: float, *, begun: bool = True) -> Arrival:
    return Arrival(lane, "r", time, (), begun)


def now(fault: str, on: float = 100.5, off: float = 101.5) -> Happened:
    return Happened(fault, on, off)


@pytest.mark.parametrize(
    ("told", "happened", "found"),
    [
        (OK, [], "answered"),
        (replace(OK, crossed="x"), [now("vm-down")], "crossed"),
        (replace(OK, left=True), [], "left"),
        (replace(OK, ended=100 + HOUR), [now("vm-down")], "late"),
        (replace(OK, left=True, ended=100 + HOUR), [], "late"),
        # Begun answers break with their lane and with nothing else.
        (replace(OK, broken="x"), [], "broken"),
        (replace(OK, broken="x"), [now("home-down"), now("pilot-down"), now("gateway-rolled")], "broken"),
        (replace(OK, broken="x"), [now("vm-down")], "cut off"),
        (replace(OK, broken="x", lane="home"), [now("tunnel-down")], "cut off"),
        (replace(OK, broken="x"), [now("vm-down", 100 - HOUR, 100 - SETTLE_S - 1)], "broken"),
        (replace(OK, broken="x"), [now("vm-down", 103, 104)], "broken"),
        (replace(OK, broken="x"), [now("gateway-ended")], "cut off"),
        # What has not begun is lost by nothing that one lane can have.
        (LOST, [now("vm-down"), now("home-down"), now("pilot-down"), now("gateway-rolled")], "lost"),
        (LOST, [now("gateway-ended")], "cut off"),
        (replace(LOST, ended=220.5), [], "told to wait"),
        (replace(LOST, length=5 * MIB), [now("vm-down")], "cut off"),
        (replace(LOST, length=5 * MIB), [], "lost"),
        (replace(LOST, length=3 * MIB), [now("vm-down")], "lost"),
        (replace(LOST, length=3 * MIB, chunked=True), [now("vm-down")], "cut off"),
        (replace(OK, status=0, broken="reset"), [now("vm-down")], "lost"),
        # 500 is an engine's own; Google's front may say that it has no room.
        (replace(OK, status=500, code="500"), [now("vm-500")], "cut off"),
        (replace(OK, status=500, code="500"), [now("vm-down")], "undocumented"),
        (replace(OK, status=500, code="500"), [now("home-500")], "undocumented"),
        (replace(OK, status=502, code="<html>"), [now("vm-down")], "undocumented"),
        (replace(OK, status=503, code="too_slow", lane="gateway"), [], "undocumented"),
        (replace(OK, status=400, code="bad_request", lane="gateway"), [], "undocumented"),
        (replace(OK, status=429, code="Rate exceeded.", lane="", ended=110.5), [], "told to wait"),
        (replace(OK, status=429, code="Rate exceeded.", lane=""), [], "lost"),
        (replace(OK, status=429, code="rate_limit_exceeded", lane="gateway"), [], "lost"),
        (replace(OK, status=429, code="rate_limit_exceeded", lane="gateway", ended=220.5), [], "told to wait"),
    ],
)
def test_what_becomes_of_a_request(told: Told, happened: list[Happened], found: str) -> None:
    kind, text = outcome(told, happened, LIMITS)
    assert kind == found
    assert bool(text) == (kind not in table.OUTCOMES)


@pytest.mark.parametrize(
    ("told", "arrivals", "happened", "words"),
    [
        (OK, [at("vm", 100.5)], [], ""),
        (OK, [at("home", 100.2, begun=False), at("vm", 100.5)], [], ""),
        (OK, [at("home", 100.2), at("vm", 100.5)], [now("tunnel-down", 100.3)], ""),
        (OK, [at("home", 100.2), at("vm", 100.5)], [], "begun by home, and 0.3 s later"),
        (OK, [at("home", 100.2), at("vm", 100.5)], [now("vm-down"), now("pilot-down")], "begun by home"),
        (OK, [at("vm", 100.2), at("vm", 100.5)], [], "begun by vm"),
        (OK, [at("vm", 100.5), at("home", 103, begun=False)], [], "sent to home 2.0 s after"),
        # A lane that stood still finds in its socket what somebody else has answered since.
        (OK, [at("vm", 100.5), at("home", 103, begun=False)], [now("home-stopped", 100.1, 103)], ""),
        (OK, [at("vm", 100.5), at("home", 103)], [now("home-stopped", 100.1, 103)], "begun by home 2.0 s after"),
        (replace(OK, left=True, begun=None, status=0), [at("vm", 104)], [], "begun by vm 2.0 s after"),
        (replace(OK, left=True, begun=None, status=0), [at("vm", 101)], [], ""),
        (OK, [], [], "its caller was told vm, which never began it"),
        (OK, [at("home", 100.5)], [], "its caller was told vm, which never began it"),
    ],
)
def test_who_begins_a_request(told: Told, arrivals: list[Arrival], happened: list[Happened], words: str) -> None:
    found = judge([told], arrivals, happened, LIMITS)
    assert {one.kind for one in found} <= {"twice"}
    assert words in "".join(one.text for one in found)
    assert bool(found) == bool(words)


@pytest.mark.parametrize(
    ("after", "words"), [(Held(190, 30.0), ""), (Held(300, 30.0), "300 goroutines"), (Held(190, 99.0), "99 MiB")]
)
def test_memory_that_stays_is_seen(after: Held, words: str) -> None:
    found = flat(Held(170, 31.0), after)
    assert words in "".join(one.text for one in found)
    assert bool(found) == bool(words)


@pytest.mark.parametrize(("now", "words"), [({"a": 50, "b": 999}, ""), ({"a": 51}, "a: 51, 10 before"), ({}, "")])
def test_descriptors_that_stay_are_seen(now: dict[str, int], words: str) -> None:
    found = open_still({"a": Look(1.0, 10)}, {title: Look(1.0, count) for title, count in now.items()})
    assert "".join(one.text for one in found) == words


def test_the_errors_that_are_no_loss_are_documented() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    rows = {(int(status), code) for status, codes in re.findall(r"^\| (\d+) \| ([^|]+)\|", page, re.M)
            for code in re.findall(r"`(\w+)`", codes)}  # fmt: skip
    assert rows >= WAITED_OUT
    assert "Google's front end answers 429 itself" in page
    assert FRONT[0] == 429


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_tables_count_everything_once() -> None:
    told = [OK, replace(OK, left=True), replace(LOST, request="q"), replace(OK, kind="picture", crossed="x")]
    report = Report(1, told, [now("vm-down"), now("vm-down")], LIMITS)
    report.violations = judge(told, [at("vm", 100.5)], report.happened, LIMITS)
    text = table.tables(report)
    assert "| short | 3 | 1 | 1 | 0 | 0 | 1 |" in text
    assert "| picture | 1 | 0 | 0 | 0 | 0 | 1 |" in text
    assert "| vm-down | 2 | 2 |" in text
    assert "promises not kept: 1 lost, 1 crossed" in text
