"""The running pilot and burst: woken in demand, left alone when idle, left and taken again when slow or failing."""

import re
import time
from collections.abc import Callable

import pytest

from tests.gateway.pilot.running import piloted
from tests.gateway.pilot.world import DIALS, World
from tests.kit import until


def test_burst_is_woken_in_demand_by_one_request_at_a_time(world: World) -> None:
    world.health = [429, 503, 500]
    with piloted(world) as pilot_:
        until((world.folder / "id-token").exists)
        world.in_flight["vm"] = 1
        world.looked()
        assert (pilot_.state, world.burst.asked) == ("cold", [])
        world.in_flight["vm"] = 2
        pilot_.reaches("warming")
        assert pilot_.get("/lane/burst")[0] == 503
        pilot_.reaches("warm")
        assert world.burst.paths() == ["/health"] * 4
        assert world.burst.most == 1
        pauses = [b.at - a.at for a, b in zip(world.burst.asked, world.burst.asked[1:], strict=False)]
        assert min(pauses) >= 1
        assert pilot_.get("/lane/burst")[0] == 200
        assert pilot_.moves() == [("cold", "warming"), ("warming", "warm")]
        assert pilot_.status()["lanes"]["burst"]["wake_s"] > 3


def test_wake_that_cloud_run_holds_is_not_repeated(world: World) -> None:
    world.health_delay = 2.5
    with piloted(world) as pilot_:
        world.waiting = 1
        pilot_.reaches("warm")
        assert world.burst.paths() == ["/health"]
        assert pilot_.status()["waiting"] == 1


@pytest.mark.parametrize(("wake", "load"), [("first-fallback", {"vm": 1}), ("pressure", {"vm": 2}), ("never", {})])
def test_setting_says_which_load_wakes(world: World, wake: str, load: dict[str, int]) -> None:
    with piloted(world, PILOT_WAKE=wake) as pilot_:
        until((world.folder / "id-token").exists)
        world.in_flight |= {"home": 9}
        world.looked()
        assert pilot_.state == "cold"
        world.in_flight |= load or {"vm": 9}
        world.waiting = 0 if load else 5
        if load:
            pilot_.reaches("warm")
        world.looked()
        assert pilot_.state == ("warm" if load else "cold")
        assert len(world.burst.asked) == (1 if load else 0)
        assert pilot_.get("/lane/vm/long")[0] == (503 if load else 200)


def test_answers_of_the_vm_too_short_to_be_seen_are_demand(world: World) -> None:
    with piloted(world, PILOT_WAKE="first-fallback") as pilot_:
        until((world.folder / "id-token").exists)
        world.done["api"] += 1
        world.looked()
        assert pilot_.state == "cold", "home is up and served it"
        world.checked = {DIALS["home"]: 503}
        until(lambda: pilot_.status()["lanes"]["home"]["state"] == "down")
        world.done = {"api": 9, "burst": 6}
        world.looked()
        assert pilot_.state == "cold", "burst served them"
        world.done["api"] += 1
        pilot_.reaches("warm")


def test_wake_ends_at_its_deadline_and_is_tried_again(world: World) -> None:
    world.health_delay = 60
    # Long enough for each state to be seen before the next.
    with piloted(world, PILOT_WAKE_DEADLINE_S=3, PILOT_RETRY_S=3) as pilot_:
        world.in_flight["vm"] = 2
        pilot_.reaches("warming")
        assert pilot_.get("/lane/vm/long")[0] == 503
        assert (pilot_.get("/lane/vm/picture")[0], pilot_.get("/lane/refuse/picture")[0]) == (503, 503), (
            "burst may come"
        )
        pilot_.reaches("down")
        until(lambda: world.burst.running == 0, "the wake is given up")
        assert (pilot_.get("/lane/burst")[0], pilot_.get("/lane/vm/long")[0]) == (503, 200)
        assert (pilot_.get("/lane/vm/picture")[0], pilot_.get("/lane/refuse/picture")[0]) == (503, 200), "none can"
        world.health_delay = 0
        pilot_.reaches("warm")
        assert pilot_.get("/lane/vm/long")[0] == 503
        assert pilot_.moves() == [
            ("cold", "warming"), ("warming", "down"), ("down", "cold"), ("cold", "warming"), ("warming", "warm")
        ]  # fmt: skip
        assert world.burst.most == 1
        down = next(line for line in pilot_.log() if line.get("to") == "down")
        assert (down["severity"], down["from"], down["lane"]) == ("WARNING", "warming", "burst")
        assert "no answer within 3 s" in down["reason"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", down["time"])


def test_idle_burst_may_sleep(world: World) -> None:
    """No request while warm and unused; then it is taken for cold."""
    with piloted(world, PILOT_IDLE_S=3) as pilot_:
        world.in_flight["vm"] = 2
        pilot_.reaches("warm")
        world.in_flight |= {"vm": 0, "burst": 1}
        until(lambda: world.burst.paths().count("/metrics") >= 2)
        world.in_flight["burst"] = 0
        pilot_.reaches("cold")
        assert time.monotonic() - world.burst.asked[-1].at > 1.5, "asked until it was cold"
        asked = len(world.burst.asked)
        world.looked()
        assert len(world.burst.asked) == asked
        assert pilot_.moves()[-1] == ("warm", "cold")
        assert pilot_.get("/lane/burst")[0] == 503


@pytest.mark.slow
def test_slow_burst_is_left_and_taken_again(world: World) -> None:
    with piloted(world) as pilot_:
        world.in_flight["vm"] = 2
        pilot_.reaches("warm")
        world.in_flight |= {"vm": 0, "burst": 2}

        def serve(first_token_s: float, enough: Callable[[], bool]) -> None:
            def one_more() -> bool:
                # Sum and count grow, so that what is new took `first_token_s`.
                total = world.first_tokens * world.first_token_s + first_token_s
                world.first_tokens += 1
                world.first_token_s = total / world.first_tokens
                return enough()

            until(one_more)

        serve(0.8, lambda: world.burst.paths().count("/metrics") >= 4)
        assert pilot_.state == "warm", "between the thresholds nothing changes"
        assert 0.7 < pilot_.status()["lanes"]["burst"]["first_token_s"] < 0.9
        world.one_token_s = 0.8
        serve(3.0, lambda: pilot_.state == "slow")
        assert (pilot_.get("/lane/burst")[0], pilot_.get("/lane/vm/long")[0]) == (503, 200)
        world.in_flight |= {"vm": 2, "burst": 0}
        until(lambda: world.burst.paths().count("/v1/completions") >= 4)
        until(lambda: pilot_.status()["lanes"]["burst"]["seconds"] > 5.5, "it is still slow")
        assert pilot_.state == "slow", "between the thresholds nothing changes"
        world.one_token_s = 0.0
        pilot_.reaches("warm")
        assert pilot_.moves() == [("cold", "warming"), ("warming", "warm"), ("warm", "slow"), ("slow", "warm")]
        assert world.burst.most == 1


def test_burst_that_fails_is_left(world: World) -> None:
    with piloted(world) as pilot_:
        world.in_flight["vm"] = 2
        pilot_.reaches("warm")
        world.in_flight["vm"] = 0
        world.health, world.fails = [429] * 99, 3
        pilot_.reaches("cold")
        assert "Caddy saw requests to burst fail" in pilot_.log()[-1]["reason"]
