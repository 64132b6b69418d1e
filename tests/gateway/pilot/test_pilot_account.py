"""The running pilot's account of the lanes in its log, from which metrics are made: once a minute, and at its end."""

import asyncio
from typing import Any

import pytest

from tests.gateway.pilot.running import HOME_SECONDS, Running, piloted
from tests.gateway.pilot.world import World
from tests.kit import until

WATCHED: dict[str, Any] = {"HOME_HOST": "llm", "HOME_SECONDS": HOME_SECONDS, "HOME_CAPACITY": 4}


def accounts(pilot_: Running) -> dict[str, dict[str, Any]]:
    lines = [line for line in pilot_.log() if line["message"] == "account"]
    found = {line["lane"]: line for line in lines}
    assert len(lines) == len(found), "one line a lane"
    return found


def test_its_end_is_no_loss(world: World) -> None:
    """Nothing before, for no minute has passed: what a short life counted stands in the last lines."""
    with piloted(world, **WATCHED) as pilot_:
        until(lambda: pilot_.status()["lanes"]["home"]["state"] == "warm")
        world.in_flight["home"], world.first_token_s = 3, 0.25
        # The first look begins the count, and each one finds an answer more.
        until(lambda: world.engine_asked.count(("GET", "/metrics", "llm")) >= 4)
        until(lambda: pilot_.status()["lanes"]["home"]["first_token_s"] == 0.25)
        assert not [line for line in pilot_.log() if line["message"] == "account"]
        pilot_.stop()
        told = accounts(pilot_)
        home = told["home"]
        assert (home["severity"], home["state"], home["in_flight"], home["first_token_s"]) == ("INFO", "warm", 3, 0.25)
        answers = home["answer_tokens"] // 5
        assert answers >= 3
        assert (home["prompt_tokens"], home["answer_tokens"]) == (20 * answers, 5 * answers)
        burst = {key: value for key, value in told["burst"].items() if key not in ("time", "severity", "message")}
        assert burst == {"lane": "burst", "state": "cold", "in_flight": 0, "prompt_tokens": 0, "answer_tokens": 0}
        assert "line" not in {line["message"] for line in pilot_.log()}, "nobody waited"


@pytest.mark.parametrize("answers", [True, False])
def test_the_longest_wait_in_line_is_told(world: World, *, answers: bool) -> None:
    """Also when the pilot has not looked at the line since he came, for Caddy doesn't tell what is taken."""
    with piloted(world, **WATCHED) as pilot_:
        world.in_flight |= {"home": 4}
        world.caddy_wedged = not answers

        async def wait() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", pilot_.port)
            head = "POST /line HTTP/1.1\r\nHost: x\r\nX-Line: 3000 60 short home:80=4\r\nContent-Length: 0\r\n\r\n"
            writer.write(head.encode())
            await writer.drain()
            try:
                await reader.read(1)
            finally:
                writer.close()

        waiting = asyncio.run_coroutine_threadsafe(wait(), world.loop)
        until(lambda: pilot_.status()["line"]["longest_s"] > 3)
        pilot_.stop()
        waiting.result(10)
        [line] = [line for line in pilot_.log() if line["message"] == "line"]
        assert line["longest_s"] > 3, "he was 3 s old when he came"
