"""Burst's state machine, by properties over random histories; the lanes' that don't sleep: `test_lanes_awake`.

Each property is a function of the pilot's decisions, so that `test_broken_rule_is_seen` can run it against them with
one rule taken out, and see it fail.
"""

import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.unit.gateway.pilot.histories import HISTORIES, POLICY, Check, History, Rules, for_all, proven, replay

EDGES = {
    ("cold", "warming"),
    *(("warming", to) for to in ("warm", "down", "cold")),
    *(("warm", to) for to in ("slow", "cold", "down")),
    *(("slow", to) for to in ("warm", "cold", "down")),
    ("down", "cold"),
}


def no_wake_without_demand(rules: Rules) -> None:
    def check(drawn: Any) -> None:
        history = replay(rules, drawn)
        for wake in history.requests("wake"):
            asked_for = [
                s.now for s in history.steps if isinstance(s.event, rules.Load) and s.event.wanted and s.now <= wake.now
            ]
            assert asked_for, "woken by nobody"
            assert wake.now - asked_for[-1] <= rules.HOLD_S
            assert history.wake != "never"
            if wake.before.phase.value == "cold":
                assert asked_for[-1] >= wake.before.since, "woken by demand that is over"
        if history.wake == "never":
            assert history.phase == "cold"

    for_all(HISTORIES, check)
    served = History(rules).warm()
    served.load(in_flight=1, wanted=True)
    served.load(failures=3)
    for _ in range(8):
        served.load()
    assert served.phase == "cold", "woken by demand that is over"


def one_request_at_a_time(rules: Rules) -> None:
    """`History.feed` counts."""
    for_all(HISTORIES, lambda drawn: replay(rules, drawn) and None)


def idle_burst_is_left_alone(rules: Rules) -> None:
    """So that it can scale to zero: no request at all while it is cold or down, none while warm and out of use."""

    def check(drawn: Any) -> None:
        history = replay(rules, drawn)
        for seen in history.requests():
            assert seen.after.phase.value in ("warming", "warm", "slow")
            if seen.after.phase.value == "warm":
                used = [
                    s.now
                    for s in history.steps
                    if isinstance(s.event, rules.Load) and (s.event.in_flight or s.event.failures) and s.now <= seen.now
                ]
                # A failed request is looked into until burst answers, and so is silence.
                assert used
                looked_into = seen.after.doubt or seen.after.suspicion or seen.after.unanswered
                assert seen.now - used[-1] <= rules.FRESH_S or looked_into

    for_all(HISTORIES, check)
    history = History(rules).warm()
    for _ in range(200):
        history.load()
    assert [s.after.phase.value for s in history.requests()] == ["warming"]


def requests_go_to_a_proven_burst_only(rules: Rules) -> None:
    def check(drawn: Any) -> None:
        for seen in replay(rules, drawn).steps:
            old, new = seen.before.phase.value, seen.after.phase.value
            assert rules.sends(seen.after) == (new == "warm")
            assert old == new or (old, new) in EDGES
            if (old, new) == ("warming", "warm"):
                assert isinstance(seen.event, rules.Answer)
                assert seen.event.status == 200
                assert seen.event.serial == seen.before.serial
                assert seen.before.asking is not None
            if (old, new) == ("slow", "warm"):
                assert seen.after.samples == 0
                assert seen.after.first_token_s < POLICY["recovered_s"]

    for_all(HISTORIES, check)


def nothing_flaps_between_the_thresholds(rules: Rules) -> None:
    """Any latencies inside the band, ends included: warm stays warm, slow stays slow."""
    inside = st.lists(st.floats(1.0, 2.0), min_size=1, max_size=40)

    def check(latencies: list[float]) -> None:
        for history in (History(rules).warm(), History(rules).slow()):
            phase = history.phase
            for latency in latencies:
                history.in_use_until_asked()
                history.answer(200, latency)
                assert history.phase == phase

    for_all(inside, check)


def wild_latencies_change_it_seldom(rules: Rules) -> None:
    """Outside the band, too, changes are bounded by time, whatever the series."""
    wild = st.lists(st.sampled_from([0.1, 9.0]), min_size=20, max_size=120)

    def follows(history: History, latency: Callable[[str], float], steps: int) -> None:
        start = history.now
        for _ in range(steps):
            history.in_use_until_asked()
            history.answer(200, latency(history.phase))
        most = 1 + (history.now - start) / (rules.SLOW_AT_LEAST_S + 1)
        assert history.count("warm", "slow") <= most

    def check(latencies: list[float]) -> None:
        series = itertools.cycle(latencies)
        follows(History(rules).warm(), lambda _: next(series), len(latencies))

    for_all(wild, check)
    # The worst case knows the state.
    follows(History(rules).warm(), lambda phase: 9.0 if phase == "warm" else 0.1, 120)


def every_state_is_reached_and_left(rules: Rules) -> None:
    reached: set[str] = set()

    def check(drawn: Any) -> None:
        history = replay(rules, drawn)
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

    for_all(HISTORIES, check)
    assert reached == {"cold", "warming", "warm", "slow", "down"}


def deadline_ends_warming(rules: Rules) -> None:
    def check(drawn: Any) -> None:
        for seen in replay(rules, drawn).steps:
            if seen.after.phase.value == "warming":
                assert seen.after.now - seen.after.since < POLICY["deadline_s"]
            if (seen.before.phase.value, seen.after.phase.value) == ("warming", "down"):
                assert seen.after.asking is None

    for_all(HISTORIES, check)
    silent = History(rules)
    silent.load(wanted=True)
    silent.tick(46)
    assert (silent.phase, silent.open, silent.state.asking) == ("down", None, None)
    history = History(rules)
    while history.now < 1100:
        history.load(wanted=True)
        if history.open and history.now % 2 < 0.5:
            history.answer(429)
    assert history.count("warming", "down") >= 1
    assert "said no" in next(s.after.reason for s in history.steps if s.after.phase.value == "down")


def vanished_demand_strands_nothing(rules: Rules) -> None:
    history = History(rules)
    history.load(wanted=True)
    history.answer(429)
    for _ in range(int((rules.HOLD_S + 2) / 0.25)):
        history.load()
        if history.open:
            history.answer(429, after=0)
    assert history.phase == "cold"
    assert history.open is None


def idle_ends_warmth(rules: Rules) -> None:
    def check(drawn: Any) -> None:
        for seen in replay(rules, drawn).steps:
            if seen.after.phase.value == "warm":
                assert seen.after.now - seen.after.used < POLICY["idle_s"] or seen.before.phase.value != "warm"

    for_all(HISTORIES, check)
    history = History(rules).warm()
    used = history.now
    for _ in range(100):
        history.load(in_flight=1)
        used = history.now
    while history.phase == "warm":
        history.load()
        assert history.now < used + 61, "warm for ever"
    assert (history.phase, history.now - used >= 60) == ("cold", True)


def time_never_runs_backwards(rules: Rules) -> None:
    def check(drawn: Any) -> None:
        for seen in replay(rules, drawn).steps:
            assert seen.after.now >= seen.before.now
            for name in ("since", "wanted", "busy", "used", "struck"):
                assert getattr(seen.after, name) <= seen.after.now

    for_all(HISTORIES, check)


def failures_end_warmth(rules: Rules) -> None:
    """Three at a time do, three in a day don't; a burst that fails again at once is left alone for a while."""
    rare = History(rules).warm()
    for _ in range(20):
        rare.load(in_flight=1, failures=1)
        rare.answer(200)
        for _ in range(160):
            rare.load(in_flight=1)
            if rare.open:
                rare.answer(200, None, after=0)
    assert rare.phase == "warm"
    gone = History(rules).warm()
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
    gone.tick(31)
    assert (gone.phase, gone.state.unproven) == ("cold", True), "it has not been warm since"


def only_true_cold_starts_are_learned(rules: Rules) -> None:
    history = History(rules)
    for seconds in (30, 40, 25, 4, 26, 27, 28):
        history.load(wanted=True)
        history.answer(200, after=seconds)
        assert history.phase == "warm"
        for _ in range(61):
            history.load(after=1)
        assert history.phase == "cold"
    assert history.state.starts == (40, 25, 26, 27, 28), "the latest five, and none that found an instance"


def refused_token_is_renewed(rules: Rules) -> None:
    for status in (401, 403):
        history = History(rules)
        history.load(wanted=True)
        history.answer(status)
        assert [type(a).__name__ for a in history.steps[-1].actions] == ["Renew"]
        history.load(wanted=True, after=1.1)
        assert history.open.ask.value == "wake"


def slow_burst_is_tried_only_in_demand(rules: Rules) -> None:
    history = History(rules).slow()
    forgotten = history.now + rules.HOLD_S
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
    only_true_cold_starts_are_learned,
    refused_token_is_renewed,
    slow_burst_is_tried_only_in_demand,
]

BROKEN: list[tuple[Check, str, str]] = [
    (no_wake_without_demand, "case Phase.COLD if wanted and state.wanted >= state.since:", "case Phase.COLD:"),
    (no_wake_without_demand, " and state.wanted >= state.since:", ":"),
    (no_wake_without_demand, "if not wanted and state.asking is None:", "if age < 0:"),
    (no_wake_without_demand, ' and policy.wake != "never"\n    idle', "\n    idle"),
    (one_request_at_a_time, "ask is not None and state.asking is None and", "ask is not None and"),
    (idle_burst_is_left_alone, "case Phase.WARM if policy.watched and (busy or state.doubt):", "case Phase.WARM:"),
    (idle_burst_is_left_alone, "case _:\n            return None", "case _:\n            return Ask.LOOK"),
    (requests_go_to_a_proven_burst_only, "phase is Phase.WARM\n", "phase in (Phase.WARM, Phase.WARMING)\n"),
    (requests_go_to_a_proven_burst_only, "phase is Phase.WARM\n", "phase in (Phase.WARM, Phase.SLOW)\n"),
    (requests_go_to_a_proven_burst_only, " and event.serial == state.serial", ""),
    (requests_go_to_a_proven_burst_only, "200 <= event.status < 300", "event.status > 0"),
    (nothing_flaps_between_the_thresholds, "else seconds < policy.recovered_s", "else seconds < policy.slow_s"),
    (nothing_flaps_between_the_thresholds, "seconds > policy.slow_s if", "seconds > policy.recovered_s if"),
    (wild_latencies_change_it_seldom, " and age >= SLOW_AT_LEAST_S", ""),
    (every_state_is_reached_and_left, "Phase.DOWN if policy.sleeps and age >=", "Phase.DOWN if policy.sleeps and 0 >"),
    (every_state_is_reached_and_left, "case Phase.SLOW if idle and", "case Phase.SLOW if age < 0 and"),
    (every_state_is_reached_and_left, "state.samples >= SLOW_SAMPLES", "state.samples >= 1000"),
    (deadline_ends_warming, "case Phase.WARMING if age >= policy.deadline_s:", "case Phase.WARMING if age < 0:"),
    (deadline_ends_warming, "state.asking is not None:\n        state = replace(state, asking=None)",
     "state.asking is not None:\n        state = replace(state)"),
    (vanished_demand_strands_nothing, "if not wanted and state.asking is None:", "if age < 0:"),
    (idle_ends_warmth, "case Phase.WARM if idle:", "case Phase.WARM if age < 0:"),
    (idle_ends_warmth, "busy=now, used=now, silent_s=silent)", "busy=now, silent_s=silent)"),
    (time_never_runs_backwards, "now=max(now, state.now)", "now=now"),
    (failures_end_warmth, "state.now - state.struck > STRIKE_MEMORY_S", "state.now < state.struck"),
    (failures_end_warmth, "return _struck(state, 2) if policy.sleeps", "return _struck(state, 1) if policy.sleeps"),
    (failures_end_warmth, "state = replace(state, ask_at=now)", "pass"),
    (failures_end_warmth, " and state.unproven:\n", " and state.doubt:\n"),
    (only_true_cold_starts_are_learned, " if age >= COLD_START_S else state.starts", ""),
    (only_true_cold_starts_are_learned, "(*state.starts, age)[-STARTS:]", "(*state.starts, age)"),
    (refused_token_is_renewed, "in (401, 403):\n            actions", "in (401,):\n            actions"),
    (slow_burst_is_tried_only_in_demand, "(busy or wanted or not policy.sleeps) and", "(busy or True) and"),
    (slow_burst_is_tried_only_in_demand, "if answer.late or (answer", "if (answer"),
]  # fmt: skip


test_rule_holds, test_broken_rule_is_seen = proven(PROPERTIES, BROKEN)
