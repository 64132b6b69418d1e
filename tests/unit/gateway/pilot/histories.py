"""Histories of a lane, drawn and played: what the properties of the pilot's decisions run over.

Owns: the machine's driver, what may happen to it, the decisions with one rule changed, and how properties
are tested. Does not own: any property.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.gateway.pilot_container import PACKAGE

POLICY = {"wake": "pressure", "idle_s": 60.0, "deadline_s": 45.0, "retry_s": 30.0, "slow_s": 2.0, "recovered_s": 1.0}

AWAKE = {
    "home": {"sleeps": False},
    "vm": {"sleeps": False, "slow_s": float("inf"), "recovered_s": 30.0, "stuck_s": 30.0, "slots": 2},
    "unwatched": {"sleeps": False, "watched": False},
}
"""Policies of lanes that don't sleep; the VM's as on a slow machine."""
DECISIONS = ("state", "prometheus", "engine", "prompts", "expect", "environment", "lane", "demand", "home")
"""Modules without clock or I/O, each after those that it imports."""
Rules = Any
"""The names of all of them, as they are or with one rule changed: no type but its names."""
Check = Callable[[Rules], None]


@dataclass
class Seen:
    """One step of a history."""

    before: Any
    event: Any
    now: float
    after: Any
    actions: tuple[Any, ...]


@dataclass
class History:
    """Drives the machine and keeps what it asked for."""

    rules: Rules
    wake: str = "pressure"
    lane: str = "burst"
    now: float = 1000.0
    open: Any = None
    steps: list[Seen] = field(default_factory=list[Seen])

    def __post_init__(self) -> None:
        self.policy = self.rules.Policy(**(POLICY | {"wake": self.wake} | AWAKE.get(self.lane, {})))
        phase = self.rules.Phase.COLD if self.policy.sleeps else self.rules.Phase.DOWN
        self.state = self.rules.Lane(phase, since=self.now, now=self.now)

    @property
    def phase(self) -> str:
        return self.state.phase.value

    def feed(self, event: Any, after: float = 0.0) -> None:
        self.now += after
        before = self.state
        self.state, actions = self.rules.step(before, event, self.now, self.policy)
        if isinstance(event, self.rules.Answer) and self.open and event.serial == self.open.serial:
            self.open = None
        for action in actions:
            if isinstance(action, self.rules.Cancel):
                self.open = None
        for action in actions:
            if isinstance(action, self.rules.Request):
                assert self.open is None, "two requests to a lane at a time"
                self.open = action
        self.steps.append(Seen(before, event, self.state.now, self.state, actions))

    def load(
        self, in_flight: int = 0, wanted: bool = False, failures: int = 0, errors: int = 0, after: float = 0.25
    ) -> None:
        self.feed(self.rules.Load(in_flight, wanted, failures, errors), after)

    def check(self, error: str = "", after: float = 0.0) -> None:
        self.feed(self.rules.Check(error), after)

    def tick(self, after: float = 0.25) -> None:
        self.feed(self.rules.Tick(), after)

    def answer(
        self,
        status: int,
        first_token_s: float | None = None,
        late: bool = False,
        moved: bool | None = True,
        errors: int = 0,
        after: float = 0.25,
    ) -> None:
        serial = self.open.serial if self.open else -1
        error = "" if status == 200 else "said no"
        self.feed(self.rules.Answer(serial, status, first_token_s, late, error, moved, errors), after)

    def warm(self) -> "History":
        if not self.policy.sleeps:
            self.check()
            return self
        self.load(wanted=True)
        self.answer(200)
        assert self.phase == "warm"
        return self

    def slow(self) -> "History":
        self.warm()
        for _ in range(2):
            self.in_use_until_asked()
            self.answer(200, 9.0)
        assert self.phase == "slow"
        return self

    def in_use_until_asked(self) -> None:
        for _ in range(60):
            if self.open is not None:
                return
            self.load(in_flight=1)
        raise AssertionError("the lane is in use and never looked at")

    def requests(self, ask: str = "") -> list[Seen]:
        kind = self.rules.Request
        return [s for s in self.steps for a in s.actions if isinstance(a, kind) and ask in ("", a.ask.value)]

    def count(self, old: str, new: str) -> int:
        return sum((s.before.phase.value, s.after.phase.value) == (old, new) for s in self.steps)


LOADS = [("load", 0, True, 0)] * 6 + [("load", 0, False, 0), ("load", 1, False, 0), ("load", 2, True, 0)] * 2
REFUSALS = [("answer", status, None, False) for status in (401, 403, 429, 500, 503, 404, 0)]
ANSWERS = [("answer", 200, seconds, False) for seconds in (None, None, 0.1, 0.9, 1.5, 2.5, 9.0)]
OTHERS = [
    ("load", 1, True, 1),
    ("load", 0, False, 3),
    ("answer", 0, 2.0, True),
    ("stale", 200),
    ("stale", 503),
    ("tick",),
]
MOVES: st.SearchStrategy[tuple[Any, ...]] = st.sampled_from([*LOADS, *REFUSALS, *ANSWERS, *OTHERS])
# Mostly small steps, now and then a leap past every limit, now and then a clock that runs backwards.
PAUSES = st.sampled_from([0.0, 0.1, 0.25, 0.25, 0.25, 0.6, 1.0, 1.0, 1.5, 3.0, 9.9, 30.0, 70.0, -0.5, -20.0])
WAKES = st.sampled_from(["pressure", "first-fallback", "pressure", "never"])
STARTS = st.sampled_from(["cold", "warm", "slow"])
"""Few random histories would get as far as `slow` by themselves."""
HISTORIES = st.tuples(WAKES, STARTS, st.lists(st.tuples(PAUSES, MOVES), min_size=20, max_size=60))
Drawn = tuple[str, str, list[tuple[float, tuple[Any, ...]]]]


def replay(rules: Rules, drawn: Drawn) -> History:
    wake, start, moves = drawn
    history = History(rules, wake=wake)
    if start != "cold" and wake != "never":
        history = history.warm() if start == "warm" else history.slow()
    for pause, (kind, *values) in moves:
        if kind == "load":
            history.load(*values, after=pause)
        elif kind == "answer":
            history.answer(*values, after=pause)
        elif kind == "stale":
            serial = (history.open.serial if history.open else history.state.serial + 1) - 1
            history.feed(rules.Answer(serial, values[0]), pause)
        else:
            history.tick(pause)
    return history


def for_all(strategy: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """`check` holds for everything drawn; the profile says how much that is (`tests/conftest.py`)."""
    for one in drawn(strategy):
        try:
            check(one)
        except AssertionError as error:
            error.add_note(f"drawn: {one}")
            raise


@cache
def drawn(strategy: st.SearchStrategy[Any]) -> list[Any]:
    """Drawn once for all checks: the draws are the same every time, and cost more than playing them."""
    found: list[Any] = []

    @given(strategy)
    def draw(one: Any) -> None:
        found.append(one)

    draw()
    return found


def broken(rule: str, instead: str) -> SimpleNamespace:
    """The pilot's decisions with one rule changed."""
    texts = {name: (PACKAGE / f"{name}.py").read_text() for name in DECISIONS}
    places = [name for name, text in texts.items() for _ in range(text.count(rule))]
    if len(places) != 1:
        # No AssertionError: that is how a broken rule is seen.
        raise LookupError(f"{rule!r} is to be found once among the decisions, and is in {places}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "broken_pilot"]:
        del sys.modules[name]
    package = ModuleType("broken_pilot")
    package.__path__ = [str(PACKAGE)]
    sys.modules["broken_pilot"] = package
    for name in DECISIONS:
        spec = importlib.util.spec_from_file_location(f"broken_pilot.{name}", PACKAGE / f"{name}.py")
        assert spec
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        text = texts[name].replace(rule, instead) if name in places else texts[name]
        exec(compile(text, str(spec.origin), "exec"), module.__dict__)
    return decisions("broken_pilot")


def decisions(package: str) -> SimpleNamespace:
    """The names of all modules that decide."""
    modules = [importlib.import_module(f"{package}.{name}") for name in DECISIONS]
    return SimpleNamespace(**{name: value for module in modules for name, value in vars(module).items()})


RULES: Rules = decisions("components.gateway.pilot")
"""The pilot's own."""


def proven(
    properties: Sequence[Check], changes: Sequence[tuple[Check, str, str]]
) -> tuple[Callable[[Check], None], Callable[[Check, str, str], None]]:
    """A module's two tests: its properties hold, and each change of a rule breaks the one beside it."""

    @pytest.mark.parametrize("check", properties, ids=lambda check: check.__name__)
    def holds(check: Check) -> None:
        check(RULES)

    @pytest.mark.slow
    @pytest.mark.parametrize(("check", "rule", "instead"), changes, ids=lambda value: getattr(value, "__name__", None))
    def is_seen(check: Check, rule: str, instead: str) -> None:
        with pytest.raises(AssertionError):
            check(broken(rule, instead))

    return holds, is_seen
