"""The running pilot and the machines behind one address: what one does says nothing about another."""

import itertools
from typing import Any

import pytest

from tests.gateway.pilot.running import HOME_SECONDS, Running, piloted
from tests.gateway.pilot.world import Asked, Reply, World
from tests.kit import until

BY_CHANCE = "abbbb"
"""Whom one look after the other reaches: more of them in a row, the other way round, than a verdict takes."""


class Instances:
    """Two of burst: `a` has long prompts to read, so that the pilot's token is late, and `b` nothing to do."""

    def __init__(self, world: World) -> None:
        self.works, self.looks, self.tokens = True, 0, 0
        world.burst.reply = self._answer

    async def _answer(self, asked: Asked) -> Reply:
        if asked.path == "/v1/completions":
            self.tokens += 1
            return None
        if asked.path != "/metrics":
            return 200, ""
        name = BY_CHANCE[self.looks % len(BY_CHANCE)]
        self.looks += 1
        read = self.looks if name == "a" and self.works else 0
        return 200, f"process_start_time_seconds 17900000{ord(name)}\nvllm:iteration_tokens_total_count {read}\n"


def warm(pilot_: Running, world: World) -> None:
    world.in_flight["vm"] = 2
    pilot_.reaches("warm")
    world.in_flight |= {"vm": 0, "burst": 3}


@pytest.mark.slow
def test_an_instance_without_work_says_nothing_about_one_that_works(world: World) -> None:
    with piloted(world) as pilot_:
        instances = Instances(world)
        warm(pilot_, world)
        until(lambda: instances.looks > 2 * len(BY_CHANCE), "each is looked at again and again")
        assert (pilot_.state, pilot_.moves()[-1]) == ("warm", ("warming", "warm"))
        instances.works = False
        pilot_.reaches("slow", 60)
        assert instances.tokens >= 1, "left by proof"


def test_burst_sleeps_on_while_another_machine_at_home_has_a_slot(world: World) -> None:
    """Traefik's cookie says which machine answered the check."""
    turn, machines = itertools.count(), 2

    async def answered(asked: Asked) -> Reply:
        at_home = asked.headers["x-lane"] == "home:80"
        cookie = f"Set-Cookie: machine={next(turn) % machines}; Path=/"
        return (200, "", cookie) if at_home else (200, "")

    world.checks.reply = answered
    places: dict[str, Any] = {
        "HOME_CAPACITY": 4,
        "HOME_FURTHER": "2*home:080=4 3*home:0080=4",
        "HOME_FULL": "4 8 12",
        "HOME_HOST": "llm",
    }
    with piloted(world, **places, HOME_SECONDS=HOME_SECONDS, PILOT_WAKE="first-fallback") as pilot_:
        until((world.folder / "id-token").exists)
        until(lambda: pilot_.status()["lanes"]["home"]["capacity"] == 8, "both machines are seen")
        assert [pilot_.get(f"/lane/home/{up}/short")[0] for up in (2, 3)] == [200, 503]
        world.in_flight["home"], world.waiting = 7, 1
        world.looked(6)
        assert pilot_.state == "cold"
        until(lambda: ("GET", "/metrics", "llm") in world.engine_asked, "its engine is looked at, too")
        world.looked(6)
        assert pilot_.status()["lanes"]["home"]["capacity"] == 8, "and counts no machine twice"
        world.in_flight["home"] = 8
        pilot_.reaches("warm")
