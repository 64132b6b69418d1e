"""The line: first come, first served by hand, who overtook whom, and slots that are free while somebody waits."""

import pytest

from bench.queueing import Served, first_come, first_come_by_callers, idle, overtaken


def test_first_come_first_served_with_one_slot() -> None:
    assert first_come([0, 0, 0, 10], [1, 2, 3, 1], 1) == [1, 3, 6, 1]


def test_a_short_request_gets_the_slot_that_is_free_first() -> None:
    """Two slots: 5 and 1, so the third begins at 1 and the fourth at 3."""
    assert first_come([0, 0, 0, 0], [5, 1, 2, 4], 2) == [5, 1, 3, 7]


def test_callers_ask_again_with_their_answer() -> None:
    """Three callers, one slot: each waits for the two others."""
    assert first_come_by_callers([1, 1, 1, 1, 1, 1], callers=3, slots=1) == [1, 2, 3, 3, 3, 3]


def test_callers_that_are_no_more_than_the_slots_never_wait() -> None:
    assert first_come_by_callers([1, 2, 3, 4], callers=2, slots=2) == [1, 2, 3, 4]


def test_overtaken_counts_who_was_sent_later_and_begun_sooner() -> None:
    requests = [Served(0, 9, 10), Served(1, 2, 3), Served(2, 3, 4), Served(3, 10, 11)]
    assert overtaken(requests) == [2, 0, 0, 0]
    assert overtaken(requests[::-1]) == [2, 0, 0, 0], "in whatever order they are told"


def test_who_came_at_the_same_moment_overtakes_nobody() -> None:
    assert overtaken([Served(0, 2, 3), Served(0.0005, 1, 2)]) == [0, 0]


def test_a_slot_is_idle_only_while_somebody_waits() -> None:
    """One slot, free from 1 to 4; the second request waits from 3 on."""
    longest, share = idle([Served(0, 0, 1), Served(3, 4, 5)], 1)
    assert longest == pytest.approx(1)
    assert share == pytest.approx(1 / 4)
    assert idle([Served(0, 0, 1), Served(3, 3, 5)], 1) == (0, 0)


def test_short_gaps_of_several_slots_are_no_long_one() -> None:
    """Two slots, both at work but for half a second each, one after the other, while a caller waits all the time."""
    requests = [
        Served(0, 0, 1), Served(0, 0, 1.5),
        Served(0, 1.5, 3), Served(0, 2, 4),
        Served(0, 3, 5),
    ]  # fmt: skip
    longest, share = idle(requests, 2)
    assert longest == pytest.approx(0.5)
    assert share == pytest.approx(1 / 6)


def test_nothing_was_idle_where_nothing_was_asked() -> None:
    assert idle([], 3) == (0, 0)
