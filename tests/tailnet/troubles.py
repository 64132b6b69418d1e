"""What breaks while the gateway serves, and what its callers see of it.

Owns: checks; each returns what callers saw, in a few words. Does not own: the world they run in.
"""

import time
from typing import Final

from components.tailnet.acl import INGRESS_PORT
from tests.tailnet import network
from tests.tailnet.gateway import Gateway, Seen, declared, lost, told
from tests.tailnet.tailnet import NO_KEY, until
from tests.tailnet.world import KEY, Plant, World

HOLE_S: Final = 6.0
HOME_VANISHED: Final = tuple((network.HOME, other) for other in (network.GATEWAY, network.CONTROL, network.RELAY))
RESCUE_S: Final = 8.0


def home_daemon_restarted(world: World, *plants: Plant) -> str:
    """Away for 3 s. A request at home waits: its connection is the kernel's, and outlives the daemon."""
    with world.gateway(*plants) as gateway:
        gateway.on_home()
        world.control.tell(key=NO_KEY)
        held = world.held_at_home(gateway)
        with gateway.callers() as seen:
            world.home.stop()
            time.sleep(3)
            world.home.start()
            back = gateway.on_home()
        world.tailnet.home_lane.release()
        answer = held.result()
    lost(seen)
    assert answer.status == 200, answer
    return (
        f"{told(seen)}; a request at home: {answer.lane} in {answer.seconds:.1f} s; back {back:.1f} s after its start"
    )


def _machine_restarts(world: World, gateway: Gateway) -> list[Seen]:
    """Home without power for 3 s: nobody says goodbye, and its kernel forgets every connection."""
    world.control.tell(key=NO_KEY)
    with gateway.callers() as seen:
        world.home.stop()
        world.wires.home.forget_connections(INGRESS_PORT)
        time.sleep(3)
        world.home.start()
        gateway.on_home()
    lost(seen)
    return seen


def home_machine_restarted(world: World, *plants: Plant) -> str:
    """A known limit: a request at home waits for an answer that never comes, until Cloud Run ends it."""
    with world.gateway(*plants) as gateway:
        gateway.on_home()
        held = world.held_at_home(gateway)
        seen = _machine_restarts(world, gateway)
        time.sleep(3)
        assert not held.done(), f"README says that it waits: {held.result()}"
    return f"{told(seen)}; A REQUEST AT HOME WAITS until Cloud Run's 300 s"


def home_machine_restarted_with_a_pilot(world: World, *plants: Plant) -> str:
    """The pilot finds the silence before home is back."""
    with world.gateway(*plants, stack=declared(KEY, "home", "burst", "vm")) as gateway:
        gateway.on_home()
        held = world.held_at_home(gateway)
        seen = _machine_restarts(world, gateway)
        answer = held.result()
    assert (answer.status, answer.lane) == (200, "vm"), answer
    return f"{told(seen)}; a request at home: vm in {answer.seconds:.1f} s"


def control_server_gone(world: World, *plants: Plant) -> str:
    """Nobody notices."""
    gone = [(machine, network.CONTROL) for machine in (network.GATEWAY, network.HOME)]
    with world.gateway(*plants) as gateway:
        gateway.on_home()
        with world.wires.swallowed(*gone), gateway.callers() as seen:
            time.sleep(HOLE_S)
    lost(seen)
    assert {one.answer.lane for one in seen} == {"home"}, told(seen)
    return told(seen)


def tunnel_daemon_killed(world: World, *plants: Plant) -> str:
    """The loop starts it again; a request at home is repeated on the VM."""
    with world.gateway(*plants) as gateway:
        gateway.on_home()
        held = world.held_at_home(gateway)
        with gateway.callers() as seen:
            gateway.kill_daemon()
            until(gateway.retries, "the loop has noticed")
            answer = held.result()
            back = gateway.on_home()
    lost(seen)
    assert (answer.status, answer.lane) == (200, "vm"), answer
    return f"{told(seen)}; a request at home: vm in {answer.seconds:.1f} s; back after {back:.1f} s"


def home_black_holed(world: World, *plants: Plant) -> str:
    """Packets vanish. Who is at home then hangs as long as they do; who comes 2 s later doesn't notice."""
    with world.gateway(*plants) as gateway:
        gateway.on_home()
        held = world.held_at_home(gateway)
        with gateway.callers() as seen:
            with world.wires.swallowed(*HOME_VANISHED):
                time.sleep(HOLE_S)
            world.tailnet.home_lane.release()
            back = gateway.on_home()
        answer = held.result()
    lost(seen)
    assert answer.status == 200, answer
    late = [one.at for one in seen if one.answer.seconds > 1]
    assert max(late, default=0) < 2.5, f"still slow for who came {max(late):.1f} s after the first"
    return f"{told(seen)}; slow only for the first {max(late, default=0):.1f} s; back after {back:.1f} s"


def home_black_holed_with_a_pilot(world: World, *plants: Plant) -> str:
    """With burst among the lanes, the pilot ends the daemon: what hangs is repeated on the VM, packets or not."""
    with world.gateway(*plants, stack=declared(KEY, "home", "burst", "vm")) as gateway:
        gateway.on_home()
        held = world.held_at_home(gateway)
        with gateway.callers() as seen, world.wires.swallowed(*HOME_VANISHED):
            until(held.done, "the hanging request is rescued", RESCUE_S)
        answer = held.result()
        back = gateway.on_home()
    lost(seen)
    assert (answer.status, answer.lane) == (200, "vm"), answer
    return f"{told(seen)}; a request at home: vm in {answer.seconds:.1f} s; back {back:.1f} s after the hole"


CHECKS = [
    home_daemon_restarted,
    home_machine_restarted,
    home_machine_restarted_with_a_pilot,
    control_server_gone,
    tunnel_daemon_killed,
    home_black_holed,
    home_black_holed_with_a_pilot,
]
