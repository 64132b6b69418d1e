"""The matrix's arithmetic: what each lane would have given a request alone, who is over the bound, what is promised."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from components.machines.requests import first_token_s
from lab.measure import bound, cells, picture
from lab.measure.bound import Lane
from lab.measure.cells import CELLS, COLD, DOWN, Cell, Seen, promises, row
from lab.measure.load import REFUSAL, Sample
from lab.measure.matrix import every_s
from lab.measure.picture import Panel
from lab.measure.requests import PICTURE_AND_TEXT, TEXT
from lab.programs.prompt import work
from lab.read import plan
from lab.read.stack import Stack

MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
BOTH = {"burst": Lane(0.5, ready_s=70.0), "vm": Lane(20.0)}
NOTHING = math.nan


def sample(sent: float, first: float, outcome: str = "ok", lane: str = "vm", whole: float = 30.0) -> Sample:
    return Sample(sent, True, lane, outcome, first, whole_s=whole)


def seen(*samples: Sample, most: float = 10.0) -> Seen:
    return Seen(every_s=5.0, samples=[*samples], bounds=[most] * len(samples))


@pytest.mark.parametrize(("sent", "latest"), [(0, 23.0), (40, 23.0), (60, 10.5 * 1.1 + 1), (90, 0.5 * 1.1 + 1)])
def test_the_bound_is_the_better_lane_s_time_alone(sent: float, latest: float) -> None:
    assert bound.latest_s(sent, BOTH) == pytest.approx(latest)
    assert bound.latest_s(90, {"vm": BOTH["vm"]}) == pytest.approx(23.0)


def test_who_waits_for_the_same_start_begins_in_turn() -> None:
    sent = [sample(0, 70.5, lane="burst"), sample(5, 20), sample(30, 41.5, lane="burst"), sample(71, 0.5, lane="burst")]
    assert [lane.alone_s(one.sent) for lane, one in zip(bound.in_line(BOTH["burst"], sent), sent, strict=True)] == [
        70.5, 65.5, 41.0, 0.5
    ]  # fmt: skip


def test_each_lane_counts_a_request_as_its_own_stand_in_does(stack_of: Callable[..., Stack]) -> None:
    found = plan.read(stack_of(lanes=["home", "burst", "vm"], vm={"machine_type": "e2-highmem-2"}))
    raw = PICTURE_AND_TEXT.body(MODEL, streamed=True)
    assert len(raw) / 1024 == pytest.approx(400, rel=0.2), "as a camera's picture of this size"
    asked = work(raw, json.loads(raw), 752)
    assert asked.pictures == (713,)
    lanes = bound.lanes(found, PICTURE_AND_TEXT, MODEL)
    assert lanes["home"].first_token_s == first_token_s(found.paces["home/vllm"].speed, asked.text, 713)
    assert lanes["burst"].first_token_s == first_token_s(found.paces["burst/vllm"].speed, asked.text, 713)
    assert lanes["vm"].first_token_s >= first_token_s(found.paces["vm/model"].speed, asked.text, 713)
    raw = TEXT.body(MODEL, streamed=True)
    assert work(raw, json.loads(raw), None).text == pytest.approx(300, abs=3)


def test_a_tier_gets_no_more_than_it_can_serve_but_where_most_wait_for_burst() -> None:
    quick, slow = Cell("T4", "text", COLD), Cell("e2-highmem-2", "text", COLD)
    assert every_s(quick, {"vm": Lane(0.3)}, 4.0, 70.0) == pytest.approx(1.2 * 4.3)
    assert every_s(slow, {"vm": Lane(65.0)}, 75.0, 70.0) == 20.0
    assert every_s(replace(slow, situation=DOWN), {"vm": Lane(65.0)}, 75.0, 70.0) == pytest.approx(168)


def test_late_and_lost_are_over_the_bound_and_a_refusal_is_not() -> None:
    late, lost = sample(0, 10.1), sample(0, NOTHING, "lost", lane="")
    found = seen(sample(0, 9.9), late, lost, sample(0, NOTHING, "refused", lane="gateway"))
    assert found.late == [late, lost]
    assert found.lost == [lost]
    assert len(found.refused) == 1
    text = row(CELLS[0], found)
    assert "| 5 s | 4 | 9.9 s | 10.1 s | vm 100% | 1 | 1 | 2 | kept |" in text, "the gateway's word is no lane's answer"
    assert "could not be run: no gpu" in row(CELLS[0], Seen(failed="no gpu"))


def judged(found: dict[Cell, Seen]) -> dict[str, str]:
    lines = promises(found).splitlines()[2:]
    return {cells[0].strip(): cells[3].strip() for line in lines if (cells := line.strip("|").split("|"))}


def test_what_is_promised_turns_red_where_it_is_not_kept() -> None:
    quick, picture = Cell("T4", "text", COLD), Cell("default", "picture", COLD)
    good = seen(sample(0, 1.9), sample(5, 0.3, lane="burst"))
    waits = replace(seen(sample(0, 60.0, lane="burst"), most=80.0), burst_s=[71.0])
    assert set(judged({quick: good, picture: waits}).values()) == {"yes"}
    for cell, broken in (
        (quick, seen(sample(0, 2.1))),
        (quick, Seen(failed="no such setting")),
        (quick, seen(sample(0, 1.0), sample(1, NOTHING, "lost"))),
        (quick, seen(sample(0, 1.0), sample(1, NOTHING, "refused", whole=5.0))),
        (picture, replace(waits, samples=[sample(0, 79.5)])),
        (picture, replace(waits, samples=[sample(0, NOTHING, "lost")])),
    ):
        assert "NO" in judged({cell: broken}).values(), broken


def test_samples_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = replace(seen(sample(0, 1.0)), marks=[70.0, 100.0], evidence=["a word"])
    cells.write(tmp_path / "deeper" / "one.json", found)
    assert cells.read(tmp_path / "deeper" / "one.json") == found
    assert REFUSAL == '"too_slow"'


def test_the_picture_has_a_chart_for_texts_and_one_for_pictures() -> None:
    texts = replace(seen(sample(0, 9.0), sample(60, 0.5, lane="burst")), marks=[50.0, 80.0])
    pictures = replace(seen(sample(0, 51.0, lane="burst"), sample(20, NOTHING, "refused")), marks=[50.0, 90.0])
    drawn = picture.svg([Panel("text", texts), Panel("picture", pictures)], "two charts")
    assert drawn.count("text, one every 5 s: first token, s") == 1
    assert drawn.count("picture, one every 5 s: first token, s") == 1
    assert drawn.count("<circle") == 3 + 2, "three answers, and two lanes in the legend"
    assert "vm: 1 answers" in drawn
    assert "burst: 2 answers" in drawn
    assert "1 without an answer" in drawn
    assert drawn.count("stroke-dasharray") == 3, "what waiting would have taken, in each chart and in the legend"
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
