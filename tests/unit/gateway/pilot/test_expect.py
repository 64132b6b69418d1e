"""The choice between the VM and waiting: the promise, in drawn worlds, and what it rests on, by name.

The promise: no request's first token is later than the better of its possible lanes would have given it, by more than
10 % + 1 s. Would have given: straight to the VM, or by waiting for the other lanes as if there were no VM, in the world
that `lines` describes. A request stands for its size, so it is its size's reference request.

Each property is a function of the pilot's decisions, so that `test_broken_rule_is_seen` can run it against them with
one rule taken out, and see it fail.
"""

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.gateway.pilot.histories import POLICY, RULES, Check, Rules, broken, for_all, proven
from tests.unit.gateway.pilot.lines import WORLDS, World, alone_on_vm_s, first_token_s

TIMEOUT_S = 300.0


def nobody_waits_for_the_later_lane(rules: Rules) -> None:
    def check(worlds: list[World]) -> None:
        for world in worlds:
            keeps(world)

    def keeps(world: World) -> None:
        on_vm, elsewhere = (first_token_s(rules, world, vm=vm) for vm in (True, False))
        if alone_on_vm_s(world) > TIMEOUT_S:
            on_vm = math.inf
        best = min(on_vm, elsewhere)
        if best < math.inf:
            got = first_token_s(rules, world)
            assert got <= 1.1 * best + 1, f"{got:.2f} s; on the VM {on_vm:.2f}, elsewhere {elsewhere:.2f}"

    for_all(WORLDS, check)


# --- one scene each --------------------------------------------------------------------------------------------------

PACES = {"home": (0.1, 1.9, 8), "burst": (0.2, 3.8, 16), "vm": (23.0, 23.0, 2)}


def known(rules: Rules, *, wake: str = "pressure", **changes: tuple[float, float, int] | None) -> Any:
    paces = {name: pace for name, pace in ({**PACES, **changes}).items() if pace}
    return rules.Declared(
        paces={name: rules.Pace(dict.fromkeys(rules.SIZES, pace[0]), *pace[1:]) for name, pace in paces.items()},
        start_s=70.0,
        timeout_s=TIMEOUT_S,
        policy=rules.Policy(**(POLICY | {"wake": wake})),
    )


def at(rules: Rules, phase: str = "cold", age: float = 0.0, *, home: bool = False, **changes: Any) -> Any:
    """A scene at 1000 s; home has been away for ever, unless it is up."""
    at_home = rules.Lane(rules.Phase.WARM if home else rules.Phase.DOWN)
    burst = {name: changes.pop(name) for name in ("unproven", "starts") if name in changes}
    return rules.Scene(
        now=1000.0,
        home=changes.pop("at_home", at_home),
        burst=rules.Lane(phase=rules.Phase(phase), since=1000.0 - age, **burst),
        **changes,
    )


def a_lane_is_waited_for_while_it_can_come(rules: Rules) -> None:
    def waits(scene: Any, **changes: Any) -> bool:
        return not rules.allows_vm("short", known(rules, **changes), scene)

    assert [waits(at(rules, "warming", age)) for age in (0, 40, 50, 69)] == [False, False, True, True]
    assert not waits(at(rules)), "70 s to a cold burst's first token"
    assert waits(at(rules, starts=(20.0, 24.0))), "22 s as it has learned"
    assert waits(at(rules, "warming", 30, starts=(20.0,))), "overdue, and still the likelier"
    assert not waits(at(rules, "warming", 60, starts=(20.0,))), "overdue for long"
    assert waits(at(rules, "warm"))
    assert not waits(at(rules, "warm", failing=frozenset({"burst"})))
    for phase in ("slow", "down"):
        assert not waits(at(rules, phase))
    assert not waits(at(rules, starts=(20.0,), unproven=True))
    assert not waits(at(rules, starts=(20.0,)), wake="never")
    assert waits(at(rules, "down", home=True))
    assert not waits(at(rules, "down", home=True, failing=frozenset({"home"})))
    full = {"home": 8, "burst": 16}
    assert [waits(at(rules, "down", home=True, in_flight=full, waiting=n)) for n in (0, 80, 100)] == [True, True, False]
    assert waits(at(rules, "warm", home=True, in_flight=full, waiting=100)), "two lanes serve one line"


def the_vm_is_judged_by_what_runs_there(rules: Rules) -> None:
    def waits(running: int, correction: float = 1.0) -> bool:
        scene = at(rules, starts=(30.0,), in_flight={"vm": running}, correction=correction)
        return not rules.allows_vm("short", known(rules), scene)

    assert [waits(running) for running in (0, 1, 2)] == [False, True, True]
    assert [waits(0, correction) for correction in (0.5, 1.3, 1.5)] == [False, False, True]
    assert not waits(1, 0.5)
    quick = known(rules, vm=(0.6, 4.0, 2))
    assert rules.allows_vm("short", quick, at(rules, home=True)), "the backup of a home that fails this moment"


def refused_is_what_nobody_can_answer_in_time(rules: Rules) -> None:
    slow, away = known(rules, vm=(290.0, 20.0, 2)), at(rules, "down")
    never = known(rules, vm=(301.0, 20.0, 2))

    def told(declared: Any, scene: Any) -> tuple[bool, bool]:
        return rules.allows_vm("picture", declared, scene), rules.refuses("picture", declared, scene)

    assert told(slow, away) == (True, False)
    assert told(never, away) == (False, True)
    assert told(slow, replace(away, in_flight={"vm": 1})) == (False, True), "the other one makes it late"
    assert told(slow, replace(away, correction=1.1)) == (False, True)
    one = known(rules, vm=(200.0, 20.0, 1))
    assert told(one, replace(away, in_flight={"vm": 1})) == (True, True), "a turn before it"
    assert told(one, replace(away, waiting=99)) == (True, False), "not for the line: those in it would go, too"
    for can_come in (at(rules), at(rules, "warming", 300), at(rules, "warm"), at(rules, "down", home=True)):
        assert told(never, can_come) == (False, False), can_come
    failing = frozenset({"home", "burst"})
    for may_come in (
        at(rules, "slow"),
        at(rules, "warm", failing=failing),
        at(rules, "down", home=True, failing=failing),
    ):
        assert told(never, may_come) == (False, False), may_come
    assert told(never, at(rules, unproven=True)) == (False, True)
    just = replace(away, home=rules.Lane(rules.Phase.DOWN, since=995.0))
    assert told(never, just) == (False, False), "its tunnel may be starting"
    assert told(known(rules, vm=(301.0, 20.0, 2), home=None), just) == (False, True), "there is no home"
    assert told(known(rules, vm=None), away) == (True, False), "nobody knows that machine"


def a_sick_lane_is_none_and_a_slow_home_as_late_as_it_was(rules: Rules) -> None:
    def left(lateness_s: float) -> Any:
        return rules.Lane(rules.Phase.SLOW, since=0.0, lateness_s=lateness_s)

    def told(at_home: Any, phase: str = "down", **changes: Any) -> tuple[bool, bool]:
        declared = known(rules, vm=(23.0, 23.0, 1))
        seen = at(rules, phase, at_home=at_home, **changes)
        return rules.allows_home("short", declared, seen), rules.allows_vm("short", declared, seen)

    sick = left(math.inf)
    assert told(sick) == (False, True)
    assert rules.expected("short", known(rules), at(rules, at_home=sick))["home"] == math.inf
    assert told(left(20.0)) == (True, False), "the VM takes 23 s"
    assert told(left(23.5)) == (False, True), "and is sooner now"
    assert told(left(23.5), in_flight={"vm": 1}) == (True, True), "but it has no slot"
    assert told(left(23.5), vm=rules.Lane(rules.Phase.DOWN)) == (True, True), "but it is down"
    assert told(left(23.5), failing=frozenset({"vm"})) == (True, True), "but it just failed"
    assert told(left(5.0), "warm") == (False, False), "burst is warm"
    assert told(rules.Lane(rules.Phase.WARM, failures=1), "warm") == (True, False), "its own check decides"
    line: dict[str, Any] = {"in_flight": {"home": 8}, "waiting": 8}
    assert told(left(15.0), **line) == (False, True), "a slow home's line goes slowly: 8 turns of 2 s"
    assert not rules.allows_vm("short", known(rules), at(rules, at_home=left(1.0), **line))
    alone = rules.Declared({}, 70.0, TIMEOUT_S, known(rules).policy)
    for lateness_s in (9.0, math.inf):
        assert rules.allows_home("short", alone, at(rules, at_home=left(lateness_s))) == (lateness_s < math.inf)
    ill = at(rules, vm=sick)
    assert not rules.allows_vm("short", known(rules), ill)
    assert not rules.refuses("short", known(rules), replace(ill, burst=rules.Lane(rules.Phase.DOWN))), "no slow one"
    never = known(rules, vm=(301.0, 20.0, 2))
    for at_home, refused in ((sick, True), (left(9.0), False), (replace(sick, since=995.0), False)):
        assert rules.refuses("picture", never, at(rules, "down", at_home=at_home)) is refused


PROPERTIES: list[Check] = [
    a_sick_lane_is_none_and_a_slow_home_as_late_as_it_was,
    nobody_waits_for_the_later_lane,
    a_lane_is_waited_for_while_it_can_come,
    the_vm_is_judged_by_what_runs_there,
    refused_is_what_nobody_can_answer_in_time,
]

BROKEN: list[tuple[Check, str, str]] = [
    (nobody_waits_for_the_later_lane, "scene.waiting / served + first", "first"),
    (nobody_waits_for_the_later_lane, "abs(start - (scene.now - burst.since))", "start"),
    (a_lane_is_waited_for_while_it_can_come, "            return start\n", "            return 0.0\n"),
    (nobody_waits_for_the_later_lane, "min(scene.in_flight.get(lane, 0), pace.capacity - 1)", "0"),
    (nobody_waits_for_the_later_lane, "scene.in_flight.get(lane, 0), pace.capacity - 1)", "99, pace.capacity - 1)"),
    (nobody_waits_for_the_later_lane, " or burst.unproven", ""),
    (nobody_waits_for_the_later_lane, 'declared.policy.wake == "never" or ', ""),
    (refused_is_what_nobody_can_answer_in_time, "min(others + SLACK_S, declared.timeout_s)", "others + SLACK_S"),
    (nobody_waits_for_the_later_lane, "min(others + SLACK_S, declared.timeout_s)", "declared.timeout_s"),
    (nobody_waits_for_the_later_lane, "SLACK_S: Final = 0.75", "SLACK_S: Final = 30.0"),
    (nobody_waits_for_the_later_lane, "+ left / (served", "+ 0 / (served"),
    (nobody_waits_for_the_later_lane, " - start * served", ""),
    (nobody_waits_for_the_later_lane, "in full)", "in full[:1])"),
    (nobody_waits_for_the_later_lane, '"home": scene.home.takes or slow', '"home": True'),
    (a_lane_is_waited_for_while_it_can_come, " and lane not in scene.failing", ""),
    (a_lane_is_waited_for_while_it_can_come, "if burst.starts else declared.start_s", "if False else declared.start_s"),
    (
        a_lane_is_waited_for_while_it_can_come,
        "abs(start - (scene.now - burst.since))",
        "max(0.0, start - (scene.now - burst.since))",
    ),
    (the_vm_is_judged_by_what_runs_there, "first * scene.correction * ", "first * "),
    (the_vm_is_judged_by_what_runs_there, "SLACK_S: Final = 0.75", "SLACK_S: Final = 0.0"),
    (a_sick_lane_is_none_and_a_slow_home_as_late_as_it_was, 'max(firsts["home"], scene.home.lateness_s)', "0.1"),
    (
        a_sick_lane_is_none_and_a_slow_home_as_late_as_it_was,
        ' + _turn_s(declared, scene, found["vm"]) if can',
        " if can",
    ),
    (a_sick_lane_is_none_and_a_slow_home_as_late_as_it_was, "scene.vm.takes and ", ""),
    (a_sick_lane_is_none_and_a_slow_home_as_late_as_it_was, ' and "vm" not in scene.failing', ""),
    (a_sick_lane_is_none_and_a_slow_home_as_late_as_it_was, "math.inf if scene.vm.sick else ", ""),
    (
        a_sick_lane_is_none_and_a_slow_home_as_late_as_it_was,
        "scene.home.takes or slow",
        "scene.home.phase is not Phase.DOWN",
    ),
    (a_sick_lane_is_none_and_a_slow_home_as_late_as_it_was, "own < math.inf and all(", "all("),
    (a_sick_lane_is_none_and_a_slow_home_as_late_as_it_was, 'found["vm"]) < math.inf', 'found["vm"])'),
    (a_sick_lane_is_none_and_a_slow_home_as_late_as_it_was, "scene.home.sick or ", ""),
    (a_sick_lane_is_none_and_a_slow_home_as_late_as_it_was, "scene.home.phase is not Phase.SLOW", "False"),
    (refused_is_what_nobody_can_answer_in_time, " < SETTLED_S", " < 0"),
    (
        refused_is_what_nobody_can_answer_in_time,
        ' if scene.in_flight.get("vm", 0) >= pace.capacity else 0.0',
        " if False else 0.0",
    ),
    (
        refused_is_what_nobody_can_answer_in_time,
        "pace.turn_s(first_s) if",
        "pace.turn_s(first_s) * scene.waiting if True or",
    ),
    (refused_is_what_nobody_can_answer_in_time, 'if "home" in found and', "if"),
    (refused_is_what_nobody_can_answer_in_time, "burst.phase in (Phase.WARM, Phase.SLOW)", "burst.phase is Phase.WARM"),
    (refused_is_what_nobody_can_answer_in_time, "burst.phase in (Phase.WARM, Phase.SLOW)", "burst.phase is Phase.SLOW"),
    (refused_is_what_nobody_can_answer_in_time, "not away or ", ""),
]


test_rule_holds, test_broken_rule_is_seen = proven(PROPERTIES, BROKEN)


# --- the VM's own counters -------------------------------------------------------------------------------------------


def counters(tokens: float, seconds: float) -> str:
    return (
        "# TYPE llamacpp:prompt_tokens_total counter\n"
        f"llamacpp:prompt_tokens_total {tokens}\nllamacpp:prompt_seconds_total {seconds}\nllamacpp:n_decode_total 7\n"
    )


def corrected(rules: Rules, *looks: tuple[float, float], picture: float = 10.0) -> float:
    """After these counters one after the other, where 10 tokens a second of a text are declared."""
    seen = rules.Prompts()
    for tokens, seconds in looks:
        seen = rules.prompts(seen, counters(tokens, seconds))
    return seen.correction(10.0, picture)


def the_fastest_of_five_is_the_machine_s_speed(rules: Rules) -> None:
    assert corrected(rules) == corrected(rules, (5000, 100)) == 1, "one look tells no speed"
    assert corrected(rules, (0, 0), (100, 20)) == 2
    assert corrected(rules, (0, 0), (100, 20), (1100, 420)) == 2, "a picture is encoded in the same time"
    assert corrected(rules, (0, 0), *((100 * n, 30 * n) for n in range(1, 6)), (600, 170)) == 2
    assert corrected(rules, (0, 0), (100, 5), *((100 + 100 * n, 5 + 20 * n) for n in range(1, 6))) == 2, "forgotten"
    assert corrected(rules, (0, 0), (40, 1)) == 1, "too little to tell"
    assert corrected(rules, (0, 0), (40, 1), (80, 20)) == 2.5, "until it is enough"
    assert (corrected(rules, (0, 0), (100, 1)), corrected(rules, (0, 0), (100, 50))) == (0.5, 4)
    assert corrected(rules, (0, 0), (100, 20), (50, 1), (150, 21)) == 2, "it was started again"
    assert rules.prompts(rules.Prompts(), "no metrics at all") == rules.Prompts()
    found = [corrected(rules, (0, 0), (100, took), picture=4.0) for took in (5, 10, 15, 25, 50)]
    assert found == [0.5, 1, 1, 1, 2], "a speed between a text's and a picture's may be either's"


COUNTERS_BROKEN = [
    ("speed = max(self.speeds)", "speed = min(self.speeds)"),
    ("max(picture, speed)", "picture"),
    ("max(picture, speed)", "speed"),
    ("[-KEPT:]", ""),
    ("read < TOKENS or", "read < 0 or"),
    ("max(LEAST, min", "max(0, min"),
    ("min(MOST, ", "min(99, "),
    (" or read < 0 or took < 0", ""),
]


def test_the_vm_s_speed() -> None:
    the_fastest_of_five_is_the_machine_s_speed(RULES)


@pytest.mark.parametrize(("rule", "instead"), COUNTERS_BROKEN)
def test_a_wrong_reading_of_the_counters_is_seen(rule: str, instead: str) -> None:
    with pytest.raises(AssertionError):
        the_fastest_of_five_is_the_machine_s_speed(broken(rule, instead))
