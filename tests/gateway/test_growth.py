"""Machines that join a lane behind its one address: their slots are used while they are there, and not a moment before.

Real Caddy and real pilot; the toys stand for a balancer that leads each look to the next of the machines in turn.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from components.gateway.caddy import config as caddy_config
from components.gateway.caddy.upstreams import upstreams
from components.settings import Lane, Settings
from tests.gateway import piloted
from tests.gateway.backends import Lane as Toy
from tests.gateway.pilot import world as around
from tests.gateway.piloted import asked, in_line
from tests.gateway.routing import environment, patient, settings
from tests.gateway.world import VM_ADDRESS, World, world
from tests.kit import until

pytestmark = pytest.mark.slow
LOOKS = 4
"""Of the pilot, in which it might see a machine that isn't there."""
CALLERS = 6
VM = {"machine_type": "c3-highcpu-8", "max_requests": 1, "replicas": 2, "max_replicas": 4}


@pytest.fixture(scope="module")
def toys() -> Iterator[World]:
    with world() as here:
        yield here


class Machines:
    """Those behind a toy's address, who answer the pilot's looks in turn."""

    def __init__(self, toy: Toy, path: str, text: Callable[[int], str]) -> None:
        self.toy, self.up, self.looks = toy, 1, 0
        self._path, self._text, self._turn = path, text, itertools.count()
        self._usual = toy.checked
        toy.checked = self._checked  # type: ignore[method-assign]

    def _checked(self, path: str) -> tuple[int, bytes]:
        if path != self._path:
            return self._usual(path)
        self.looks += 1
        return 200, self._text(next(self._turn) % self.up).encode()

    def named(self, number: int) -> str:
        """Traefik says in a cookie which machine answers."""
        self.toy.check_headers = {"Set-Cookie": f"machine={number}; Path=/"}
        return "{}"

    def looked_at(self) -> None:
        """Until the pilot had its chances to see one more."""
        before = self.looks
        until(lambda: self.looks >= before + LOOKS, "the pilot looks")


def instances(here: World) -> Machines:
    """Of burst: vLLM's metrics say when its process began."""
    return Machines(here.burst, "/metrics", lambda number: f"process_start_time_seconds 1.79e9{number}\n")


def nodes(here: World) -> Machines:
    """At home: one of them answers each check, whoever asks."""
    found = Machines(here.home, "/health", lambda number: found.named(number))
    return found


def machines(here: World) -> Machines:
    """Of the VM's group: llama.cpp shows the tag that it was given."""
    return Machines(here.vm, "/v1/models", lambda number: f'{{"data":[{{"id":"m","tags":["boot-{number}"]}}]}}')


@contextlib.contextmanager
def gateway(here: World, chosen: Settings) -> Generator[None]:
    """Caddy and pilot; burst is the toy without TLS."""
    url = f"http://{here.burst.host}:{here.burst.port}"

    async def token(_: around.Asked) -> around.Reply:
        return 200, around.jwt(3600)

    metadata = around.Toy(token)
    here.tunnel.run(metadata.start())
    changed = {"VM_STUCK_S": "", "HOME_HOST": "", "TAILSCALED_SOCKET": "", "BURST_URL": url}
    if Lane.BURST not in chosen.lanes:
        changed["BURST_URL"] = ""
    changed |= {f"{each.lane.upper()}_FURTHER": each.told for each in upstreams(chosen, vm_address=VM_ADDRESS)}
    changed["GCE_METADATA_HOST"] = f"127.0.0.1:{metadata.port}"
    config = patient(caddy_config.render(chosen, vm_address=VM_ADDRESS, burst_url=url))
    try:
        with here.caddy(config, environment(chosen), first=""), piloted.pilot(here, chosen, **changed):
            until(lambda: here.call("GET", "/ready", None).status == 200, "Caddy serves")
            until(lambda: asked().get("caddy", {}).get("seen"), "the pilot sees Caddy")
            yield
    finally:
        assert metadata.server
        metadata.server.close()


class Callers:
    """Each asks once, one after the other: of two in one moment both may get the last slot."""

    def __init__(self, here: World, toy: Toy, count: int) -> None:
        self.statuses: list[int] = []
        self._threads = [threading.Thread(target=self._call, args=(here,)) for _ in range(count)]
        before = toy.running + in_line()
        for number, thread in enumerate(self._threads, start=before + 1):
            thread.start()
            until(lambda number=number: toy.running + in_line() >= number, "the caller is at the toy or in line")

    def _call(self, here: World) -> None:
        self.statuses.append(here.call().status)

    def served(self) -> None:
        for thread in self._threads:
            thread.join()
        assert self.statuses == [200] * len(self._threads), "nobody is stuck"


def slots_follow(here: World, lane: str, behind: Machines, slots: Callable[[int], int], most: int) -> None:
    """`slots`: of a lane by the machines that are up, of which there are `most` in the end."""
    toy = behind.toy
    toy.behaviour.hold = True
    callers = Callers(here, toy, CALLERS)
    for up in range(behind.up, most + 1):
        behind.up = up
        until(lambda up=up: (toy.running, in_line()) == (slots(up), CALLERS - slots(up)), f"{up} machines are full")
        behind.looked_at()
        assert toy.most == slots(up)
        assert asked()["lanes"][lane]["capacity"] == slots(up)
    toy.behaviour.hold = False
    toy.release()
    callers.served()
    toy.up()
    least = behind.up = most - 1
    with here.held(toy, 1):
        until(lambda: asked()["lanes"][lane]["capacity"] == slots(least), "the last machine counts no more")
        # Caddy asks twice as often.
        behind.looked_at()
        toy.most = 0
        callers = Callers(here, toy, CALLERS)
        until(lambda: (toy.running, in_line()) == (slots(least), CALLERS + 1 - slots(least)), "the rest is full")
        behind.looked_at()
        assert toy.most == slots(least)
    callers.served()


def of(lanes: list[str], **values: Any) -> Settings:
    waits = {"wait_s": 120, "timeout_s": 290, "console": False}
    return settings(lanes=lanes, gateway=waits, clients=[{"name": "demo"}], **values)


def test_an_instance_of_burst_brings_its_slots_when_it_is_seen_and_takes_them_along(toys: World) -> None:
    with gateway(toys, of(["burst"], burst={"max_requests": 2, "max_instances": 2, "wake": "pressure"})):
        slots_follow(toys, "burst", instances(toys), lambda up: 2 * up, most=2)


def test_a_machine_of_the_vm_s_group_does_so_beyond_those_that_always_run(toys: World) -> None:
    chosen = of(["home", "vm"], vm=VM)
    behind = machines(toys)
    behind.up = 2
    with gateway(toys, chosen):
        toys.home.down()
        until(lambda: asked()["lanes"]["vm"]["state"] == "warm", "the VM is up")
        slots_follow(toys, "vm", behind, lambda up: up, most=4)


def test_each_request_to_several_machines_has_a_connection_of_its_own(toys: World) -> None:
    def connections(toy: Toy) -> int:
        toy.reset()
        assert [toys.call().status for _ in range(3)] == [200] * 3
        assert len(toy.received) == 3
        return len({one.peer for one in toy.received})

    chosen = of(["home", "vm"], vm=VM)
    with gateway(toys, chosen):
        assert connections(toys.home) == 1, "a new one takes a way through the tunnel more"
        toys.home.down()
        until(lambda: asked()["lanes"]["vm"]["state"] == "warm", "the VM is up")
        assert connections(toys.vm) == 3, "the balancer can lead each to another machine"
    toys.home.up()
    with gateway(toys, of(["home", "vm"], vm={"machine_type": "c3-highcpu-8"})):
        toys.home.down()
        until(lambda: toys.call().status == 200, "the VM is up")
        assert connections(toys.vm) == 1
    toys.home.up()


def test_a_machine_at_home_does_so_and_callers_are_not_told_which(toys: World) -> None:
    with gateway(toys, of(["home"], home={"max_requests": 2, "nodes": 3})):
        slots_follow(toys, "home", nodes(toys), lambda up: 2 * up, most=3)
        toys.home.behaviour.headers = {"Set-Cookie": "machine=1; Path=/"}
        answer = toys.call()
        assert (answer.status, "set-cookie" in {name.lower() for name in answer.headers}) == (200, False)
