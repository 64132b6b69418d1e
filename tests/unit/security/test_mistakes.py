"""The stack breaks no rule of exposure, and each planted mistake is caught by its rule, which names the place."""

from collections.abc import Callable
from typing import Any

import pytest

from lab.read.stack import Stack
from tests.golden import mistakes_table
from tests.unit.security import rules
from tests.unit.security.mistakes import MISTAKES, Mistake, stack

Render = Callable[..., Stack]
STACKS: list[dict[str, Any]] = [
    {},
    {"lanes": ["vm"]},
    {"lanes": ["vm"], "vm": {"spot": False}},
    {"lanes": ["home", "burst", "vm"], "tailnet": {"join": "federated"}},
    {"lanes": ["burst", "vm"], "gateway": {"console": False}},
    {"clients": [{"name": "a", "max_requests": 2}, {"name": "b", "lanes": ["vm"], "priority": "high"}]},
]


@pytest.fixture(scope="module")
def whole() -> Stack:
    return stack()


def test_the_whole_stack_breaks_no_rule(whole: Stack) -> None:
    assert rules.broken(whole) == {}


@pytest.mark.parametrize("changes", STACKS, ids=str)
def test_no_choice_of_settings_breaks_one(stack_of: Render, changes: dict[str, Any]) -> None:
    assert rules.broken(stack_of(**changes)) == {}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_a_planted_mistake_is_caught(whole: Stack, mistake: Mistake) -> None:
    said = rules.broken(mistake.plant(whole), mistake.caught_by)
    assert mistake.named in said.get(mistake.caught_by, "not caught")


def test_every_rule_of_exposure_has_a_mistake_that_it_alone_must_see() -> None:
    names = {rule.__name__.removeprefix("check_") for rule in rules.RULES if rule not in rules.test_grants.CHECKS}
    assert names <= {mistake.caught_by for mistake in MISTAKES}
    assert len({mistake.what for mistake in MISTAKES}) == len(MISTAKES) >= 40


def test_the_page_lists_them() -> None:
    assert mistakes_table.table() in mistakes_table.PAGE.read_text(), "make golden"
