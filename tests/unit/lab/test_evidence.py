"""What the lanes' logs prove: each promise broken once, and a good log that breaks none."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from lab.measure.evidence import TOKEN, Arrival, arrivals, broken_promises
from lab.measure.load import Sample
from lab.run.burst import BurstRequest

KEY = "sk-lab-1"


def sample(lane: str, request: str = "r") -> Sample:
    return Sample(0.0, True, lane, "ok" if lane else "lost", math.nan, request=request)


def at(lane: str, time: float, *headers: tuple[str, str], begun: bool = True, request: str = "r") -> Arrival:
    return Arrival(lane, request, time, headers, begun)


def refused(lane: str, time: float) -> Arrival:
    return at(lane, time, begun=False)


@pytest.mark.parametrize(
    ("told", "received", "at_burst", "words"),
    [
        ("vm", [refused("home", 1), at("vm", 2)], [], ""),
        ("burst", [at("burst", 1, (TOKEN, "Bearer t"))], [BurstRequest("r", 1, True)], ""),
        ("vm", [at("vm", 1)], [BurstRequest("", 1, False)], ""),
        ("vm", [refused("home", 1), refused("home", 3), at("vm", 3.1)], [], ""),
        ("vm", [at("vm", 2)], [BurstRequest("r", 1, False)], "1 requests of callers were sent to a cold burst"),
        ("vm", [at("vm", 1, (TOKEN.lower(), "Bearer t"))], [], "vm was told the ID token"),
        ("burst", [at("burst", 1, ("Authorization", f"Bearer {KEY}"))], [], "burst was told a client's key"),
        ("vm", [refused("home", 1), refused("home", 1.1), at("vm", 2)], [], "home was asked again 1 times at once"),
        (
            "vm",
            [at("vm", 2)],
            [BurstRequest("r", 1, True), BurstRequest("r", 1.5, True)],
            "burst's front was asked again 1 times",
        ),
        ("vm", [at("home", 1), at("vm", 2)], [], "begun by ['home', 'vm'], its caller was told ['vm']"),
        ("vm", [at("vm", 1), refused("home", 2)], [], "begun by vm, and then sent to home, too"),
        ("home", [at("vm", 1)], [], "begun by ['vm'], its caller was told ['home']"),
        ("vm", [], [], "begun by nobody, its caller was told ['vm']"),
        ("", [at("vm", 1)], [], "begun by ['vm'], its caller was told nothing"),
    ],
)
def test_promises(told: str, received: list[Arrival], at_burst: list[BurstRequest], words: str) -> None:
    found = broken_promises([sample(told)], received, at_burst, key=KEY)
    assert len(found) == bool(words)
    assert words in "".join(found)


def test_who_was_refused_by_the_gateway_reached_no_lane() -> None:
    refused_one = replace(sample("gateway"), outcome="refused")
    assert broken_promises([refused_one], [], [], key=KEY) == []
    [found] = broken_promises([refused_one], [at("vm", 1)], [], key=KEY)
    assert "begun by ['vm'], its caller was told nothing" in found


@pytest.mark.parametrize("told", ["vm", "home"])
def test_swallowed_answers_of_a_cut_off_lane_count_for_nothing(told: str) -> None:
    received = [at("home", 1), *([at("vm", 2)] if told == "vm" else [])]
    assert broken_promises([sample(told)], received, [], key=KEY, cut_off="home") == []
    assert len(broken_promises([sample(told)], [*received, at("burst", 3)], [], key=KEY, cut_off="home")) == 1


def test_journal_of_several_lives_says_what_became_of_each_request(tmp_path: Path) -> None:
    came = {"key": "7-1", "time": 1.0, "headers": [["X-Request-Id", "a"]], "status": None, "finished": None}
    ended = {**came, "status": 200, "finished": 3.0}
    lines = [came, {**came, "key": "8-1"}, ended, {**came, "key": "8-2", "status": 503}]
    journal = tmp_path / "vm.journal"
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = arrivals("vm", journal)
    assert [(arrival.request, arrival.begun) for arrival in found] == [("a", True), ("a", False), ("a", False)]
    assert [arrival.finished for arrival in found] == [3.0, math.inf, math.inf]
    assert arrivals("home", tmp_path / "none.journal") == []
