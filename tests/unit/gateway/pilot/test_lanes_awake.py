"""Home's and the VM's state machine: left for what they produce, taken back by proof, and marked by nobody's request.

Each property is a function of the pilot's decisions, so that `test_broken_rule_is_seen` can run it against them with
one rule taken out, and see it fail.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.unit.gateway.pilot.histories import AWAKE, Check, History, Rules, for_all, proven

LOOK_S = 0.25
"""Between two looks of the pilot at Caddy."""
LEFT_S = 8.0
"""A mute lane with a card gets no request after this time, whoever its callers are and however they come and go: half
of the 3 s, a look that was just asked, the 3 s of a token, and a look that isn't answered."""
FREED_S = LEFT_S + 8.0
"""What hangs there is given up after this time: when one more token, asked for a second later, is late as well."""
GAPS_S = 4.0
"""What callers who come and go may add to both."""
TOKEN, LATE, ERROR = (200, 0.1, False), (0, None, True), (500, 0.1, False)
"""How a token that is asked for comes: status, seconds, whether not in time."""


@dataclass
class Engine:
    """What an engine does when it is asked."""

    moved: bool = True
    errors: int = 0
    token: tuple[int, float | None, bool] = TOKEN
    metrics: bool = True
    """Whether they are answered at all."""


def live(history: History, requests: Sequence[int], engine: Engine) -> list[str]:
    """A step of time for each count of `requests` that Caddy shows: looks, checks and answers; phases after each."""
    phases: list[str] = []
    open_, asked = history.open, history.now
    for step, count in enumerate(requests):
        history.load(in_flight=count, after=LOOK_S)
        if step % 2 and not history.policy.sleeps:
            history.check()
        if history.open is not open_:
            open_, asked = history.open, history.now
        elif open_:
            answer(history, engine, history.now - asked >= open_.timeout_s)
        phases.append(history.phase)
    return phases


def answer(history: History, engine: Engine, over: bool) -> None:
    """If it is due. Metrics and tokens come by the next look, or never."""
    if history.open.ask.value == "look" and engine.metrics:
        history.answer(200, None, moved=engine.moved, errors=engine.errors, after=0)
    elif history.open.ask.value == "try" and not engine.token[2]:
        history.answer(*engine.token, after=0)
    elif over:
        history.answer(0, history.open.timeout_s, late=True, after=0)


CALLERS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)), min_size=12, max_size=20)
"""For so many looks there are so many requests on the lane."""


def counts(callers: list[tuple[int, int]]) -> list[int]:
    return [count for looks, count in callers for _ in range(looks)]


def mute_lane_is_left_in_time(rules: Rules) -> None:
    """While others wait there, or come and go; whether its metrics stand still or don't answer."""

    def check(drawn: list[tuple[int, int]]) -> None:
        for metrics in (True, False):
            history = History(rules, lane="home").warm()
            requests = counts(drawn)
            phases = live(history, requests, Engine(moved=False, token=LATE, metrics=metrics))
            # Silence is time with requests: what was asked while nobody was there is asked again.
            silence_s = LOOK_S * sum(bool(before and now) for before, now in itertools.pairwise(requests))
            if silence_s > LEFT_S + GAPS_S:
                assert phases[-1] == "slow"
                assert history.state.sick
                assert history.state.hangs or silence_s <= FREED_S + GAPS_S
                asked = [s for s in history.requests("try") if s.after.phase.value == "warm"]
                assert asked, "left without being asked for a token"

    for_all(CALLERS, check)
    for lane, metrics in (("home", True), ("home", False), ("burst", True)):
        history = History(rules, lane=lane).warm()
        phases = live(history, [1] * 100, Engine(moved=False, token=LATE, metrics=metrics))
        assert phases.index("slow") * LOOK_S <= LEFT_S
        assert set(phases[phases.index("slow") :]) == {"slow"}
        assert not rules.sends(history.state)
        assert history.state.hangs
        history = History(rules, lane=lane).warm()
        live(history, [1] * (phases.index("slow") + 1), Engine(moved=False, token=LATE, metrics=metrics))
        assert (history.phase, history.state.hangs) == ("slow", False), "one late token breaks no answer"


def one_caller_marks_nobody(rules: Rules) -> None:
    """Poisonous requests, uploads that look like silence, floods of both: a lane that gives its token is never left."""
    engines = st.builds(Engine, moved=st.booleans(), errors=st.integers(0, 9), metrics=st.booleans())
    eras = st.lists(st.tuples(CALLERS, engines), min_size=1, max_size=3)

    def check(drawn: list[tuple[list[tuple[int, int]], Engine]]) -> None:
        for lane in ("home", "vm"):
            history = History(rules, lane=lane).warm()
            for callers, engine in drawn:
                requests = [min(count, 1) for count in counts(callers)]
                assert set(live(history, requests, engine)) == {"warm"}

    for_all(eras, check)
    vm = History(rules, lane="vm").warm()
    for _ in range(50):
        vm.load(in_flight=1, errors=1)
        if vm.open and vm.open.ask.value == "try":
            vm.answer(200, 0.3)
    assert vm.requests("try"), "answers of 500 are a reason to ask"
    assert vm.phase == "warm"


def a_lane_comes_back_by_tokens_only(rules: Rules) -> None:
    """Three in a row, in time, and not at once; not by its check, nor by going down and up."""
    events = st.sampled_from(["ok", "ok", "fails", "fails", "token", "token", "token", "late", "error", "busy", "idle"])
    moves = st.lists(st.tuples(st.sampled_from([0.25, 0.25, 1.0, 1.2, 3.0]), events), min_size=20, max_size=80)

    def check(drawn: list[tuple[float, str]]) -> None:
        history = mute(rules)
        tokens, left = 0, history.now
        for pause, event in drawn:
            asking = history.open.ask.value if history.open else ""
            if event in ("ok", "fails"):
                history.check("" if event == "ok" else "no", after=pause)
            elif event in ("busy", "idle") or not asking:
                history.load(in_flight=int(event == "busy"), after=pause)
            elif asking == "look":
                history.answer(200, None, moved=event == "token", after=pause)
            else:
                status, seconds, late = {"token": TOKEN, "late": LATE, "error": ERROR}[event]
                history.answer(status, seconds, late, after=pause)
                tokens = tokens + 1 if event == "token" and history.phase != "down" else 0
            if history.phase == "down":
                tokens = 0
            if history.phase == "warm":
                assert tokens >= 3, f"back after {tokens} tokens"
                assert history.now - left >= rules.SLOW_AT_LEAST_S
                return

    for_all(moves, check)
    shaky = mute(rules)
    for token in (TOKEN, TOKEN, LATE, TOKEN, TOKEN):
        for _ in range(20):
            if shaky.open and shaky.open.ask.value == "try":
                break
            shaky.answer(200, None) if shaky.open else shaky.tick()
        shaky.answer(*token, after=2)
    assert shaky.phase == "slow", "two and two are no three in a row"
    for start in (mute(rules), down_and_up(mute(rules))):
        phases = live(start, [0] * 60, Engine())
        assert phases[-1] == "warm", "tried whether wanted or not"
        asked = [s.now for s in start.requests("try")][-3:]
        assert all(1 <= b - a <= 2 for a, b in itertools.pairwise(asked))


def mute(rules: Rules) -> History:
    """Home, sick."""
    history = History(rules, lane="home").warm()
    live(history, [1] * 60, Engine(moved=False, token=LATE))
    assert history.state.sick
    return history


def down_and_up(history: History) -> History:
    """As after its pod was started again."""
    history.check("no", after=0.5)
    history.check("no", after=0.5)
    assert history.phase == "down"
    history.check(after=0.5)
    assert history.phase == "slow", "a check proves no token"
    return history


def errors_are_proved_by_one_more(rules: Rules) -> None:
    history = History(rules, lane="home").warm()
    phases = live(history, [1] * 12, Engine(errors=2, token=ERROR))
    assert phases[-1] == "slow", "in three seconds"
    assert (history.state.sick, history.state.hangs) == (True, False), "it answers, so nothing hangs"
    assert "said no" in history.state.reason
    vm = History(rules, lane="vm").warm()
    vm.load(in_flight=1)
    vm.load(in_flight=0, errors=1)
    vm.answer(200, None)
    vm.tick(after=1)
    assert vm.open
    assert vm.open.ask.value == "try"
    vm.answer(500, 0.1)
    assert vm.state.sick
    unused = History(rules, lane="vm").warm()
    for _ in range(10):
        unused.load(errors=1)
    assert unused.requests() == [], "somebody else's"


def a_late_token_behind_others_is_no_verdict(rules: Rules) -> None:
    """A flood of long prompts: each look shows a step, or the one after the late token does."""
    history = History(rules, lane="home").warm()
    assert set(live(history, [3] * 80, Engine(moved=True, token=LATE))) == {"warm"}
    assert history.requests("try") == []
    for _ in range(40):
        if not (history.open and history.open.ask.value == "try"):
            live(history, [1], Engine(moved=False, token=LATE))
    history.answer(0, 3.0, late=True, after=3.0)
    assert history.open
    assert history.open.ask.value == "look"
    history.answer(200, None, moved=True)
    assert (history.phase, history.state.suspicion) == ("warm", "")


def a_look_at_one_of_several_engines_is_no_verdict(rules: Rules) -> None:
    """A token was late, behind others on one machine; then the looks reach another one, which has nothing to do."""
    for lane in ("home", "burst"):
        history = History(rules, lane=lane).warm()
        for _ in range(40):
            if not (history.open and history.open.ask.value == "try"):
                live(history, [1], Engine(moved=False, token=LATE))
        history.answer(0, 3.0, late=True, after=3.0)
        for answers in (True, False, True):
            assert history.open
            assert history.open.ask.value == "look"
            history.answer(*((200, None) if answers else (0, 1.5)), moved=None)
            history.load(in_flight=1, after=1.0)
            assert history.phase == "warm"
        history.answer(200, None, moved=False)
        assert (history.phase, history.state.sick) == ("slow", True), "they all stand"


def a_slow_home_is_left_with_its_lateness(rules: Rules) -> None:
    history = History(rules, lane="home").slow()
    assert (history.state.sick, history.state.lateness_s) == (False, 9.0)
    live(history, [0] * 60, Engine())
    assert (history.phase, history.state.lateness_s) == ("warm", 0.0)
    assert History(rules, lane="vm").warm().policy.slow_s == float("inf"), "the VM's slowness is expected"


def a_busy_vm_is_left_alone_with_its_work(rules: Rules) -> None:
    """No slot, no question; then silence alone is the verdict, after all of `stuck_s`."""
    stuck_s = float(str(AWAKE["vm"]["stuck_s"]))
    for requests, asked in ((2, False), (1, True)):
        history = History(rules, lane="vm").warm()
        phases = live(history, [requests] * 400, Engine(token=LATE, metrics=False))
        assert "slow" in phases
        at = phases.index("slow") * LOOK_S
        assert stuck_s < at < 1.5 * stuck_s + 6
        assert bool([s for s in history.requests("try") if s.after.phase.value == "warm"]) is asked
        assert bool(history.requests("try")) is asked
        assert history.state.sick
    history.load(in_flight=0)
    phases = live(history, [0] * 60, Engine())
    assert phases[-1] == "warm"
    live(history, [1] * 200, Engine(moved=False))
    live(history, [2] * 60, Engine(moved=False))
    assert history.phase == "warm", "its last token is not so long ago"


def checks_alone_say_whether_it_is_up(rules: Rules) -> None:
    """Two failures in a row, one success; nobody looks at an engine that nobody can look at, nor at one out of use."""
    for lane in AWAKE:
        history = History(rules, lane=lane)
        assert (history.phase, history.state.takes) == ("down", False)
        for error, phase, takes in (
            ("", "warm", True), ("no", "warm", False), ("", "warm", True),
            ("no", "warm", False), ("no", "down", False), ("", "warm", True),
        ):  # fmt: skip
            history.check(error, after=0.5)
            assert (history.phase, history.state.takes, history.state.error) == (phase, takes, error)
        live(history, [0] * 40, Engine())
        assert history.requests() == []
    unwatched = History(rules, lane="unwatched").warm()
    live(unwatched, [3] * 400, Engine(moved=False, errors=3, token=LATE))
    assert (unwatched.phase, unwatched.requests()) == ("warm", [])


def a_dead_path_is_down_and_not_sick(rules: Rules) -> None:
    """What no longer answers its check is back with the next good one, and owes no tokens."""
    gone = Engine(moved=False, token=LATE, metrics=False)
    histories = [History(rules, lane="home").warm() for _ in range(60)]
    for steps, history in enumerate(histories):
        live(history, [1] * steps, gone)
    history = next(history for history in histories if history.state.unanswered)
    history.check("no answer in time")
    for _ in range(8):
        history.load(in_flight=1, after=LOOK_S)
        if history.open:
            answer(history, gone, over=True)
        assert (history.phase, history.state.sick) == ("warm", False)
    history.check("no answer in time")
    assert history.phase == "down"
    history.check()
    assert history.phase == "warm"


PROPERTIES: list[Check] = [
    mute_lane_is_left_in_time,
    a_dead_path_is_down_and_not_sick,
    one_caller_marks_nobody,
    a_lane_comes_back_by_tokens_only,
    errors_are_proved_by_one_more,
    a_late_token_behind_others_is_no_verdict,
    a_look_at_one_of_several_engines_is_no_verdict,
    a_slow_home_is_left_with_its_lateness,
    a_busy_vm_is_left_alone_with_its_work,
    checks_alone_say_whether_it_is_up,
]

BROKEN: list[tuple[Check, str, str]] = [
    (mute_lane_is_left_in_time, "(now - state.busy if state.in_flight else 0.0)", "0.0"),
    (mute_lane_is_left_in_time, "if alive and answer.moved:", "if alive:"),
    (mute_lane_is_left_in_time, "if alive and answer.moved:", "if answer.moved:"),
    (mute_lane_is_left_in_time, "    elif state.unanswered:\n", "    elif state.unanswered and answer.late:\n"),
    (mute_lane_is_left_in_time, "STUCK_S: Final = 3.0", "STUCK_S: Final = 6.0"),
    (one_caller_marks_nobody, "policy.stuck_s / 2:\n        state = _suspected(state, \"nothing moves\")",
     "policy.stuck_s / 2:\n        state = _sick(state, \"nothing moves\")"),
    (mute_lane_is_left_in_time, "mute=state.phase is Phase.SLOW", "mute=True"),
    (mute_lane_is_left_in_time, "mute=state.phase is Phase.SLOW", "mute=False"),
    (a_dead_path_is_down_and_not_sick, "elif state.failures or", "elif"),
    (one_caller_marks_nobody, '_suspected(state, "it answered 500")', '_sick(state, "it answered 500")'),
    (one_caller_marks_nobody, 'state = _suspected(state, "a request ended in 500")', "pass"),
    (a_lane_comes_back_by_tokens_only, "if not state.lateness_s:", "if True:"),
    (a_lane_comes_back_by_tokens_only, "RECOVERED_SAMPLES: Final = 3", "RECOVERED_SAMPLES: Final = 1"),
    (a_lane_comes_back_by_tokens_only, "replace(state, samples=0, first_token_s=", "replace(state, first_token_s="),
    (a_lane_comes_back_by_tokens_only, "(busy or wanted or not policy.sleeps) and", "(busy or wanted) and"),
    (errors_are_proved_by_one_more, "answer.status == 500 or not policy.sleeps", "answer.status == 501"),
    (errors_are_proved_by_one_more, "is Phase.WARM and now - state.busy <= FRESH_S", "is Phase.WARM"),
    (errors_are_proved_by_one_more, "self.sick and self.mute and", "self.sick and"),
    (a_late_token_behind_others_is_no_verdict, "if answer.late or (answer", "if False and (answer"),
    (a_late_token_behind_others_is_no_verdict, 'suspicion="" if state.unanswered else state.suspicion', "samples=0"),
    (a_look_at_one_of_several_engines_is_no_verdict, "state.failures or answer.moved is None:", "state.failures:"),
    (a_slow_home_is_left_with_its_lateness, ", lateness_s=late)", ")"),
    (a_slow_home_is_left_with_its_lateness, 'changes |= {"lateness_s": 0.0, "mute": False}', "pass"),
    (a_busy_vm_is_left_alone_with_its_work, "not policy.slots or state.in_flight < policy.slots", "True"),
    (a_busy_vm_is_left_alone_with_its_work, "unanswered=False, silent_s=0.0)\n        return",
     "unanswered=False)\n        return"),
    (a_busy_vm_is_left_alone_with_its_work, "elif state.silent_s >= policy.stuck_s and not", "elif False and not"),
    (checks_alone_say_whether_it_is_up, "case Phase.WARM if policy.watched and (", "case Phase.WARM if ("),
    (checks_alone_say_whether_it_is_up, "DOWN_AFTER: Final = 2", "DOWN_AFTER: Final = 1"),
    (checks_alone_say_whether_it_is_up, "is Phase.WARM and not self.failures", "is Phase.WARM"),
]  # fmt: skip


test_rule_holds, test_broken_rule_is_seen = proven(PROPERTIES, BROKEN)
