"""Demand: what Caddy's numbers say, and which of it is work for burst."""

import dataclasses

import pytest

from components.gateway.pilot.demand import Traffic, demand, loads, traffic
from components.gateway.pilot.environment import Settings, settings
from components.gateway.pilot.state import Lane, Load, Phase, Policy
from tests.unit.gateway.pilot.histories import POLICY
from tests.unit.gateway.pilot.test_environment import ENV

SETTINGS = settings(ENV)
UP = Lane(Phase.WARM)
SHAKY = Lane(Phase.WARM, failures=1)
"""Its last check failed."""
AWAY = Lane(Phase.DOWN, failures=2)
SLOW = Lane(Phase.SLOW)
SLOTS, FULL = 4, 8
ROWS = [
    {"address": "home:80", "num_requests": 3, "fails": 0},
    {"address": "home:080", "num_requests": 2, "fails": 0},
    {"address": "127.0.0.1:9181", "num_requests": 1, "fails": 4},
    {"address": "10.0.0.2:9931", "num_requests": 2, "fails": 0},
    {"address": "tcp/10.0.0.2:9931", "num_requests": 9, "fails": 9},
]


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
def test_work_for_burst_is_demand(wake: str, running: int, capacity: int, waiting: int, wanted: bool) -> None:
    policy = Policy(**(POLICY | {"wake": wake}))  # type: ignore[arg-type]
    assert demand(policy, running, capacity, waiting) is wanted


def test_a_slow_upload_wakes_nothing_while_home_has_a_free_slot() -> None:
    policy = SETTINGS.policy
    assert not demand(policy, 0, 4, 1, home_free=True)
    assert demand(policy, 0, 4, 1, home_free=False)
    assert demand(policy, 4, 4, 0, home_free=True)


def counted(open_: int, api: int = 0, burst: int = 0, refused: int = 0) -> str:
    """Caddy's metrics: requests under way at the lanes' routes, and answers given so far."""
    label = '{handler="reverse_proxy",server="%s"}'
    lines = [
        "caddy_http_requests_in_flight" + label % "api" + f" {open_}",
        "caddy_http_requests_in_flight" + label % "checks" + " 7",
        'caddy_http_requests_in_flight{handler="map",server="api"} 90',
        'caddy_http_requests_total{code="200",handler="reverse_proxy",method="POST",server="api"}' + f" {api}",
        "caddy_http_requests_total" + label % "burst" + f" {burst}",
        f'caddy_http_requests_total{{code="599",handler="static_response",server="refusal"}} {refused}',
    ]
    return "\n".join(lines)


def test_lanes_are_counted_by_their_dials_and_home_by_any_spelling() -> None:
    seen = traffic(Traffic(), ROWS, "", SETTINGS)
    assert seen.in_flight == {"home": 3, "burst": 1, "vm": 2}
    assert (seen.at_home, seen.fails) == (5, 4)


def test_requests_wait_once_two_counts_say_so() -> None:
    once = traffic(Traffic(), ROWS, counted(10), SETTINGS)
    assert once.waiting == 0
    twice = traffic(once, ROWS, counted(8), SETTINGS)
    assert twice.waiting == 2
    assert traffic(twice, ROWS, "", SETTINGS).waiting == 2, "not counted this time"
    assert traffic(twice, ROWS, counted(6), SETTINGS).waiting == 0
    assert traffic(twice, ROWS, counted(3), SETTINGS).waiting == 0, "the two answers are not from the same moment"


def test_who_is_in_line_waits_at_once_and_no_longer_than_that() -> None:
    """Beside them there may be a caller whose body is not kept; the gauge counts both."""
    before = traffic(Traffic(), ROWS, counted(10), SETTINGS, 3)
    assert before.waiting == 3
    after = traffic(before, ROWS, counted(10), SETTINGS, 3)
    assert after.waiting == 4
    assert traffic(after, ROWS, "", SETTINGS, 0).waiting == 1, "the three have hung up"


def test_nothing_is_known_of_a_caddy_that_does_not_answer() -> None:
    seen = traffic(traffic(Traffic(), ROWS, counted(10), SETTINGS), ROWS, counted(10), SETTINGS)
    assert seen.waiting == 4
    assert seen.unseen() == Traffic(counted=4, fails=4, ended=(0, 0, 0), errors=0)


def meant(api: int, burst: int, *, homeless: bool, wake: str = "first-fallback") -> Load:
    """What answers too short to be seen under way mean, after 5 and 3."""
    chosen: Settings = dataclasses.replace(SETTINGS, policy=dataclasses.replace(SETTINGS.policy, wake=wake))
    before = traffic(Traffic(), [], counted(0, 5, 3), chosen)
    after = traffic(before, [], counted(0, api, burst), chosen)
    return loads(before, after, chosen, AWAY if homeless else SHAKY, SLOTS, FULL)["burst"]


@pytest.mark.parametrize(
    ("api", "burst", "homeless", "found"),
    [
        (5, 3, True, Load(0, wanted=False)),
        # An answer of burst is one of the lanes', too.
        (6, 4, True, Load(1, wanted=False)),
        (6, 3, True, Load(0, wanted=True)),
        (6, 3, False, Load(0, wanted=False)),
        (8, 4, True, Load(1, wanted=True)),
    ],
)
def test_answers_too_short_to_be_seen_count(api: int, burst: int, homeless: bool, found: Load) -> None:
    assert meant(api, burst, homeless=homeless) == found
    assert not meant(api, burst, homeless=homeless, wake="never").wanted


def test_first_count_is_no_traffic() -> None:
    first = traffic(Traffic(), [], counted(0, 500, 300), SETTINGS)
    assert loads(Traffic(), first, SETTINGS, AWAY, SLOTS, FULL) == dict.fromkeys(("home", "burst", "vm"), Load(0))


def test_only_new_failures_of_burst_are_told() -> None:
    before = traffic(Traffic(), ROWS, "", SETTINGS)
    for fails, new in ((4, 0), (6, 2), (1, 0)):
        after = dataclasses.replace(before, fails=fails)
        assert loads(before, after, SETTINGS, UP, SLOTS, FULL)["burst"].failures == new


@pytest.mark.parametrize("wake", ["first-fallback", "pressure", "never"])
def test_who_was_refused_wanted_burst(wake: str) -> None:
    """It is one of the lanes' answers, too, and was none of the VM's."""
    chosen = dataclasses.replace(SETTINGS, policy=dataclasses.replace(SETTINGS.policy, wake=wake))
    before = traffic(Traffic(), [], counted(0, 5, 3, 1), chosen)
    for refused, wanted in ((1, False), (2, wake != "never")):
        after = traffic(before, [], counted(0, 4 + refused, 3, refused), chosen)
        found = loads(before, after, chosen, AWAY, SLOTS, FULL)["burst"]
        assert found == Load(0, wanted=wanted)


def test_lanes_that_caddy_leaves_alone_are_known() -> None:
    failed = [{**row, "fails": 1} if row["address"] == "home:80" else row for row in ROWS]
    assert traffic(Traffic(), failed, "", SETTINGS).failing == {"home", "burst"}
    assert traffic(Traffic(), ROWS, "", SETTINGS).failing == {"burst"}
    assert traffic(Traffic(), ROWS, "", SETTINGS).unseen().failing == frozenset()


def test_a_slow_home_takes_nothing() -> None:
    """So what is served elsewhere is the VM's, and who waits has no lane."""
    chosen = dataclasses.replace(SETTINGS, policy=dataclasses.replace(SETTINGS.policy, wake="first-fallback"))
    before = traffic(Traffic(), [], counted(0, 5), chosen)
    served = traffic(before, [], counted(0, 6), chosen)
    waits = dataclasses.replace(before, waiting=1)
    for home, wanted in ((UP, False), (SLOW, True), (AWAY, True), (None, True)):
        assert loads(before, served, chosen, home, SLOTS, FULL)["burst"].wanted is wanted
        assert loads(before, waits, chosen, home, SLOTS, FULL)["burst"].wanted is wanted


def test_answers_too_short_to_be_seen_are_use_of_home_or_the_vm() -> None:
    before = traffic(Traffic(), [], counted(0, 5), SETTINGS)
    served = traffic(before, [], counted(0, 6), SETTINGS)
    for home, used in ((UP, "home"), (SLOW, "vm"), (AWAY, "vm")):
        found = loads(before, served, SETTINGS, home, SLOTS, FULL)
        assert [lane for lane, load in found.items() if load.in_flight] == [used]
    by_burst = traffic(before, [], counted(0, 6, 1), SETTINGS)
    assert [lane for lane, load in loads(before, by_burst, SETTINGS, UP, SLOTS, FULL).items() if load.in_flight] == [
        "burst"
    ]


def test_new_answers_of_500_make_home_and_the_vm_suspicious() -> None:
    """Burst's engine counts its own; a lane that isn't there is told nothing."""

    def answers(status: int, count: int, server: str = "api") -> str:
        labels = f'code="{status}",handler="reverse_proxy",method="POST",server="{server}"'
        return f"caddy_http_request_duration_seconds_count{{{labels}}} {count}\n"

    first = traffic(Traffic(), [], answers(500, 7) + answers(200, 90), SETTINGS)
    more = traffic(first, [], answers(500, 9) + answers(200, 95) + answers(500, 9, "burst"), SETTINGS)
    assert {lane: load.errors for lane, load in loads(first, more, SETTINGS, UP, SLOTS, FULL).items()} == {
        "home": 2, "burst": 0, "vm": 2
    }  # fmt: skip
    assert loads(Traffic(), first, SETTINGS, UP, SLOTS, FULL)["vm"].errors == 0, "the first count is no news"
    assert loads(more, first, SETTINGS, UP, SLOTS, FULL)["vm"].errors == 0
    homeless = settings(ENV | {"HOME_ADDRESS": "", "HOME_DIAL": "", "VM_DIAL": ""})
    assert list(loads(first, more, homeless, None, SLOTS, FULL)) == ["burst"]


def of_classes(**under_way: int) -> str:
    """Caddy's metrics with the routes to the lanes by their first handlers."""
    return "\n".join(
        f'caddy_http_requests_in_flight{{handler="{handler}",server="api"}} {count}'
        for handler, count in under_way.items()
    )


def looked_twice(text: str, *, home: int = 0, burst: int = 0, vm: int = 0) -> Traffic:
    counts = {"home:80": home, "127.0.0.1:9181": burst, "10.0.0.2:9931": vm}
    rows = [{"address": address, "num_requests": count, "fails": 0} for address, count in counts.items()]
    return traffic(traffic(Traffic(), rows, text, SETTINGS), rows, text, SETTINGS)


WAKES = dataclasses.replace(SETTINGS, policy=Policy(**(POLICY | {"wake": "first-fallback"})))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("under_way", "running", "waiting", "wanted"),
    [
        ({"reverse_proxy": 8}, {"home": 8}, 0, False),
        ({"reverse_proxy": 9}, {"home": 8}, 1, True),
        # Home is free: whoever seems to wait sends a body, unless he may not go there.
        ({"reverse_proxy": 1}, {}, 1, False),
        ({"rewrite": 1}, {}, 1, True),
        ({"rewrite": 1, "reverse_proxy": 1}, {"burst": 1}, 1, False),
        # Whom burst can't serve.
        ({"request_body": 10}, {"home": 8}, 2, False),
        ({"request_body": 4, "reverse_proxy": 5}, {"home": 8}, 1, True),
        ({"headers": 4}, {"vm": 2}, 2, False),
        ({"headers": 1}, {"vm": 1}, 0, False),
        ({"headers": 1, "reverse_proxy": 1}, {"vm": 2}, 0, True),
    ],
)
def test_only_who_may_go_to_burst_wakes_it(
    under_way: dict[str, int], running: dict[str, int], waiting: int, wanted: bool
) -> None:
    seen = looked_twice(of_classes(**under_way), **running)
    assert seen.waiting == waiting, "people see all who wait"
    assert loads(seen, seen, WAKES, UP, SLOTS, FULL)["burst"].wanted is wanted


def test_answers_of_500_count_whoever_got_them() -> None:
    label = 'caddy_http_request_duration_seconds_count{code="500",handler="%s",method="POST",server="api"} 1'
    text = "\n".join(label % handler for handler in ("reverse_proxy", "rewrite", "headers", "request_body", "map"))
    assert traffic(Traffic(), ROWS, text, SETTINGS).errors == 4


def test_home_is_full_where_some_caller_gets_no_slot() -> None:
    """The last slots are kept for others, so its having some doesn't say that nobody waits."""
    seen = looked_twice(of_classes(reverse_proxy=7), home=6)
    assert loads(seen, seen, WAKES, UP, SLOTS, 6)["burst"].wanted
    assert not loads(seen, seen, WAKES, UP, SLOTS, FULL)["burst"].wanted
