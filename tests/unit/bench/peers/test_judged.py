"""What is made of a run's raw observations, by hand-made ones: streams, the line, fail-over."""

import pytest

from bench.tables import failover, line, streams

# A job: sent, first byte, end, status, longest gap, stalls, pieces, served by.


def test_streams_count_what_is_late_stands_still_or_breaks_off() -> None:
    jobs = [
        [0.0, 0.010, 5.0, 200, 0.06, 0, 12, "home"],
        [0.0, 0.030, 5.0, 200, 0.40, 2, 12, "home"],
        [0.0, 0.020, 3.0, 200, 0.06, 0, 7, "home"],
        [0.0, 0.0, 1.0, 0, 0.0, 0, 0, ""],
    ]
    seen = {"begun": 100.0, "jobs": jobs, "chunks": {"0": 5, "1": 40, "2": 40, "3": 9}}
    found = streams.judged(seen, streams=4, chunks=10, marks=[(101.0, 1.0, 2.0), (103.0, 1.2, 3.0)])
    assert found["first p50"] == pytest.approx(20)
    assert found["stalls"] == 2
    assert found["lost"] == 2, "one is short, one broke"
    assert found["rate"] == 40, "whole seconds between the marks"
    assert found["cpu"] == pytest.approx(0.1 / 40 * 1e6)
    assert found["load"] == pytest.approx(0.5)


def test_the_line_is_judged_against_the_same_arrivals_and_times() -> None:
    jobs = [[0.0, 0, 1.0, 200, 0, 0, 0, ""], [0.1, 0, 3.0, 200, 0, 0, 0, ""], [0.2, 0, 2.0, 200, 0, 0, 0, ""],
            [0.3, 0, 0.4, 503, 0, 0, 0, ""]]  # fmt: skip
    log = [["home", "job-000000", 0.0, 1.0], ["home", "job-000002", 1.0, 2.0], ["home", "job-000001", 2.0, 3.0]]
    found = line.judged({"jobs": jobs}, log, most=1, callers=0)
    assert found["overtaken"] == 1
    assert found["lost"] == 1
    assert found["p99"] == pytest.approx(2.9)
    assert found["fair p99"] == pytest.approx(1.0), "ten slots: nobody would have waited"


def test_fail_over_counts_the_lost_and_says_how_much_later_the_others_were() -> None:
    before = [[0.0, 0, 0.1, 200, 0, 0, 0, ""]] * 3
    after = [[1.0, 0, 1.1, 200, 0, 0, 0, ""], [1.0, 0, 1.1, 200, 0, 0, 0, ""], [1.0, 0, 3.1, 200, 0, 0, 0, ""]]
    assert failover.told(before, after) == "0 of 3 lost; +0 ms, worst +2.0 s"
    broken = [[1.0, 0, 1.1, 502, 0, 0, 0, ""], [1.0, 0, 0.0, -1, 0, 0, 0, ""]]
    assert failover.told(before, [*after, *broken]) == "**2 of 5 lost**; +0 ms, worst +2.0 s"
    assert failover.told(before, broken) == "**2 of 2 lost**; nobody served"
