"""The running pilot and the engines of home and the VM: left for what they produce, and taken back by proof."""

import asyncio
import time
from typing import Any

import pytest

from tests.gateway.pilot.running import HOME_SECONDS, Running, piloted
from tests.gateway.pilot.world import DIALS, Asked, Reply, Toy, World
from tests.kit import until

WATCHED: dict[str, Any] = {
    "HOME_HOST": "llm", "HOME_SECONDS": HOME_SECONDS, "HOME_CAPACITY": 4, "BURST_URL": "", "BURST_DIAL": "",
    "BURST_SECONDS": "", "PILOT_WAKE": "never",
}  # fmt: skip
LEFT_S = 8.0
"""A mute home is left in this time (`test_lanes_awake`), and the machine's own delay."""
SIZES = ("short", "long", "picture")


def home(pilot_: Running) -> dict[str, Any]:
    return pilot_.status()["lanes"]["home"]


def left(pilot_: Running, lane: str = "home") -> list[str]:
    """Sizes that Caddy is told to send elsewhere."""
    return [size for size in SIZES if pilot_.get(f"/lane/{lane}/{size}")[0] != 200]


def works(pilot_: Running) -> None:
    until(lambda: home(pilot_)["state"] == "warm", "home is up")
    assert left(pilot_) == []


@pytest.mark.slow
def test_a_mute_home_is_left_freed_and_taken_back_by_tokens(world: World) -> None:
    """`/health` says 200 all the time. Its metrics are found by the service's name, its token by the lane's address."""
    with piloted(world, **WATCHED) as pilot_:
        works(pilot_)
        world.in_flight["home"] = 2
        until(lambda: world.engine_asked.count(("GET", "/metrics", "llm")) >= 3)
        assert (left(pilot_), home(pilot_)["state"]) == ([], "warm")
        begun, world.engine = time.monotonic(), "mute"
        until(lambda: home(pilot_)["state"] == "slow")
        assert time.monotonic() - begun < LEFT_S + 2
        assert ("POST", "/v1/completions", "home:80") in world.engine_asked
        assert left(pilot_) == [*SIZES], "all of them, however slow the VM is"
        assert left(pilot_, "vm") == ["picture"], "it is the next one; 400 s are out of time"
        assert "nothing moves" in home(pilot_)["error"]
        until(lambda: bool(world.daemon.asked), "those who hang there are freed")
        until(lambda: any(line.get("freed") for line in pilot_.log()), "it is logged")
        assert "gives no token" in next(line["message"] for line in pilot_.log() if line.get("freed"))
        world.looked(4)
        assert len(world.daemon.asked) == 1, "once"
        world.in_flight["home"] = 0
        world.looked(4)
        asked = len(world.engine_asked)
        world.engine = "works"
        until(lambda: home(pilot_)["state"] == "warm", "it is tried without demand")
        assert world.engine_asked[asked:].count(("POST", "/v1/completions", "home:80")) >= 3
        assert left(pilot_) == []
        assert len(world.daemon.asked) == 1
        assert pilot_.moves("home") == [("down", "warm"), ("warm", "slow"), ("slow", "warm")]


@pytest.mark.slow
def test_nothing_is_freed_while_another_service_works_at_home(world: World) -> None:
    world.spoken = 1
    with piloted(world, **WATCHED) as pilot_:
        works(pilot_)
        world.in_flight["home"], world.engine = 1, "mute"
        until(lambda: home(pilot_)["state"] == "slow")
        world.looked(8)
        assert world.daemon.asked == []
        world.spoken = 0
        until(lambda: bool(world.daemon.asked), "the other service is done")


def test_a_home_that_answers_500_is_left_and_a_poisonous_request_leaves_it(world: World) -> None:
    with piloted(world, **WATCHED) as pilot_:
        works(pilot_)
        world.in_flight["home"] = 1
        for errors in (3, 4, 9):
            tried = world.engine_asked.count(("POST", "/v1/completions", "home:80"))
            world.engine_errors = errors
            until(lambda n=tried: world.engine_asked.count(("POST", "/v1/completions", "home:80")) > n)
            world.looked(3)
            assert (home(pilot_)["state"], left(pilot_)) == ("warm", [])
        world.engine, world.engine_errors = "fails", 12
        until(lambda: home(pilot_)["state"] == "slow")
        assert left(pilot_) == [*SIZES]
        assert home(pilot_)["reason"] == "it is sick: try: HTTP 500"
        world.looked(6)
        assert world.daemon.asked == [], "it answers: nothing hangs"


@pytest.mark.slow
def test_answers_of_500_make_the_vm_prove_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp counts no errors, so Caddy's count is the doubt. A busy VM isn't asked for a token."""
    token = 200

    async def answers(asked: Asked) -> Reply:
        if asked.path == "/metrics":
            return 200, f"llamacpp:prompt_tokens_total 1\nllamacpp:n_decode_total {len(vm.asked)}\n"
        return token, "{}"

    vm = Toy(answers)
    world.toys.append(vm)
    world.run(vm.start())
    monkeypatch.setitem(DIALS, "vm", f"127.0.0.1:{vm.port}")
    world.error_codes = {500: 1}
    with piloted(world, **WATCHED, VM_STUCK_S=60, VM_PROMPT="10 10") as pilot_:
        works(pilot_)
        world.in_flight |= {"home": 4, "vm": 1}
        until(lambda: vm.paths().count("/metrics") >= 2)
        assert "/v1/completions" not in vm.paths()
        world.error_codes = {500: 2}
        until(lambda: "/v1/completions" in vm.paths())
        world.looked(3)
        assert pilot_.status()["lanes"]["vm"]["state"] == "warm"
        token, world.error_codes = 500, {500: 3}
        until(lambda: pilot_.status()["lanes"]["vm"]["state"] == "slow")
        assert left(pilot_, "vm") == [*SIZES]
        assert [pilot_.get(f"/lane/refuse/{size}")[0] for size in SIZES] == [503] * 3, "sick is not slow"
        token = 200
        world.in_flight["vm"] = 0
        until(lambda: pilot_.status()["lanes"]["vm"]["state"] == "warm")


@pytest.mark.slow
def test_a_slow_home_is_left_for_those_who_are_sooner_elsewhere(world: World) -> None:
    """The VM takes 6 s for a short text, 30 for a long one, 400 for a picture."""
    with piloted(world, **WATCHED) as pilot_:
        works(pilot_)
        world.in_flight["home"] = 1
        until(lambda: world.engine_asked.count(("GET", "/metrics", "llm")) >= 2)
        world.first_token_s = 20.0
        until(lambda: home(pilot_)["state"] == "slow")
        world.in_flight["home"] = 0
        world.looked(2)
        assert left(pilot_) == ["short"]
        assert left(pilot_, "vm") == ["long", "picture"]
        assert home(pilot_)["expected_first_token_s"]["picture"] >= 20
        until(lambda: home(pilot_)["state"] == "warm", "one token comes at once, so it recovers")
        assert world.daemon.asked == []


def test_a_home_whose_metrics_nobody_finds_is_not_watched(world: World) -> None:
    unwatched: dict[str, Any] = {**WATCHED, "HOME_HOST": ""}
    with piloted(world, **unwatched) as pilot_:
        works(pilot_)
        world.in_flight["home"], world.engine = 2, "mute"
        world.run(asyncio.sleep(3))
        assert (world.engine_asked, home(pilot_)["state"]) == ([], "warm")
