"""The judgement: a figure that just misses its bound is a miss, and nothing unmeasured is reached."""

import math

import pytest

from bench.goals import Goal, number, summary


@pytest.mark.parametrize(
    ("figure", "at_most", "reached"),
    [(0.8, False, True), (0.79, False, False), (0.81, False, True),
     (0.8, True, True), (0.81, True, False), (0.79, True, True),
     (math.nan, True, False), (math.nan, False, False), (math.inf, True, False)],
)  # fmt: skip
def test_a_goal_is_reached_exactly_from_its_bound_on(figure: float, at_most: bool, reached: bool) -> None:
    assert Goal("ratio", figure, 0.8, at_most=at_most).reached is reached


def test_a_loss_stands_in_the_table_as_plainly_as_a_win() -> None:
    assert Goal("p50", 0.31, 0.15, unit=" ms").row() == ["p50", "≤ 0.15 ms", "0.31 ms", "**no**"]
    assert Goal("rate", 0.9, 0.8, at_most=False).row() == ["rate", "≥ 0.80", "0.90", "yes"]
    assert Goal("rate", math.nan, 0.8).row() == ["rate", "≤ 0.80", "not measured", "-"]


def test_the_summary_counts_no_goal_that_was_not_measured() -> None:
    goals = [Goal("a", 1, 2), Goal("b", 3, 2), Goal("c", math.nan, 2)]
    assert summary(goals) == "1 of 2 goals are reached, 1 not measured."
    assert summary(goals[:2]) == "1 of 2 goals are reached."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.1234, "0.12"),
        (12.34, "12.3"),
        (123.4, "123"),
        (12345.6, "12,346"),
        (math.nan, "-"),
        (-0.5, "-0.50"),
    ],
)
def test_a_number_has_three_digits(value: float, text: str) -> None:
    assert number(value) == text
