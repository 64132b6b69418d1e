"""What a scenario's load saw, as the table tells it."""

from dataclasses import replace
from pathlib import Path

import pytest

from lab.measure import cases
from lab.measure.cases import Result, read, table, write
from lab.measure.load import Sample

SCENARIOS = {scenario.name: scenario for scenario in cases.SCENARIOS}


def test_the_table_shows_what_was_seen_and_reads_it_back(tmp_path: Path) -> None:
    found = SCENARIOS["vm down"]
    samples = [
        Sample(0.5, True, "vm", "ok", 0.25, whole_s=1.0),
        Sample(1.5, False, "home", "lost", -1.0, "HTTP 503", whole_s=1.0),
    ]
    result = Result(found, samples, (0.0, 1.0, 2.0, 3.0), ["a word"])
    text = table([replace(result, evidence=[])])
    assert "| vm down | 2 | 1 | 0 | kept | 0.25 s | - | - | vm 100% | home 100% | - |" in text
    write(tmp_path / "deeper", result)
    assert read(tmp_path / "deeper", found) == result


@pytest.mark.parametrize(
    ("under", "after", "left", "back"),
    [
        ("hbbbb", "bbhhh", "1.00 s", "3.00 s"),
        ("bbbbb", "hhhhh", "0.00 s", "1.00 s"),
        ("hbbbh", "hhhhh", "NEVER", "1.00 s"),
        ("hbbbb", "bbbbb", "1.00 s", "NEVER"),
    ],
)
def test_the_table_shows_how_long_a_lane_was_missed(under: str, after: str, left: str, back: str) -> None:
    lane = {"h": "home", "b": "burst"}
    samples = [Sample(1.0 + n, True, lane[one], "ok", 0.5) for n, one in enumerate(under + after)]
    result = Result(
        replace(SCENARIOS["home refused"], before=0.0, during=2.0, after=2.0), samples, (0.0, 0.0, 5.5, 10.5)
    )
    assert f" | {left} | {back} | " in table([result])
