"""The running pilot and those who ask it: at once whatever hangs, and a sentence where it can't start."""

import json
import re
import socket
import subprocess
import sys
import time

import pytest

from tests.gateway.pilot.running import HOME_SECONDS, environment, piloted, program
from tests.gateway.pilot.world import DIALS, Toy, World
from tests.kit import WAIT_S, until


def test_wedged_neighbours_delay_no_answer(world: World) -> None:
    world.metadata_wedged = world.caddy_wedged = True
    world.home = "black hole"
    with piloted(world) as pilot_:

        def answers_beside(wedged: Toy) -> bool:
            """While one and the same question to the neighbour stays open."""
            asked = len(wedged.asked)
            for path in ("/lane/burst", "/lane/vm/short", "/lane/refuse/picture", "/ready", "/status", "/metrics"):
                pilot_.get(path)
            return wedged.running > 0 and len(wedged.asked) == asked

        for neighbour in (world.admin, world.metadata):
            until(lambda asked=neighbour: answers_beside(asked))
        until(lambda: len(world.admin.asked) >= 3)
        assert pilot_.get("/lane/burst")[0] == 503
        assert pilot_.status()["caddy"] == {"seen": False, "error": "no answer in time"}
        world.metadata_wedged = world.caddy_wedged = False
        world.in_flight["vm"] = 2
        pilot_.reaches("warm")


@pytest.mark.parametrize("question", ["/lane/burst", "/lane/vm/long", "/lane/refuse/short"])
def test_it_is_ready_once_all_of_caddy_s_handlers_asked(world: World, question: str) -> None:
    with piloted(world) as pilot_:
        world.looked(2)
        assert pilot_.get("/ready")[0] == 503
        asked = time.monotonic()
        pilot_.get(question)
        until(lambda: pilot_.get("/ready")[0] == 200)
        assert time.monotonic() - asked > 0.2, "Caddy's other handlers have not asked yet"


def test_status_and_metrics_show_every_lane(world: World) -> None:
    world.checked = {DIALS["home"]: 503}
    with piloted(world, HOME_SECONDS=HOME_SECONDS) as pilot_:
        world.in_flight |= {"home": 1, "vm": 2}
        pilot_.reaches("warm")
        until(lambda: pilot_.status()["lanes"]["vm"]["state"] == "warm")
        shown = pilot_.status()
        assert list(shown["lanes"]) == ["home", "burst", "vm"]
        home, burst, vm = shown["lanes"].values()
        assert (home["state"], home["error"], home["in_flight"]) == ("down", "its check says 503", 1)
        assert (vm["state"], vm["in_flight"], vm["capacity"]) == ("warm", 2, 2)
        assert (burst["wakes"], burst["error"], burst["first_token_s"], burst["capacity"]) == (1, "", None, 4)
        assert abs(burst["since"] + burst["seconds"] - time.time()) < 5
        assert shown["token"]["error"] == ""
        assert abs(shown["token"]["expires"] - time.time() - 3600) < 60
        _, text = pilot_.get("/metrics")
        for line in text.splitlines():
            assert re.fullmatch(r"# TYPE pilotlight_\w+ (gauge|counter)|pilotlight_\w+(\{[^{}]+\})? [0-9.e+-]+", line)
        assert 'pilotlight_lane_state{lane="burst",state="warm"} 1\n' in text
        assert 'pilotlight_lane_state{lane="home",state="warm"} 0\n' in text
        assert 'pilotlight_lane_in_flight{lane="vm"} 2\n' in text
        assert vm["expected_first_token_s"] == {"short": 9.36, "long": 46.8, "picture": 624}
        assert burst["expected_first_token_s"] == {"short": 0.2, "long": 0.6, "picture": 1}
        assert set(home["expected_first_token_s"].values()) == {None}, "it can't come"
        assert 'pilotlight_expected_first_token_seconds{lane="vm",size="long"} 46.8' in text
        assert 'pilotlight_expected_first_token_seconds{lane="home"' not in text
        assert 'pilotlight_lane_transitions_total{lane="burst",from="cold",to="warming"} 1\n' in text
        kinds = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(kinds) == len(set(kinds))
        assert pilot_.get("/nothing")[0] == 404


def test_request_with_a_body_ends_its_connection(world: World) -> None:
    """What follows a request on the same connection must not be taken for another one."""
    with piloted(world) as pilot_, socket.create_connection(("127.0.0.1", pilot_.port), WAIT_S) as raw:
        raw.sendall(
            b"GET /lane/burst HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\nGET /status HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
        assert answer.count(b"HTTP/1.1") == 1
        assert b"Connection: close" in answer


def test_wrong_environment_ends_it_with_a_sentence(world: World) -> None:
    changed = environment(world, 1, VM_CAPACITY="many")
    del changed["PILOT_WAKE"]
    done = subprocess.run(
        [sys.executable, program(world)], env=changed, capture_output=True, timeout=WAIT_S, check=False
    )
    line = json.loads(done.stderr)
    assert (done.returncode, line["severity"]) == (2, "CRITICAL")
    assert "PILOT_WAKE is not set" in line["message"]
    assert "VM_CAPACITY is 'many'; it must be a whole number" in line["message"]


def test_taken_address_ends_it_with_a_sentence(world: World) -> None:
    taken = environment(world, world.checks.port)
    done = subprocess.run([sys.executable, program(world)], env=taken, capture_output=True, timeout=WAIT_S, check=False)
    assert done.returncode == 1
    assert "can't listen on 127.0.0.1" in json.loads(done.stderr.splitlines()[-1])["message"]
