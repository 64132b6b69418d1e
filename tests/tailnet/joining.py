"""How a gateway comes into the tailnet and leaves it: keys, cold start, shutdown.

Owns: checks; each returns what callers saw, in a few words. Does not own: the world they run in.
"""

import contextlib
import re
import time
from collections.abc import Callable
from typing import Final

from components.tailnet.policy import GATEWAY
from tests.tailnet import network
from tests.tailnet.gateway import Gateway, declared, lost, told
from tests.tailnet.tailnet import NO_KEY, until
from tests.tailnet.world import KEY, Plant, World

PAUSES: Final = [1, 2, 4]
"""Seconds between the first tries, as the loop around the entrypoint announces them."""
CLOUD_RUN_KILLS_S: Final = 10.0
JOIN_S: Final = 5.0
ANSWER_S: Final = 1.0
"""What the model needs for the request that runs at the end."""


def _joins(world: World, plants: tuple[Plant, ...], made: str) -> str:
    """With the key `made` by the tailnet, as the stack passes it on."""
    with world.gateway(*plants, stack=declared(made)) as gateway:
        joined = until(lambda: world.control.online(GATEWAY), "the gateway has joined", JOIN_S)
        home = gateway.on_home()
        assert not gateway.retries()
    return f"joined at the first try, home answers {joined + home:.1f} s after Caddy listens"


def key_with_a_newline(world: World, *plants: Plant) -> str:
    return _joins(world, plants, f"{KEY}\n")


def key_with_blanks(world: World, *plants: Plant) -> str:
    return _joins(world, plants, f" \t {KEY}  ")


def _retried(gateway: Gateway) -> None:
    """Waits for the first tries: a line each, growing pauses, and the entrypoint's own word on why."""
    container = gateway.processes["tailscale"]
    until(lambda: len(gateway.retries()) >= len(PAUSES) or container.poll() is not None, "the loop tries again")
    assert container.poll() is None, "the container ended, and the instance with it"
    found = [int(seconds) for line in gateway.retries() for seconds in re.findall(r"next try in (\d+) s", line)]
    assert found[: len(PAUSES)] == PAUSES
    assert all("only the home lane needs it" in line for line in gateway.retries())


def _refused_then_right(world: World, plants: tuple[Plant, ...], spoil: Callable[[Gateway], None]) -> str:
    """The VM answers from the first request on; once the secret is right, home does, without a restart."""
    with world.gateway(spoil, *plants) as gateway:
        with gateway.callers() as seen:
            _retried(gateway)
        assert {(one.answer.status, one.answer.lane) for one in seen} == {(200, "vm")}, told(seen)
        gateway.key_file.write_text(KEY)
        back = gateway.on_home()
    return f"{told(seen)}; a line for each try, after pauses of 1, 2, 4 s; joined {back:.1f} s after the right key"


def wrong_key(world: World, *plants: Plant) -> str:
    return _refused_then_right(world, plants, lambda gateway: gateway.secret("tskey-wrong"))


def no_key(world: World, *plants: Plant) -> str:
    """Refused at once here; the real control server offers a login page, and the entrypoint gives up after 60 s."""
    return _refused_then_right(world, plants, lambda gateway: gateway.secret(""))


def revoked_key(world: World, *plants: Plant) -> str:
    """It joined with the key once; after a restart of the daemon it can't."""
    with world.gateway(*plants) as gateway:
        gateway.on_home()
        world.control.tell(key="tskey-new")
        gateway.kill_daemon()
        with gateway.callers() as seen:
            _retried(gateway)
        assert {one.answer.status for one in seen} == {200}, told(seen)
        assert seen[-1].answer.lane == "vm"
        gateway.key_file.write_text("tskey-new")
        back = gateway.on_home()
    return f"{told(seen)}; joined {back:.1f} s after the new key"


def _cold_start(world: World, plants: tuple[Plant, ...], *lanes: str, hidden: tuple[str, str], seconds: float) -> str:
    """Callers from the first moment on, while packets between two machines vanish for a while."""
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as swallowed:
        swallowed.enter_context(world.wires.swallowed(hidden))
        gateway = stack.enter_context(world.gateway(*plants, stack=declared(KEY, *lanes)))
        with gateway.callers() as seen:
            time.sleep(seconds)
            swallowed.close()
            back = gateway.on_home()
        lost(seen)
    return f"{told(seen)}; home {back:.1f} s after the way was free"


def cold_start_while_the_tunnel_comes_up(world: World, *plants: Plant) -> str:
    """The control server is away for the first 3 s; the VM answers."""
    return _cold_start(world, plants, "home", "vm", hidden=(network.GATEWAY, network.CONTROL), seconds=3)


def cold_start_without_another_lane(world: World, *plants: Plant) -> str:
    """The same with home alone: callers wait."""
    return _cold_start(world, plants, "home", hidden=(network.GATEWAY, network.CONTROL), seconds=3)


def cold_start_unheard_of(world: World, *plants: Plant) -> str:
    """Home hears of the new gateway late, so the first packets are lost: WireGuard tries again after 5 s."""
    return _cold_start(world, plants, "home", "vm", hidden=(network.HOME, network.CONTROL), seconds=3)


def cold_start_unheard_of_without_another_lane(world: World, *plants: Plant) -> str:
    return _cold_start(world, plants, "home", hidden=(network.HOME, network.CONTROL), seconds=3)


def _leaves(world: World, plants: tuple[Plant, ...], *hidden: tuple[str, str]) -> tuple[str, int]:
    """SIGTERM to all containers, with a request on its way at home; also: requests to log out that arrived."""
    with world.gateway(*plants) as gateway:
        gateway.on_home()
        world.control.tell(key=NO_KEY)
        before = world.control.logouts()
        held = world.held_at_home(gateway)
        with world.wires.swallowed(*hidden):
            ending = gateway.terminate(CLOUD_RUN_KILLS_S)
            time.sleep(ANSWER_S)
            world.tailnet.home_lane.release()
            took = ending.result()
            arrived = world.control.logouts() - before
        answer = held.result()
    assert all(seconds < CLOUD_RUN_KILLS_S for seconds in took.values()), f"killed after 10 s: {took}"
    assert answer.status == 200, f"the request at home: {answer}"
    ends = ", ".join(f"{name} in {seconds:.1f} s" for name, seconds in sorted(took.items()))
    return f"ended: {ends}; a request at home: {answer.lane} in {answer.seconds:.1f} s", arrived


def sigterm(world: World, *plants: Plant) -> str:
    """It logs out, which ends an ephemeral machine's registration at once."""
    saw, logouts = _leaves(world, plants)
    assert logouts == 1, f"{logouts} requests to log out reached the control server"
    return f"{saw}; logged out"


def sigterm_without_control_server(world: World, *plants: Plant) -> str:
    """Nobody to log out from: the machine goes with its time as an ephemeral one."""
    saw, logouts = _leaves(world, plants, (network.GATEWAY, network.CONTROL))
    assert logouts == 0
    return f"{saw}; not logged out"


CHECKS = [
    key_with_a_newline,
    key_with_blanks,
    wrong_key,
    no_key,
    revoked_key,
    cold_start_while_the_tunnel_comes_up,
    cold_start_without_another_lane,
    cold_start_unheard_of,
    cold_start_unheard_of_without_another_lane,
    sigterm,
    sigterm_without_control_server,
]
