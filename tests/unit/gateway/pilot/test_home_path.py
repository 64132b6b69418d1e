"""The verdict over home's path: a dead tunnel is shut once, a living one never."""

from typing import Any

import pytest
from hypothesis import strategies as st

from tests.unit.gateway.pilot.histories import RULES, Rules, broken, for_all


def dead_tunnel_is_shut_once(rules: Rules) -> None:
    # Mostly silence, or few rows would be long enough.
    kinds = st.sampled_from([*rules.Seen, *[rules.Seen.SILENT] * 4])
    seen = st.lists(st.tuples(kinds, st.sampled_from([0, 1, 1, 2])), min_size=10, max_size=60)

    def check(drawn: list[tuple[Any, int]]) -> None:
        path, silent, shut = rules.HomePath(), 0, False
        for kind, in_flight in drawn:
            path, now = rules.path_step(path, kind, in_flight)
            silent = silent + 1 if kind is rules.Seen.SILENT and in_flight else 0
            assert now == (silent >= 3 and not shut)
            shut = (shut or now) and kind is not rules.Seen.ALIVE

    for_all(seen, check)


def test_dead_tunnel_is_shut_once() -> None:
    dead_tunnel_is_shut_once(RULES)


@pytest.mark.parametrize(
    ("rule", "instead"),
    [(" and not path.shut:", ":"), ("if seen is Seen.REFUSED or in_flight == 0:", "if seen is Seen.REFUSED:")],
)
def test_broken_rule_is_seen(rule: str, instead: str) -> None:
    with pytest.raises(AssertionError):
        dead_tunnel_is_shut_once(broken(rule, instead))
