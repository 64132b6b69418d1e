"""Arithmetic over rounds: percentiles, spread, and ratios that a disturbed round can't shift."""

import math

import pytest

from bench.statistics import Rounds, percentile


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5, 1, 3, 2, 4], 50, 3),
        ([1, 2, 3, 4], 50, 2),
        (list(range(1, 101)), 99, 99),
        (list(range(1, 102)), 99, 100),
        ([7], 99, 7),
        ([1, 2], 100, 2),
        ([1, 2], 0, 1),
    ],
)
def test_a_percentile_is_the_least_value_that_so_many_percent_do_not_exceed(
    values: list[float], percent: float, expected: float
) -> None:
    assert percentile(values, percent) == expected


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 50))


def rounds(**values: list[float]) -> Rounds:
    found = Rounds()
    for system, row in values.items():
        for number, value in enumerate(row):
            found.add(system, "rate", value, number)
    return found


def test_median_and_spread_are_those_of_the_rounds() -> None:
    found = rounds(caddy=[90, 100, 140])
    assert found.median("caddy", "rate") == 100
    assert found.spread("caddy", "rate") == pytest.approx(0.25)
    assert math.isnan(rounds(caddy=[1]).spread("caddy", "rate")), "one round has no spread"


def test_a_ratio_compares_what_was_measured_in_the_same_round() -> None:
    """Medians alone would say 50 / 100; each round says 0.5, 0.5 and 1."""
    found = rounds(ours=[5, 50, 100], caddy=[10, 100, 100])
    assert found.ratio("ours", "caddy", "rate") == 0.5
    skewed = rounds(ours=[10, 100, 30], caddy=[100, 30, 10])
    assert skewed.ratio("ours", "caddy", "rate") == 3, "and not the 1 of their medians"


def test_rounds_that_one_of_them_missed_are_left_out() -> None:
    found = rounds(ours=[1], caddy=[2, 4])
    assert found.ratio("ours", "caddy", "rate") == 0.5
    assert math.isnan(found.ratio("ours", "nobody", "rate"))
    assert math.isnan(found.median("nobody", "rate"))
