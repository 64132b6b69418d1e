"""The line: who waits for a slot is served in order, and who hangs up is gone at once. Real Caddy, real pilot."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from components.gateway.caddy import line
from components.gateway.caddy.config import ADMIN
from tests.gateway.piloted import in_line, piloted
from tests.gateway.routing import (
    LARGEST_REPLAYED,
    SMALL,
    WAIT_S,
    environment,
    patient,
    rendered,
    settings,
    sha256,
)
from tests.gateway.world import KEY, Answer, World, world
from tests.kit import until

MIB = 1024 * 1024
LONG = {"wait_s": 60, "timeout_s": 120}
ONE_SLOT = settings(lanes=["home"], home={"max_requests": 1}, gateway=LONG)


@pytest.fixture(scope="module")
def toys() -> Iterator[World]:
    with world() as here:
        yield here


class Callers:
    """Callers in threads of their own."""

    def __init__(self, here: World) -> None:
        self._here = here
        self._threads: list[threading.Thread] = []
        self.answers: dict[str, Answer] = {}

    def call(self, name: str, body: bytes = SMALL) -> None:
        def run() -> None:
            self.answers[name] = self._here.call(body=body, X_Request_Id=name)

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def stand_in_line(self, names: Sequence[str], body: bytes = SMALL) -> None:
        """One after the other: each is there before the next one calls."""
        for place, name in enumerate(names, start=in_line() + 1):
            self.call(name, body)
            until(lambda place=place: in_line() == place, f"{name} is in line")

    def served(self) -> dict[str, Answer]:
        for thread in self._threads:
            thread.join(self._here.patience)
        return self.answers


def names(count: int) -> list[str]:
    return [f"caller-{number:03d}" for number in range(count)]


def served(here: World, asked: Sequence[str]) -> list[str]:
    """The callers in the order in which home got their requests."""
    ids = [request.headers.get("x-request-id", "") for request in here.home.received]
    return [name for name in ids if name in asked]


def overtaken(asked: Sequence[str], order: Sequence[str]) -> int:
    """By how many that came later the unluckiest one was overtaken."""
    place = {name: number for number, name in enumerate(order)}
    return max(sum(place[later] < place[name] for later in asked[number + 1 :]) for number, name in enumerate(asked))


def hang_up_in_line(here: World, count: int, body: bytes) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    with contextlib.ExitStack() as open_:
        for _ in range(count):
            caller = open_.enter_context(socket.create_connection(("127.0.0.1", here.port), timeout=here.patience))
            caller.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: in_line() == count, f"{count} callers wait")


def memory_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def requests(here: World, dial: str) -> int:
    rows = json.loads(here.admin("/reverse_proxy/upstreams"))
    return next(row["num_requests"] for row in rows if row["address"] == dial)


def test_who_hangs_up_in_line_is_gone_and_so_is_his_body(toys: World) -> None:
    """Three times 40 callers with 3 MiB each: without the line, Caddy would keep all of them for `wait_s`."""
    body, memory = os.urandom(3 * MIB), list[float]()
    with piloted(toys, ONE_SLOT) as _, toys.held(toys.home, 1):
        caddy = next(int(path.name) for path in Path("/proc").iterdir() if _is_caddy(path, toys.folder))
        for _ in range(3):
            hang_up_in_line(toys, 40, body)
            until(lambda: in_line() == 0, "all of them are gone from the line")
            until(lambda: requests(toys, line.DIAL) == 0, "and from Caddy")
            memory.append(memory_mib(caddy))
    assert memory[2] < memory[0] + 40 * 3 / 2, memory
    assert toys.home.begun <= 2, "nobody else got to a lane"


@pytest.mark.parametrize("lane", ["home", pytest.param("vm", marks=pytest.mark.slow)])
def test_without_the_pilot_who_hangs_up_is_gone_too(toys: World, lane: str) -> None:
    """Caddy's own waiting would keep each of them, with his body, for `wait_s`: 60 s. The VM alone has no pilot."""
    busy, body = {"home": toys.home, "vm": toys.vm}[lane], os.urandom(3 * MIB)
    chosen = settings(lanes=[lane], home={"max_requests": 1}, vm={"max_requests": 1, "gpu": "t4"}, gateway=LONG)
    config = patient(rendered(chosen))
    config["admin"] = {"listen": ADMIN, "config": {"persist": False}}
    config["apps"]["http"]["metrics"] = {}
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    with toys.caddy(config, environment(chosen), first=lane), toys.held(busy, 1):
        toys.pilot.down()
        with contextlib.ExitStack() as open_:
            for _ in range(20):
                caller = open_.enter_context(socket.create_connection(("127.0.0.1", toys.port), toys.patience))
                caller.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: in_caddy(toys) == 21, "all of them wait")
        until(lambda: in_caddy(toys) == 1, "nobody is left but the one who is served")
    assert busy.begun <= 2, "nobody else got to a lane"


def in_caddy(here: World) -> int:
    """Callers' requests that have or want a lane."""
    pattern = r'caddy_http_requests_in_flight{handler="reverse_proxy",server="api"} (\d+)'
    return sum(map(int, re.findall(pattern, here.admin("/metrics"))))


def _is_caddy(path: Path, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.name.isdecimal() and str(folder / "caddy.json").encode() in (path / "cmdline").read_bytes()
    return False


def test_callers_are_served_in_the_order_in_which_they_came(toys: World) -> None:
    asked, callers = names(15), Callers(toys)
    with piloted(toys, ONE_SLOT):
        with toys.held(toys.home, 1):
            callers.stand_in_line(asked)
        answers = callers.served()
        order = served(toys, asked)
    assert {answer.status for answer in answers.values()} == {200}
    # Whose turn it is comes back to the server, and two on their way may change places on a busy machine. Without the
    # line the order is any, and the unluckiest one is overtaken by about ten.
    assert overtaken(asked, order) <= 4, order


def test_newcomers_overtake_hardly_anybody(toys: World) -> None:
    """They find a slot free in the moment before the caller whose turn it is takes it."""
    asked, callers = names(20), Callers(toys)
    with piloted(toys, ONE_SLOT):
        with toys.held(toys.home, 1):
            callers.stand_in_line(asked)
        toys.home.behaviour.delay = 0.2
        late = [f"late-{number:03d}" for number in itertools.islice(itertools.count(), 30)]
        for name in late:
            callers.call(name)
            time.sleep(0.05)
        answers = callers.served()
        order = served(toys, [*asked, *late])
    assert {answer.status for answer in answers.values()} == {200}
    assert overtaken([*asked, *late], order) <= 10, order


def test_the_whole_body_is_there_after_the_line(toys: World) -> None:
    callers = Callers(toys)
    with piloted(toys, ONE_SLOT):
        with toys.held(toys.home, 1):
            callers.stand_in_line(["large"], LARGEST_REPLAYED)
        assert callers.served()["large"].lane == "home"
        received = toys.home.received[-1]
    assert (received.length, received.sha256) == (len(LARGEST_REPLAYED), sha256(LARGEST_REPLAYED))
    assert not received.headers.keys() & {"x-line", "x-gate"}, "no lane is told of the line"


def test_who_waits_too_long_gets_the_same_503_as_ever(toys: World) -> None:
    chosen = settings(lanes=["home"], home={"max_requests": 1})
    with piloted(toys, chosen), toys.held(toys.home, 1):
        answer = toys.call()
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "no_lane", "5")
    assert answer.seconds >= WAIT_S


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_without_the_pilot_those_in_line_are_served_as_ever(toys: World, fate: signal.Signals) -> None:
    asked, callers = names(10), Callers(toys)
    with piloted(toys, ONE_SLOT, hasty=True) as pilot:
        with toys.held(toys.home, 1):
            callers.stand_in_line(asked)
            pilot.send_signal(fate)
        answers = callers.served()
        assert {answer.status for answer in answers.values()} == {200}
        assert sorted(served(toys, asked)) == asked
        with toys.held(toys.home, 1):
            callers.call("later")
            until(lambda: requests(toys, "home:80") == 1, "home is full")
        assert callers.served()["later"].status == 200, "the gate that it left shut lets everybody pass"


def test_no_caller_shuts_the_gate_for_himself_or_jumps_the_line(toys: World) -> None:
    with piloted(toys, ONE_SLOT):
        assert toys.call(X_Gate="0.1", X_Line="0 0 short home:80=99").lane == "home"
        assert not toys.home.received[-1].headers.keys() & {"x-line", "x-gate"}
