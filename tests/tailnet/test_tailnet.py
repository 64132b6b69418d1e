"""The declared gateway in a real tailnet: what gets through, who may join, and what callers see of every trouble."""

import time
from collections.abc import Callable

import pytest

from tests.tailnet import joining, reach, troubles
from tests.tailnet.world import World

CHECKS = [*reach.CHECKS, *joining.CHECKS, *troubles.CHECKS]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_in_a_real_tailnet(world: World, rows: list[tuple[str, str, float]], check: Callable[[World], str]) -> None:
    started = time.monotonic()
    saw = check(world)
    rows.append((check.__name__.replace("_", " "), saw, time.monotonic() - started))
