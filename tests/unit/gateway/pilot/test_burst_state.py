"""The pilot's decisions, by properties over random histories.

Each property is a function of the module, so that `test_broken_rule_is_seen` can run it against the pilot's source with
one rule taken out, and see it fail.
"""

import base64
import importlib
import importlib.util
import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import Phase as Step
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from components.gateway.pilot import environment, id_token
from components.gateway.pilot_container import PACKAGE

POLICY = {"wake": "pressure", "idle_s": 60.0, "deadline_s": 45.0, "retry_s": 30.0, "slow_s": 2.0, "recovered_s": 1.0}
EDGES = {
    ("cold", "warming"),
    *(("warming", to) for to in ("warm", "down", "cold")),
    *(("warm", to) for to in ("slow", "cold", "down")),
    *(("slow", to) for to in ("warm", "cold", "down")),
    ("down", "cold"),
}

Module = Any
"""The pilot, or a broken copy of it: no type but its names."""
Check = Callable[[Module], None]


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

    module: Module
    wake: str = "pressure"
    now: float = 1000.0
    open: Any = None
    steps: list[Seen] = field(default_factory=list[Seen])

    def __post_init__(self) -> None:
        self.policy = self.module.Policy(**(POLICY | {"wake": self.wake}))
        self.state = self.module.Burst(since=self.now, now=self.now)

    @property
    def phase(self) -> str:
        return self.state.phase.value

    def feed(self, event: Any, after: float = 0.0) -> None:
        self.now += after
        before = self.state
        self.state, actions = self.module.step(before, event, self.now, self.policy)
        if isinstance(event, self.module.Answer) and self.open and event.serial == self.open.serial:
            self.open = None
        for action in actions:
            if isinstance(action, self.module.Cancel):
                self.open = None
        for action in actions:
            if isinstance(action, self.module.Request):
                assert self.open is None, "two requests to burst at a time"
                self.open = action
        self.steps.append(Seen(before, event, self.state.now, self.state, actions))

    def load(self, in_flight: int = 0, wanted: bool = False, failures: int = 0, after: float = 0.25) -> None:
        self.feed(self.module.Load(in_flight, wanted, failures), after)

    def tick(self, after: float = 0.25) -> None:
        self.feed(self.module.Tick(), after)

    def answer(self, status: int, first_token_s: float | None = None, late: bool = False, after: float = 0.25) -> None:
        serial = self.open.serial if self.open else -1
        self.feed(self.module.Answer(serial, status, first_token_s, late, "" if status == 200 else "said no"), after)

    def warm(self) -> "History":
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
        raise AssertionError("burst is in use and never looked at")

    def requests(self, ask: str = "") -> list[Seen]:
        kind = self.module.Request
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


def replay(module: Module, drawn: Drawn) -> History:
    wake, start, moves = drawn
    history = History(module, wake=wake)
    if start != "cold" and wake != "never":
        history = history.warm() if start == "warm" else history.slow()
    for pause, (kind, *values) in moves:
        if kind == "load":
            history.load(*values, after=pause)
        elif kind == "answer":
            history.answer(*values, after=pause)
        elif kind == "stale":
            serial = (history.open.serial if history.open else history.state.serial + 1) - 1
            history.feed(module.Answer(serial, values[0]), pause)
        else:
            history.tick(pause)
    return history


def for_all(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], examples: int = 100) -> None:
    """`check` holds for everything drawn; the same draws every time, nothing written to disk."""

    @limits(
        max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Step.explicit, Step.generate]
    )
    @given(strategy)
    def run(drawn: Any) -> None:
        check(drawn)

    run()


# --- properties ------------------------------------------------------------------------------------------------------


def no_wake_without_demand(module: Module) -> None:
    def check(drawn: Any) -> None:
        history = replay(module, drawn)
        for wake in history.requests("wake"):
            asked_for = [
                s.now
                for s in history.steps
                if isinstance(s.event, module.Load) and s.event.wanted and s.now <= wake.now
            ]
            assert asked_for, "woken by nobody"
            assert wake.now - asked_for[-1] <= module.HOLD_S
            assert history.wake != "never"
            if wake.before.phase.value == "cold":
                assert asked_for[-1] >= wake.before.since, "woken by demand that is over"
        if history.wake == "never":
            assert history.phase == "cold"

    for_all(HISTORIES, check)


def one_request_at_a_time(module: Module) -> None:
    """`History.feed` counts."""
    for_all(HISTORIES, lambda drawn: replay(module, drawn) and None)


def idle_burst_is_left_alone(module: Module) -> None:
    """So that it can scale to zero: no request at all while it is cold or down, none while warm and out of use."""

    def check(drawn: Any) -> None:
        history = replay(module, drawn)
        for seen in history.requests():
            assert seen.after.phase.value in ("warming", "warm", "slow")
            if seen.after.phase.value == "warm":
                used = [
                    s.now
                    for s in history.steps
                    if isinstance(s.event, module.Load)
                    and (s.event.in_flight or s.event.failures)
                    and s.now <= seen.now
                ]
                # A failed request is looked into until burst answers.
                assert used
                assert seen.now - used[-1] <= module.FRESH_S or seen.after.doubt

    for_all(HISTORIES, check)
    history = History(module).warm()
    for _ in range(200):
        history.load()
    assert [s.after.phase.value for s in history.requests()] == ["warming"]


def requests_go_to_a_proven_burst_only(module: Module) -> None:
    def check(drawn: Any) -> None:
        for seen in replay(module, drawn).steps:
            old, new = seen.before.phase.value, seen.after.phase.value
            assert module.sends(seen.after) == (new == "warm")
            assert old == new or (old, new) in EDGES
            if (old, new) == ("warming", "warm"):
                assert isinstance(seen.event, module.Answer)
                assert seen.event.status == 200
                assert seen.event.serial == seen.before.serial
                assert seen.before.asking is not None
            if (old, new) == ("slow", "warm"):
                assert seen.after.samples == 0
                assert seen.after.first_token_s < POLICY["recovered_s"]

    for_all(HISTORIES, check)


def nothing_flaps_between_the_thresholds(module: Module) -> None:
    """Any latencies inside the band, ends included: warm stays warm, slow stays slow."""
    inside = st.lists(st.floats(1.0, 2.0), min_size=1, max_size=40)

    def check(latencies: list[float]) -> None:
        for history in (History(module).warm(), History(module).slow()):
            phase = history.phase
            for latency in latencies:
                history.in_use_until_asked()
                history.answer(200, latency)
                assert history.phase == phase

    for_all(inside, check, 60)


def wild_latencies_change_it_seldom(module: Module) -> None:
    """Outside the band, too, changes are bounded by time, whatever the series."""
    wild = st.lists(st.sampled_from([0.1, 9.0]), min_size=20, max_size=120)

    def follows(history: History, latency: Callable[[str], float], steps: int) -> None:
        start = history.now
        for _ in range(steps):
            history.in_use_until_asked()
            history.answer(200, latency(history.phase))
        most = 1 + (history.now - start) / (module.SLOW_AT_LEAST_S + 1)
        assert history.count("warm", "slow") <= most

    def check(latencies: list[float]) -> None:
        series = itertools.cycle(latencies)
        follows(History(module).warm(), lambda _: next(series), len(latencies))

    for_all(wild, check, 40)
    # The worst case knows the state.
    follows(History(module).warm(), lambda phase: 9.0 if phase == "warm" else 0.1, 120)


def every_state_is_reached_and_left(module: Module) -> None:
    reached: set[str] = set()

    def check(drawn: Any) -> None:
        history = replay(module, drawn)
        phase = history.phase
        reached.update(s.after.phase.value for s in history.steps)
        history.now = history.state.now
        if phase == "cold":
            history.load(wanted=True)
            assert history.phase == ("cold" if history.wake == "never" else "warming")
            return
        longest = max(POLICY[name] for name in ("idle_s", "deadline_s", "retry_s"))  # type: ignore[type-var]
        history.tick(after=float(longest) + 1)
        assert history.phase != phase, "nothing happens any more, and it stays"

    for_all(HISTORIES, check, 200)
    assert reached == {"cold", "warming", "warm", "slow", "down"}


def deadline_ends_warming(module: Module) -> None:
    def check(drawn: Any) -> None:
        for seen in replay(module, drawn).steps:
            if seen.after.phase.value == "warming":
                assert seen.after.now - seen.after.since < POLICY["deadline_s"]
            if (seen.before.phase.value, seen.after.phase.value) == ("warming", "down"):
                assert seen.after.asking is None

    for_all(HISTORIES, check)
    silent = History(module)
    silent.load(wanted=True)
    silent.tick(46)
    assert (silent.phase, silent.open, silent.state.asking) == ("down", None, None)
    history = History(module)
    while history.now < 1100:
        history.load(wanted=True)
        if history.open and history.now % 2 < 0.5:
            history.answer(429)
    assert history.count("warming", "down") >= 1
    assert "said no" in next(s.after.reason for s in history.steps if s.after.phase.value == "down")


def vanished_demand_strands_nothing(module: Module) -> None:
    history = History(module)
    history.load(wanted=True)
    history.answer(429)
    for _ in range(int((module.HOLD_S + 2) / 0.25)):
        history.load()
        if history.open:
            history.answer(429, after=0)
    assert history.phase == "cold"
    assert history.open is None


def idle_ends_warmth(module: Module) -> None:
    def check(drawn: Any) -> None:
        for seen in replay(module, drawn).steps:
            if seen.after.phase.value == "warm":
                assert seen.after.now - seen.after.used < POLICY["idle_s"] or seen.before.phase.value != "warm"

    for_all(HISTORIES, check)
    history = History(module).warm()
    used = history.now
    for _ in range(100):
        history.load(in_flight=1)
        used = history.now
    while history.phase == "warm":
        history.load()
        assert history.now < used + 61, "warm for ever"
    assert (history.phase, history.now - used >= 60) == ("cold", True)


def time_never_runs_backwards(module: Module) -> None:
    def check(drawn: Any) -> None:
        for seen in replay(module, drawn).steps:
            assert seen.after.now >= seen.before.now
            for name in ("since", "wanted", "busy", "used", "struck"):
                assert getattr(seen.after, name) <= seen.after.now

    for_all(HISTORIES, check)


def failures_end_warmth(module: Module) -> None:
    """Three at a time do, three in a day don't; a burst that fails again at once is left alone for a while."""
    rare = History(module).warm()
    for _ in range(20):
        rare.load(in_flight=1, failures=1)
        rare.answer(200)
        for _ in range(160):
            rare.load(in_flight=1)
            if rare.open:
                rare.answer(200, None, after=0)
    assert rare.phase == "warm"
    gone = History(module).warm()
    gone.in_use_until_asked()
    gone.answer(200)
    gone.load(in_flight=1, failures=1)
    assert gone.open
    assert gone.open.ask.value == "look", "a failure is looked into at once"
    gone.answer(0, late=True, after=1.5)
    assert gone.phase == "cold", "before Caddy sends it the next request"
    gone.load(wanted=True)
    gone.answer(200)
    gone.load(in_flight=1, failures=3)
    assert gone.phase == "down"
    assert not module.spares_vm(gone.state, gone.policy)
    gone.tick(31)
    assert gone.phase == "cold"
    assert not module.spares_vm(gone.state, gone.policy), "it has not been warm since"


def large_requests_spare_the_vm_while_burst_can_come(module: Module) -> None:
    for wake, spared in (("pressure", True), ("first-fallback", True), ("never", False)):
        history = History(module, wake=wake)
        assert module.spares_vm(history.state, history.policy) is spared
    history = History(module)
    history.load(wanted=True)
    assert module.spares_vm(history.state, history.policy)
    history.tick(46)
    assert history.phase == "down"
    assert not module.spares_vm(history.state, history.policy)
    history.load(wanted=True, after=31)
    history.load(wanted=True)
    assert (history.phase, module.spares_vm(history.state, history.policy)) == ("warming", False)
    history.answer(200)
    assert module.spares_vm(history.state, history.policy)
    assert not module.spares_vm(History(module).slow().state, history.policy)


def refused_token_is_renewed(module: Module) -> None:
    for status in (401, 403):
        history = History(module)
        history.load(wanted=True)
        history.answer(status)
        assert [type(a).__name__ for a in history.steps[-1].actions] == ["Renew"]
        history.load(wanted=True, after=1.1)
        assert history.open.ask.value == "wake"


def slow_burst_is_tried_only_in_demand(module: Module) -> None:
    history = History(module).slow()
    forgotten = history.now + module.HOLD_S
    for _ in range(80):
        history.load()
        if history.open:
            history.answer(200, 9.0, after=0)
    assert history.requests("try")[-1].now <= forgotten
    for _ in range(8):
        history.load(wanted=True, after=1)
        history.answer(0, 2.0, late=True)
    assert history.phase == "slow", "no answer is no recovery, and no proof that it is gone"
    for _ in range(3):
        history.load(wanted=True, after=1)
        history.answer(200, 0.2)
    assert history.phase == "warm"


def dead_tunnel_is_shut_once(module: Module) -> None:
    seen = st.lists(st.tuples(st.sampled_from(list(module.Seen)), st.integers(0, 2)), max_size=60)

    def check(drawn: list[tuple[Any, int]]) -> None:
        path, silent, shut = module.HomePath(), 0, False
        for kind, in_flight in drawn:
            path, now = module.path_step(path, kind, in_flight)
            silent = silent + 1 if kind is module.Seen.SILENT and in_flight else 0
            assert now == (silent >= 3 and not shut)
            shut = (shut or now) and kind is not module.Seen.ALIVE

    for_all(seen, check, 200)


PROPERTIES: list[Check] = [
    no_wake_without_demand,
    one_request_at_a_time,
    idle_burst_is_left_alone,
    requests_go_to_a_proven_burst_only,
    nothing_flaps_between_the_thresholds,
    wild_latencies_change_it_seldom,
    every_state_is_reached_and_left,
    deadline_ends_warming,
    vanished_demand_strands_nothing,
    idle_ends_warmth,
    time_never_runs_backwards,
    failures_end_warmth,
    large_requests_spare_the_vm_while_burst_can_come,
    refused_token_is_renewed,
    slow_burst_is_tried_only_in_demand,
    dead_tunnel_is_shut_once,
]

BROKEN: list[tuple[Check, str, str]] = [
    (no_wake_without_demand, "case Phase.COLD if wanted and state.wanted >= state.since:", "case Phase.COLD:"),
    (no_wake_without_demand, " and state.wanted >= state.since:", ":"),
    (no_wake_without_demand, "if not wanted and state.asking is None:", "if age < 0:"),
    (no_wake_without_demand, ' and policy.wake != "never"\n    idle', "\n    idle"),
    (one_request_at_a_time, "ask is not None and state.asking is None and", "ask is not None and"),
    (idle_burst_is_left_alone, "case Phase.WARM if busy or state.doubt:", "case Phase.WARM:"),
    (idle_burst_is_left_alone, "case _:\n            return None", "case _:\n            return Ask.LOOK"),
    (requests_go_to_a_proven_burst_only, "phase is Phase.WARM\n", "phase in (Phase.WARM, Phase.WARMING)\n"),
    (requests_go_to_a_proven_burst_only, "phase is Phase.WARM\n", "phase in (Phase.WARM, Phase.SLOW)\n"),
    (requests_go_to_a_proven_burst_only, " and event.serial == state.serial", ""),
    (requests_go_to_a_proven_burst_only, "200 <= event.status < 300", "event.status > 0"),
    (nothing_flaps_between_the_thresholds, "else seconds < policy.recovered_s", "else seconds < policy.slow_s"),
    (nothing_flaps_between_the_thresholds, "seconds > policy.slow_s if", "seconds > policy.recovered_s if"),
    (wild_latencies_change_it_seldom, " and age >= SLOW_AT_LEAST_S", ""),
    (every_state_is_reached_and_left, "case Phase.DOWN if age >= policy.retry_s:", "case Phase.DOWN if age < 0:"),
    (every_state_is_reached_and_left, "case Phase.SLOW if idle and", "case Phase.SLOW if age < 0 and"),
    (every_state_is_reached_and_left, "state.samples >= SLOW_SAMPLES", "state.samples >= 1000"),
    (deadline_ends_warming, "case Phase.WARMING if age >= policy.deadline_s:", "case Phase.WARMING if age < 0:"),
    (deadline_ends_warming, "state.asking is not None:\n        state = replace(state, asking=None)",
     "state.asking is not None:\n        state = replace(state)"),
    (vanished_demand_strands_nothing, "if not wanted and state.asking is None:", "if age < 0:"),
    (idle_ends_warmth, "case Phase.WARM if idle:", "case Phase.WARM if age < 0:"),
    (idle_ends_warmth, "busy=now, used=now)", "busy=now)"),
    (time_never_runs_backwards, "now=max(now, state.now)", "now=now"),
    (failures_end_warmth, "state.now - state.struck > STRIKE_MEMORY_S", "state.now < state.struck"),
    (failures_end_warmth, "return _struck(state, 2) if gone", "return _struck(state, 1) if gone"),
    (failures_end_warmth, "state = replace(state, ask_at=now)", "pass"),
    (failures_end_warmth, " and state.unproven:\n", " and state.doubt:\n"),
    (large_requests_spare_the_vm_while_burst_can_come, " and not state.unproven", ""),
    (refused_token_is_renewed, "in (401, 403):\n            actions", "in (401,):\n            actions"),
    (slow_burst_is_tried_only_in_demand, "case Phase.SLOW if busy or wanted:", "case Phase.SLOW:"),
    (slow_burst_is_tried_only_in_demand, "gone = not (asked is Ask.TRY and answer.late)", "gone = True"),
    (dead_tunnel_is_shut_once, " and not path.shut:", ":"),
    (dead_tunnel_is_shut_once, "if seen is Seen.REFUSED or in_flight == 0:", "if seen is Seen.REFUSED:"),
]  # fmt: skip


DECISIONS = ("state", "prometheus", "engine", "environment", "demand", "home", "burst")
"""Modules without clock or I/O, each after those that it imports."""


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


pilot = decisions("components.gateway.pilot")


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
def test_property(check: Check) -> None:
    check(pilot)


@pytest.mark.parametrize(("check", "rule", "instead"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_broken_rule_is_seen(check: Check, rule: str, instead: str) -> None:
    with pytest.raises(AssertionError):
        check(broken(rule, instead))


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wake", "running", "capacity", "waiting", "wanted"),
    [
        ("first-fallback", 0, 4, 0, False),
        ("first-fallback", 1, 4, 0, True),
        ("first-fallback", 0, 4, 1, True),
        ("pressure", 3, 4, 0, False),
        ("pressure", 4, 4, 0, True),
        ("pressure", 0, 4, 1, True),
        ("pressure", 0, 0, 0, False),
        ("first-fallback", 0, 0, 0, False),
        ("pressure", 0, 0, 1, True),
        ("never", 9, 4, 9, False),
    ],
)
def test_demand(wake: str, running: int, capacity: int, waiting: int, wanted: bool) -> None:
    policy = pilot.Policy(**(POLICY | {"wake": wake}))  # type: ignore[arg-type]
    assert pilot.demand(policy, running, capacity, waiting) is wanted


def text(first_tokens: float, seconds: float, running: int = 0, waiting: int = 0, tokens: float | None = None) -> str:
    label = '{engine="0",model_name="org/model"}'
    lines = [
        "# TYPE vllm:time_to_first_token_seconds histogram",
        f'vllm:time_to_first_token_seconds_bucket{{le="0.1",model_name="org/model"}} {first_tokens}',
        f"vllm:time_to_first_token_seconds_count{label} {first_tokens}",
        f"vllm:time_to_first_token_seconds_sum{label} {seconds}",
        f"vllm:num_requests_running{label} {running}",
        f"vllm:num_requests_waiting{label} {waiting}",
        "process_start_time_seconds 1.7e9",
    ]
    return "\n".join(lines + ([f"vllm:generation_tokens_total{label} {tokens}"] if tokens is not None else []))


@pytest.mark.parametrize(
    ("reads", "seconds"),
    [
        ([text(4, 2.0)], None),
        ([text(4, 2.0), text(4, 2.0)], None),
        ([text(4, 2.0), text(8, 14.0)], 3.0),
        # Restarted: its counters begin again.
        ([text(4, 2.0), text(1, 0.1)], None),
        # Queued, and none begins; running, and no token comes.
        ([text(4, 2.0, 8, 1), text(4, 2.0, 8, 1), text(4, 2.0, 8, 3)], 2.0),
        ([text(4, 2.0, 1, 0, 50), text(4, 2.0, 1, 0, 50), text(4, 2.0, 1, 0, 50)], 2.0),
        # One long answer is no trouble, nor is an engine that does not count tokens.
        ([text(4, 2.0, 1, 0, 50), text(4, 2.0, 1, 0, 80)], None),
        ([text(4, 2.0, 1), text(4, 2.0, 1)], None),
        ([text(4, 2.0, 8, 1), text(4, 2.0, 8, 1), text(5, 7.0, 8, 0)], 5.0),
        (["", ""], None),
    ],
)
def test_first_token(reads: list[str], seconds: float | None) -> None:
    before, found = None, None
    for index, read in enumerate(reads):
        before, found = pilot.first_token(before, pilot.engine(read, 100.0 + index))
    assert found == seconds
    assert before is not None
    assert before.model == ("org/model" if reads[-1] else "")


def jwt(payload: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip('=')}.sig"


@pytest.mark.parametrize(
    ("token", "end"),
    [
        (jwt({"exp": 5000}), 5000),
        (jwt({"exp": 5000, "a": "bc"}), 5000),
        ("opaque", 1000 + 1800 + 300),
        (jwt({}), 1000 + 1800 + 300),
        (jwt([]), 1000 + 1800 + 300),
        ("a.b.c", 1000 + 1800 + 300),
    ],
)
def test_expiry(token: str, end: float) -> None:
    assert id_token.expiry(token, 1000) == end


ENV = {
    "PILOT_LISTEN": "127.0.0.1:9182",
    "PILOT_FOLDER": "/",
    "BURST_URL": "https://burst-abc.a.run.app",
    "HOME_ADDRESS": "home:80",
    "SOCKS5": "127.0.0.1:1055",
    "HOME_DIAL": "home:80",
    "BURST_DIAL": "127.0.0.1:9181",
    "VM_DIAL": "10.0.0.2:9931",
    "HOME_CAPACITY": "8",
    "VM_CAPACITY": "4",
    "PILOT_WAKE": "pressure",
    "PILOT_IDLE_S": "600",
    "PILOT_WAKE_DEADLINE_S": "120",
    "PILOT_RETRY_S": "60",
    "PILOT_SLOW_S": "2.5",
    "PILOT_RECOVERED_S": "1",
    "TAILSCALED_SOCKET": "/run/pilotlight/tailscaled.sock",
}


def test_settings() -> None:
    found = environment.settings(ENV)
    assert found.listen == ("127.0.0.1", 9182)
    assert found.metadata == ("metadata.google.internal", 80)
    assert found.checks == ("127.0.0.1", 9180)
    assert found.dials == {"home": "home:80", "burst": "127.0.0.1:9181", "vm": "10.0.0.2:9931"}
    assert environment.settings(ENV | {"HOME_ADDRESS": "", "HOME_DIAL": ""}).home is None
    assert environment.settings(ENV | {"GCE_METADATA_HOST": "127.0.0.1:81"}).metadata == ("127.0.0.1", 81)


@pytest.mark.parametrize("name", sorted(ENV))
def test_missing_setting_is_named(name: str) -> None:
    with pytest.raises(environment.SettingsError, match=f"^{name} is not set; it must be [^;]+$"):
        environment.settings({key: value for key, value in ENV.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PILOT_LISTEN", "9182"),
        ("PILOT_LISTEN", "127.0.0.1:x"),
        ("PILOT_FOLDER", "/nowhere/at/all"),
        ("BURST_URL", "burst-abc.a.run.app"),
        ("BURST_URL", "https://burst-abc.a.run.app/v1"),
        ("BURST_DIAL", ""),
        ("VM_CAPACITY", "-1"),
        ("PILOT_WAKE", "always"),
        ("PILOT_IDLE_S", "0"),
        ("PILOT_IDLE_S", "nan"),
        ("PILOT_SLOW_S", "2s"),
        ("PILOT_RECOVERED_S", "3"),
    ],
)
def test_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(environment.SettingsError, match=f"^{name} is "):
        environment.settings(ENV | {name: value})


def test_a_slow_upload_wakes_nothing_while_home_has_a_free_slot() -> None:
    policy = environment.settings(ENV).policy
    assert not pilot.demand(policy, 0, 4, 1, home_free=True)
    assert pilot.demand(policy, 0, 4, 1, home_free=False)
    assert pilot.demand(policy, 4, 4, 0, home_free=True)
