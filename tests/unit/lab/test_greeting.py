"""The first answer waits for the lane that the user expects, or says why another one gave it."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from lab import greeting
from lab.errors import LabError
from lab.greeting import Arrival, arrive, told, why_not
from lab.read import plan
from lab.read.stack import Stack

Said = tuple[int, str, dict[str, Any]]
"""Status, whose answer it is, and the lanes."""


def lane(state: str, seconds: float, error: str = "") -> dict[str, Any]:
    return {"state": state, "seconds": seconds, "error": error}


AWAY: Said = (503, "gateway", {})
DOWN: Said = (200, "gateway", {"home": lane("down", 0.1, "not asked yet"), "vm": lane("warm", 9)})
FRESH: Said = (200, "gateway", {"home": lane("warm", 0.3), "vm": lane("warm", 9)})
UP: Said = (200, "gateway", {"home": lane("warm", greeting.SEEN_S), "vm": lane("down", 9)})
BOTH: Said = (200, "gateway", {"home": lane("warm", 9), "vm": lane("warm", greeting.SEEN_S)})
COLD: Said = (200, "gateway", {"burst": lane("cold", 0.1), "vm": lane("down", 0.1)})
NO_PILOT: Said = (404, "gateway", {})
NO_GATEWAY: Said = (503, "", {})


def arrived(*says: Said, every: bool = False) -> tuple[Arrival, int]:
    """What came of a gateway that says this, its last words for ever, and how often it was asked."""
    asked = 0

    async def run() -> Arrival:
        words: Iterator[Said] = itertools.chain(says, itertools.repeat(says[-1]))

        async def answer(request: web.Request) -> web.Response:
            nonlocal asked
            asked += 1
            assert request.headers["Authorization"] == "Bearer sk-test"
            status, served, lanes = next(words)
            return web.json_response({"lanes": lanes}, status=status, headers={"X-Served-By": served})

        app = web.Application()
        app.router.add_get("/v1/lanes", answer)
        async with TestServer(app) as server:
            return await arrive(str(server.make_url("/v1")), "sk-test", every=every)

    return asyncio.run(run()), asked


@pytest.mark.parametrize(
    ("says", "lane"),
    [
        ([AWAY, DOWN, FRESH, UP], "home"),
        ([UP], "home"),
        ([COLD], "burst"),
        ([NO_PILOT], ""),
        ([NO_GATEWAY], ""),
    ],
)
def test_it_waits_as_long_as_waiting_can_help(says: list[Said], lane: str) -> None:
    arrival, asked = arrived(*says)
    assert (arrival.lane, asked) == (lane, len(says))
    assert arrival.wait_s < greeting.PATIENCE_S / 2


@pytest.mark.parametrize("says", [[AWAY, DOWN, UP, BOTH], [COLD, BOTH], [NO_PILOT]])
def test_it_waits_for_every_lane_where_it_is_told_so(says: list[Said]) -> None:
    assert arrived(*says, every=True)[1] == len(says)


@pytest.mark.parametrize(
    ("says", "why"),
    [(DOWN, "home's check has not passed yet (not asked yet)"), (AWAY, ""), (FRESH, "")],
)
def test_its_patience_ends(monkeypatch: pytest.MonkeyPatch, says: Said, why: str) -> None:
    monkeypatch.setattr(greeting, "PATIENCE_S", 0.3)
    arrival, asked = arrived(says)
    assert arrival.why_not == why
    assert asked > 1
    assert 0.3 <= arrival.wait_s < 3


def test_a_gateway_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(LabError, match="the gateway does not answer: "):
        asyncio.run(arrive("http://127.0.0.1:1/v1", "sk-test"))


def test_why_a_lane_gets_no_request() -> None:
    assert why_not("home", lane("warm", 0)) == ""
    assert (
        why_not("home", lane("down", 9, "its check says 502")) == "home's check has not passed yet (its check says 502)"
    )
    assert why_not("burst", lane("cold", 9)) == "burst is cold, and demand wakes it"


@pytest.mark.parametrize(
    ("arrival", "served", "last"),
    [
        (Arrival(0.5, 1.2, "home", ""), "home", "   first token after            0.25 s, served by home"),
        (Arrival(0.5, 0, "", ""), "vm", "   first token after            0.25 s, served by vm"),
        (Arrival(0.5, 15, "home", "home is away"), "vm", "   not by home: home is away"),
        (
            Arrival(0.5, 1.2, "home", ""),
            "vm",
            "   not by home: home was up, and the gateway chose otherwise; see the lab's folder `logs`",
        ),
    ],
)
def test_what_is_told_of_the_first_answer(arrival: Arrival, served: str, last: str) -> None:
    lines = told(arrival, 0.25, served)
    assert lines[0] == "   cold start of the gateway    0.50 s"
    assert ("   wait for home's check " in "\n".join(lines)) is bool(arrival.lane)
    assert lines[-1] == last


def test_the_small_model_s_time_is_never_taken_for_the_vm_s(stack_of: Callable[..., Stack]) -> None:
    stack = stack_of(lanes=["vm"], vm={"machine_type": "e2-highmem-2"})
    [first, *_] = greeting.truth(plan.read(stack), scripted=False)
    assert "the declared VM (e2-highmem-2) needs 65.2 s to the first token" in first
    assert greeting.truth(plan.read(stack_of(lanes=["home"])), scripted=False) == [
        "`python -m lab plan` says how late the declared machines answer"
    ]


def test_nobody_takes_the_small_model_s_words_about_a_picture_for_sight() -> None:
    assert "whatever it says of a picture is made up" in " ".join(greeting.sight(scripted=False))
    assert greeting.sight(scripted=True) == []
