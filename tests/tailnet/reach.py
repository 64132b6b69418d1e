"""What gets through the tunnel, and what doesn't.

Owns: checks; each returns what callers saw, in a few words. Does not own: the world they run in.
"""

import contextlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from components import ports
from components.tailnet.policy import CI, GATEWAY, HOME
from tests.gateway.backends import Behaviour, Lane
from tests.gateway.routing import sha256
from tests.tailnet import network
from tests.tailnet.gateway import LARGE, declared
from tests.tailnet.tailnet import Daemon, dial, until
from tests.tailnet.world import KEY, Plant, World

MTU: Final = 1280
AROUND: Final = 20 + 8 + 16 + 16
"""Bytes that IPv4, UDP and WireGuard (its header, its seal) add to a packet of the tunnel."""
WIREGUARD_DATA: Final = b"\x04\0\0\0"
OWNER: Final = "owner"
ANOTHER: Final = "another gateway"
UNDERSTOOD: Final = {"tagOwners", "acls", "grants", "ssh", "nodeAttrs", "tests"}
"""Parts of the policy: `acls` and `grants` are compiled into the filter, `tests` into dials; the rest opens no port."""


def _request_and_large_body(world: World, plants: tuple[Plant, ...], *, relayed: bool) -> str:
    vanish = [(network.GATEWAY, network.HOME)] if relayed else []
    with world.wires.swallowed(*vanish), world.gateway(*plants) as gateway:
        gateway.on_home()
        small = gateway.call()
        assert (small.status, small.lane) == (200, "home")
        large = gateway.call(LARGE)
        assert (large.status, large.lane) == (200, "home"), large
        assert world.tailnet.home_lane.received[-1].sha256 == sha256(LARGE)
        peer = world.home.peer(world.control.online(GATEWAY)[0].address)
        assert bool(peer["CurAddr"]) != relayed, f"the way is {peer['CurAddr'] or peer['Relay']}"
    return f"answer in {small.seconds * 1000:.0f} ms, 20 MB in {large.seconds:.2f} s, whole"


def request_and_20_mb_direct(world: World, *plants: Plant) -> str:
    return _request_and_large_body(world, plants, relayed=False)


def request_and_20_mb_through_the_relay(world: World, *plants: Plant) -> str:
    return _request_and_large_body(world, plants, relayed=True)


def packets_of_the_declared_size(world: World, *plants: Plant) -> str:
    """An upload fills packets; those of the tunnel have 1280 bytes at most."""
    with world.gateway(*plants) as gateway:
        gateway.on_home()
        with world.wires.hub.datagrams("gateway") as seen:
            assert gateway.call(LARGE).status == 200
    sizes = [size - AROUND for size, content in seen if content.startswith(WIREGUARD_DATA)]
    assert len(sizes) > 1000, "the upload went another way"
    # The daemon's TCP leaves room for 20 bytes of options, and WireGuard fills up to a multiple of 16.
    assert MTU - 20 - 16 < max(sizes) <= MTU, f"packets of the tunnel have up to {max(sizes)} bytes"
    return (
        f"of {len(sizes)} packets the largest has {max(sizes)} bytes in the tunnel, {max(sizes) + AROUND} on the wire"
    )


def vm_is_dialled_straight(world: World, *plants: Plant) -> str:
    """Home through SOCKS, the VM not: seen in who holds the connections."""
    with world.gateway(*plants) as gateway:
        gateway.on_home()
        world.tailnet.home_lane.down()
        until(lambda: gateway.call().lane == "vm", "the VM answers")
        world.tailnet.vm_lane.behaviour = Behaviour(hold=True)
        held = gateway.later()
        until(lambda: world.tailnet.vm_lane.running, "a request is on the VM")
        lines = gateway.connections(network.VM)
        world.tailnet.vm_lane.release()
        assert held.result().lane == "vm"
        assert lines, "nobody holds a connection to the VM"
        assert all('"caddy"' in line for line in lines), f"dialled by {lines}"
        assert not gateway.connections(network.HOME), "nothing but the tunnel's datagrams goes home"
    return f"{len(lines)} connections to the VM, all Caddy's own; to home's address none"


def only_what_the_policy_allows(world: World, *, planted: Callable[[dict[str, Any]], None] | None = None) -> str:
    """Every accept and deny row of the policy's own tests, and the owner's three ports, dialled for real."""
    policy = json.loads(json.dumps(declared(KEY).policy))
    assert set(policy) <= UNDERSTOOD, f"not compiled: {set(policy) - UNDERSTOOD}"
    rows = [
        *((row["src"], target, wanted) for row in policy["tests"] for wanted in ("accept", "deny")
          for target in row.get(wanted, ())),
        *((OWNER, f"{HOME}:{port}", "accept") for port in (ports.SSH, ports.INGRESS, ports.KUBERNETES)),
        *((GATEWAY, f"{HOME}:{port}", "deny") for port in (ports.SSH, ports.KUBERNETES)),
        *((CI, f"{HOME}:{port}", "deny") for port in (ports.SSH, ports.INGRESS)),
    ]  # fmt: skip
    if planted:
        planted(policy)
    with contextlib.ExitStack() as stack:
        stack.callback(world.control.tell, policy=declared(KEY).policy)
        world.control.tell(policy=policy)
        stack.enter_context(world.gateway()).on_home()
        addresses = {tag: world.control.online(tag)[0].address for tag in (GATEWAY, HOME)}
        sources = {GATEWAY: (world.wires.gateway, 1055), HOME: (world.wires.home, 1080)}
        # No filter stands between a machine and itself: what a gateway may do to gateways, another one tries.
        others = {CI: ("ci", CI, 1081), OWNER: (OWNER, "", 1082), ANOTHER: ("another", GATEWAY, 1083)}
        sources |= _joined(world, stack, others)
        addresses[CI] = world.control.online(CI)[0].address
        _listening(stack, world.wires.others, ports.SSH)
        _listening(stack, world.wires.gateway, *ports.GATEWAY)

        def reaches(row: tuple[str, str, str]) -> bool:
            source, target, _ = row
            tag, _, port = target.rpartition(":")
            at, socks = sources[ANOTHER if source == tag == GATEWAY else source if source in sources else OWNER]
            return bool(dial(at, socks, addresses[tag], int(port)).said)

        # The first packet of two machines may be lost.
        until(lambda: all(reaches(row) for row in rows if row[2] == "accept"), "all that is allowed", 8)
        with ThreadPoolExecutor(len(rows)) as pool:
            found = dict(zip(rows, pool.map(reaches, rows), strict=True))
    wrong = [
        f"{source} -> {target}: {wanted}"
        for (source, target, wanted), got in found.items()
        if got != (wanted == "accept")
    ]
    assert not wrong, wrong
    denied = sum(wanted == "deny" for _, _, wanted in found)
    return f"{len(found) - denied} ways open, {denied} closed: no answer, given up after 5 s"


def nobody_reaches_the_gateway(world: World, *plants: Plant) -> str:
    """With a policy that lets everybody reach the gateway: in userspace mode the tunnel forwards to its loopback."""
    policy: dict[str, Any] = json.loads(json.dumps(declared(KEY).policy))
    policy["acls"].append({"action": "accept", "src": [HOME, "autogroup:member"], "dst": [f"{GATEWAY}:*"]})
    with contextlib.ExitStack() as stack:
        stack.callback(world.control.tell, policy=declared(KEY).policy)
        world.control.tell(policy=policy)
        stack.enter_context(world.gateway(*plants)).on_home()
        [gateway] = world.control.online(GATEWAY)
        sources = _joined(world, stack, {OWNER: (OWNER, "", 1082)})
        _listening(stack, world.wires.gateway, *ports.GATEWAY)
        places = [*sources.values(), (world.wires.home, 1080)]
        ways = [(place, port) for place in places for port in ports.GATEWAY]

        def answers(way: tuple[tuple[network.Namespace, int], int]) -> bool:
            (at, socks), port = way
            return bool(dial(at, socks, gateway.address, port).said)

        with ThreadPoolExecutor(len(ways)) as pool:
            found = zip(ways, pool.map(answers, ways), strict=True)
            reached = {port for (_, port), answered in found if answered}
    assert not reached, f"the tailnet reaches the gateway's ports {sorted(reached)}"
    return f"{len(ways)} dials of its {len(ports.GATEWAY)} ports, none answered, whatever the policy allows"


def _joined(
    world: World, stack: contextlib.ExitStack, machines: dict[str, tuple[str, str, int]]
) -> dict[str, tuple[network.Namespace, int]]:
    """More machines (name, tag, port of the SOCKS5 listener): where each dials from."""
    folder, at = world.fresh(), world.wires.others
    world.control.tell(key="tskey-others")
    for name, tag, socks in machines.values():
        daemon = Daemon(name, tag, at, world.programs, folder, socks=socks)
        stack.callback(daemon.stop)
        daemon.start()
        daemon.join("tskey-others")
    return {machine: (at, socks) for machine, (_, _, socks) in machines.items()}


def _listening(stack: contextlib.ExitStack, at: network.Namespace, *ports: int) -> None:
    """What nobody may reach must be there, or a closed port would pass for a filter."""
    loop = stack.enter_context(at.loop())
    for port in ports:
        lane = Lane(loop, "listener", "127.0.0.1", port)
        # One of the gateway's own programs may listen already.
        with contextlib.suppress(OSError):
            lane.up()
            stack.callback(lane.down)


CHECKS = [
    request_and_20_mb_direct,
    request_and_20_mb_through_the_relay,
    packets_of_the_declared_size,
    vm_is_dialled_straight,
    only_what_the_policy_allows,
    nobody_reaches_the_gateway,
]
