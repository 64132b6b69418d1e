"""What breaks while the gateway serves, and what its callers see of it.

Owns: checks; each returns what callers saw, in a few words. Does not own: the world they run in.
"""

import time
from typing import Final

from components import ports
from tests.tailnet import network
from tests.tailnet.gateway import Declared, Gateway, Seen, declared, lost, told
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


def home_machine_restarted(world: World, *plants: Plant) -> str:
    """Nothing tells the tunnel that home's connections are gone; the pilot finds the silence before home is back."""
    with world.gateway(*plants) as gateway:
        gateway.on_home()
        held = world.held_at_home(gateway)
        world.control.tell(key=NO_KEY)
        with gateway.callers() as seen:
            # Without power for 3 s: nobody says goodbye, and home's kernel forgets every connection.
            world.home.stop()
            world.wires.home.forget_connections(ports.INGRESS)
            time.sleep(3)
            world.home.start()
            gateway.on_home()
        until(held.done, "the hanging request is rescued", RESCUE_S)
        answer = held.result()
    lost(seen)
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


def _black_holed(world: World, plants: tuple[Plant, ...], stack: Declared) -> str:
    with world.gateway(*plants, stack=stack) as gateway:
        gateway.on_home()
        held = world.held_at_home(gateway)
        with gateway.callers() as seen, world.wires.swallowed(*HOME_VANISHED):
            until(held.done, "the hanging request is rescued", RESCUE_S)
            time.sleep(2)
        answer = held.result()
        back = gateway.on_home()
    lost(seen)
    assert (answer.status, answer.lane) == (200, "vm"), answer
    slow = _slow_until(seen)
    return (
        f"{told(seen)}; slow only for the first {slow:.1f} s; a request at home: vm in {answer.seconds:.1f} s; "
        + f"back {back:.1f} s after the hole"
    )


def _slow_until(seen: list[Seen]) -> float:
    """When the last caller came who had to wait, seconds."""
    late = max((one.at for one in seen if one.answer.seconds > 1), default=0.0)
    assert late < 2.5, f"still slow for who came {late:.1f} s after the first"
    return late


def home_black_holed(world: World, *plants: Plant) -> str:
    """Packets vanish. The pilot ends the daemon: what hangs is repeated on the VM, packets or not."""
    return _black_holed(world, plants, declared(KEY))


def home_black_holed_beside_burst(world: World, *plants: Plant) -> str:
    return _black_holed(world, plants, declared(KEY, "home", "burst", "vm"))


def home_black_holed_and_no_pilot(world: World, *plants: Plant) -> str:
    """The pilot dead: who is at home hangs as long as the hole lasts; who comes 2 s later doesn't notice."""

    def dead(gateway: Gateway) -> None:
        gateway.change("pilot", command=("sleep",), args=("600",))

    with world.gateway(dead, *plants) as gateway:
        gateway.on_home()
        held = world.held_at_home(gateway)
        with gateway.callers() as seen:
            with world.wires.swallowed(*HOME_VANISHED):
                time.sleep(HOLE_S)
            assert not held.done(), "nobody is there to free it"
            world.tailnet.home_lane.release()
            back = gateway.on_home()
        answer = held.result()
    lost(seen)
    assert answer.status == 200, answer
    return f"{told(seen)}; slow only for the first {_slow_until(seen):.1f} s; back after {back:.1f} s"


CHECKS = [
    home_daemon_restarted,
    home_machine_restarted,
    control_server_gone,
    tunnel_daemon_killed,
    home_black_holed,
    home_black_holed_beside_burst,
    home_black_holed_and_no_pilot,
]
