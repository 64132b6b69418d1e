"""The running pilot and home's tunnel: shut where packets vanish and requests hang, left alone in every other case."""

import time

import pytest

from tests.gateway.pilot.running import piloted
from tests.gateway.pilot.world import World
from tests.kit import until


def test_dead_tunnel_is_shut_once_an_outage(world: World) -> None:
    with piloted(world) as pilot_:
        world.in_flight["home"] = 2
        world.probed(2)
        begun = time.monotonic()
        world.home = "black hole"
        until(lambda: bool(world.daemon.asked))
        assert time.monotonic() - begun > 1.5, "three probes without an answer, half a second apart"
        asked = world.daemon.asked[0]
        assert (asked.method, asked.path) == ("POST", "/localapi/v0/shutdown")
        assert asked.headers["host"] == "local-tailscaled.sock"
        world.probed(6)
        assert len(world.daemon.asked) == 1
        world.in_flight["home"] = 0
        world.looked(2)
        world.home, answered = "answers", world.answered
        until(lambda: world.answered > answered)
        assert pilot_.status()["tunnel"] == {"shutdowns": 1}
        world.in_flight["home"], world.home = 1, "black hole"
        until(lambda: len(world.daemon.asked) == 2, "the second outage is another one")


@pytest.mark.parametrize(
    ("home", "in_flight"), [("fails", 2), ("slow", 2), ("refuses", 2), ("answers", 2), ("black hole", 0)]
)
def test_living_or_idle_home_is_not_shut(world: World, home: str, in_flight: int) -> None:
    world.home = home
    with piloted(world):
        world.in_flight["home"] = in_flight
        if in_flight:
            world.probed(8)
        else:
            world.looked(14)
            assert world.probes == 0, "there is nothing to rescue"
        assert world.daemon.asked == []


def test_home_that_accepts_and_is_silent_is_shut_later(world: World) -> None:
    world.home = "silent"
    with piloted(world):
        begun = time.monotonic()
        world.in_flight["home"] = 1
        until(lambda: bool(world.daemon.asked))
        assert time.monotonic() - begun > 4, "a busy home may take its time"


def test_without_burst_home_s_tunnel_is_still_freed(world: World) -> None:
    """For a request to any service at home; and nothing is asked of Google."""
    with piloted(world, BURST_URL="", BURST_DIAL="", PILOT_WAKE="never") as pilot_:
        world.waiting, world.home = 3, "black hole"
        world.looked()
        assert world.daemon.asked == []
        world.spoken = 1
        until(lambda: bool(world.daemon.asked))
        assert list(pilot_.status()["lanes"]) == ["home", "vm"]
        assert "burst" not in pilot_.get("/metrics")[1]
        assert world.metadata.asked == world.burst.asked == []
