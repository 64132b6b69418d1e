"""Machines behind one address: how many count, and whether all stand, however a balancer leads the looks."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.gateway.pilot.engine import Engine
from components.gateway.pilot.machines import ENGINES, SEEN_S, Looks, Machines

LOOKS = st.lists(st.tuples(st.floats(0, SEEN_S), st.integers(0, 4)), max_size=60)
"""Seconds since the look before, and the machine that answered it."""


def after(looks: list[tuple[float, int]]) -> tuple[Machines, list[tuple[float, int]]]:
    found, now, seen = Machines(), 0.0, list[tuple[float, int]]()
    for pause, name in looks:
        now += pause
        found.saw(name, now)
        seen.append((now, name))
    return found, seen


@given(LOOKS, st.floats(0, 3 * SEEN_S))
def test_as_many_are_up_as_answered_a_moment_ago(looks: list[tuple[float, int]], later: float) -> None:
    found, seen = after(looks)
    now = (seen[-1][0] if seen else 0.0) + later
    assert found.up(now) == len({name for at, name in seen if now - at <= SEEN_S})


@given(LOOKS)
def test_without_a_look_nobody_joins_and_all_are_gone_in_the_end(looks: list[tuple[float, int]]) -> None:
    found, seen = after(looks)
    end = seen[-1][0] if seen else 0.0
    counts = [found.up(end + step * SEEN_S / 7) for step in range(9)]
    assert all(before >= then for before, then in pairwise(counts))
    assert counts[-1] == 0


def told(looks: str, pause_s: float = 1.0) -> str:
    """`ABa...`: which engine each look reached, in small letters where it stands; `|`: a token is asked for.

    What each says of the lane: `+` moves, `-` stands, `?` not known.
    """
    lane, now, counters, found = Looks(), 0.0, dict[str, int](), ""
    for letter in looks:
        now += pause_s
        if letter == "|":
            lane.begin()
            continue
        name = letter.upper()
        counters[name] = counters.get(name, 0) + letter.isupper()
        said = lane.add(Engine(at=now, identity=ord(name), moving={"steps": counters[name]}))
        found += {True: "+", False: "-", None: "?"}[said]
    return found


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ("AAaaA", "++--+"),
        ("AB" + "bbbb", "++" + "????"),
        ("AB" + "abab", "++" + "?---"),
        ("AB" + "abA" + "bbb" + "a", "++" + "?-+" + "???" + "-"),
        # What was seen before a token was asked for says nothing of what held it up.
        ("AB" + "ab|bbA", "++" + "?-??+"),
        ("AB" + "ab|ba", "++" + "?-?-"),
        ("AaCacAc", "+-+?-+?"),
    ],
)
def test_an_engine_that_stands_says_nothing_about_another(looks: str, said: str) -> None:
    assert told(looks) == said


def test_one_that_was_not_seen_for_long_holds_up_no_verdict() -> None:
    found = told("AB" + "b" * 25)
    seen = int(SEEN_S)
    # The last look at A was one second before the first at B.
    assert found == "++" + "?" * (seen - 1) + "-" * (25 - seen + 1)


def test_a_look_without_an_answer_tells_of_one_that_is_alone() -> None:
    lane = Looks()
    assert lane.without_answer(0.0) is False
    for name in (1, 2):
        lane.add(Engine(at=0.0, identity=name))
        assert lane.without_answer(0.0) is (None if name == 2 else False)
    assert lane.without_answer(SEEN_S + 1) is False


def test_an_engine_is_remembered_longer_than_it_counts_but_not_all_of_them() -> None:
    lane = Looks()
    for name in range(ENGINES + 1):
        lane.add(Engine(at=float(name), identity=name))
    known = [lane.before(Engine(at=0.0, identity=name)) is not None for name in range(ENGINES + 1)]
    assert known == [False] + [True] * ENGINES
