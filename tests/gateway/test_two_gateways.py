"""Two instances of the declared gateway in front of the same lanes, as with `gateway.max_instances: 2`.

Both are real, and one does not know of the other. Cloud Run gives each a loopback of its own; here the second one's
listeners are on another address of the same loopback.
"""

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from components import ports
from components.settings import Settings
from tests.gateway.routing import environment, patient, rendered, settings
from tests.gateway.world import World, world
from tests.kit import until

SECOND = "127.0.0.5"
OWN = re.compile(rf"127\.0\.0\.1:(?=0*(?:{'|'.join(map(str, set(ports.GATEWAY) - {ports.SOCKS5, ports.PILOT}))})\b)")
"""Tunnel and pilot are toys, and serve both."""
CALLERS = 24
SLOTS = 5
"""Odd: the shares are rounded down."""


@pytest.fixture(scope="module")
def lanes() -> Iterator[World]:
    with world() as toys:
        yield toys


def of_two(**changes: object) -> dict[str, Any]:
    """Settings of two instances; all that waits is given up soon."""
    gateway = {"max_instances": 2, "wait_s": 2, "timeout_s": 60, "console": False}
    values = {"clients": [{"name": "demo"}], "gateway": gateway, "home": {"max_requests": SLOTS}}
    return values | {"vm": {"max_requests": SLOTS, "machine_type": "c3-highcpu-8"}} | changes


def busiest(here: World, values: dict[str, Any], served: int) -> tuple[dict[int, int], int, int]:
    """Answers by status, and the most requests at a time at home and on the VM, when everybody calls at once.

    Who gets a slot keeps it until all others have been refused: by then they have looked for one all the time. The
    `served`, as many as the shares hold, come one by one: Caddy looks at a limit and counts in two steps, so that of
    several who come in one moment one more may pass.
    """
    chosen = settings(**values)
    config, other = patient(rendered(chosen)), World(here.home, here.burst, here.vm, here.tunnel, here.pilot)
    moved = json.loads(OWN.sub(f"{SECOND}:", json.dumps(config)))
    found: list[int] = []

    def call(gateway: World) -> None:
        found.append(gateway.call().status)

    with here.caddy(config, environment(chosen)), other.caddy(moved, environment(chosen), heal=False):
        here.home.behaviour.hold = here.vm.behaviour.hold = True
        callers = [threading.Thread(target=call, args=(gateway,)) for gateway in (here, other) * (CALLERS // 2)]
        for number, caller in enumerate(callers, start=1):
            caller.start()
            if number <= served:
                until(partial(taken, here, number), f"{number} have a slot")
        until(lambda: len(found) + here.home.running + here.vm.running == CALLERS, "all others are refused")
        most = here.home.most, here.vm.most
        here.home.release()
        here.vm.release()
        for caller in callers:
            caller.join(here.patience)
    return {status: found.count(status) for status in sorted(set(found))}, *most


def taken(here: World, number: int) -> bool:
    """Whether this many requests are at the lanes."""
    return here.home.running + here.vm.running == number


def check_no_lane_gets_more_than_it_takes(here: World, values: dict[str, Any]) -> None:
    statuses, home, vm = busiest(here, values, served=2 * 2 * (SLOTS // 2))
    assert max(home, vm) <= SLOTS, f"home had {home} requests at a time, the VM {vm}"
    assert statuses == {200: home + vm, 503: CALLERS - home - vm}


def test_two_gateways_share_the_lanes(lanes: World) -> None:
    check_no_lane_gets_more_than_it_takes(lanes, of_two())


def test_without_the_share_they_would_ask_for_twice_as_much(lanes: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "share", whole)
    with pytest.raises(AssertionError, match=r"home had 1\d requests at a time, the VM 1\d"):
        check_no_lane_gets_more_than_it_takes(lanes, of_two())


def check_a_client_keeps_its_limit(here: World) -> None:
    statuses, home, vm = busiest(here, of_two(clients=[{"name": "demo", "max_requests": 3}]), served=2)
    assert home + vm <= 3, f"the client had {home + vm} requests at a time"
    assert statuses == {200: home + vm, 429: CALLERS - home - vm}


def test_two_gateways_share_a_client_s_limit(lanes: World) -> None:
    check_a_client_keeps_its_limit(lanes)


def test_without_the_share_a_client_would_have_twice_its_limit(lanes: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "share", whole)
    with pytest.raises(AssertionError, match=r"the client had [67] requests at a time"):
        check_a_client_keeps_its_limit(lanes)


def whole(_: Settings, count: int) -> int:
    """In place of the share."""
    return count
