"""Machines behind one address: how many are counted on, whatever order a balancer leads the looks in."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from components.gateway.pilot.machines import SEEN_S, Machines

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
