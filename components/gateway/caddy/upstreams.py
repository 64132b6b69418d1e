"""The lanes as Caddy sees them: where requests go, how many at a time, and what proves that a lane answers.

Owns: addresses and capacities of the lanes and of the services at home, and how often they are checked. Does not own:
how a request is walked over them (`walk`), what a check asks (`checks`), the way from the hop to burst (`burst_hop`).

A service that lives at home only has an address of its own, home's in another spelling: so its requests take none of
the model's slots, and its failures don't mark home. So has each further machine of a lane: its slots are a place of
their own in the walk, which is up while the pilot sees so many machines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import pulumi

from components import ports
from components.ports import loopback
from components.settings import Lane, Settings
from components.settings.declared_services import Service, at_home_only, declared

CHECK_INTERVAL: Final = "500ms"
CHECK_TIMEOUT: Final = "1s"
SIZE_HEADER: Final = "X-Size"
"""Names, in a check, the size of the requests that the asking handler takes."""
ALONE: Final = "alone"
"""In its place: requests of any size that have not all lanes, so that who is sooner is no question."""


@dataclass(frozen=True)
class Further:
    """The slots of one more machine behind a lane's address, which is spelled in another way."""

    dial: str
    max_requests: int
    machines: int
    """How many must be up."""


@dataclass(frozen=True)
class Upstream:
    """A lane as Caddy sees it: where requests go, how many at a time, and what proves that it answers."""

    lane: Lane
    dial: str
    max_requests: int
    check_path: str
    check_host: str = ""
    """Whom Traefik asks at home: the name of a service."""
    further: tuple[Further, ...] = ()
    balanced: bool = False
    """Whether a balancer hands out connections to several machines: one that is kept would keep its machine."""

    @property
    def places(self) -> dict[str, int]:
        """Slots by address, the further machines' after the lane's own."""
        return {self.dial: self.max_requests, **{each.dial: each.max_requests for each in self.further}}

    @property
    def told(self) -> str:
        """The further machines' places as the pilot is told of them: `machines*address=slots`, ..."""
        return " ".join(f"{each.machines}*{each.dial}={each.max_requests}" for each in self.further)

    @property
    def address(self) -> str:
        """`dial` as Caddy's placeholders show it, however it was spelled."""
        host, _, port = self.dial.rpartition(":")
        return f"{host}:{int(port)}" if port.isdigit() else self.dial


def upstreams(settings: Settings, *, vm_address: str) -> list[Upstream]:
    """The lanes in the order a request tries them."""
    model = next((service for service in declared(settings) if service.completes), None)
    path, name = (model.health, model.name) if model else ("", "")
    known = {
        # End to end: tunnel, Traefik, vLLM.
        Lane.HOME: Upstream(
            Lane.HOME, f"{settings.home.hostname}:{ports.INGRESS}", settings.slots(Lane.HOME), path, name
        ),
        # Asked of the pilot: a question to burst itself would keep it from scaling to zero.
        Lane.BURST: Upstream(Lane.BURST, loopback(ports.BURST_HOP), settings.slots(Lane.BURST), "/lane/burst"),
        Lane.VM: Upstream(
            Lane.VM,
            f"{vm_address}:{ports.VM}",
            settings.slots(Lane.VM),
            "/health",
            balanced=settings.vm.most_replicas > 1,
        ),
    }
    return [
        replace(
            known[lane],
            further=tuple(
                Further(_respelled(known[lane].dial, number), slots, machines)
                for number, (machines, slots) in enumerate(settings.further_slots(lane).items(), start=1)
            ),
        )
        for lane in settings.lanes
    ]


def _respelled(dial: str, number: int) -> str:
    """The same address to everybody but Caddy's counters: so many zeros more before the port."""
    host, _, port = dial.rpartition(":")
    return f"{host}:{'0' * number}{port}"


def judged(lanes: Sequence[Upstream]) -> bool:
    """Whether there is a VM and another lane, so that the one may be later than the other."""
    return len(lanes) > 1 and any(upstream.lane is Lane.VM for upstream in lanes)


def steered(lanes: Sequence[Upstream]) -> bool:
    """Whether a check asks the pilot."""
    return judged(lanes) or any(upstream.lane is Lane.BURST for upstream in lanes)


def dials(settings: Settings, *, vm_address: pulumi.Input[str]) -> dict[Lane, pulumi.Input[str]]:
    """Each lane's address exactly as it stands in Caddy's configuration; the VM's may be known later."""
    found: dict[Lane, pulumi.Input[str]] = {each.lane: each.dial for each in upstreams(settings, vm_address="")}
    if Lane.VM in found:
        found[Lane.VM] = pulumi.Output.concat(vm_address, found[Lane.VM])
    return found


def further(settings: Settings, *, vm_address: pulumi.Input[str]) -> dict[Lane, pulumi.Input[str]]:
    """The places of each lane's further machines as the pilot is told of them; the VM's may be known later."""

    def told(lane: Lane, address: str) -> str:
        return next(each.told for each in upstreams(settings, vm_address=address) if each.lane is lane)

    return {
        lane: pulumi.Output.from_input(vm_address).apply(partial(told, lane)) if lane is Lane.VM else told(lane, "")
        for lane in settings.lanes
        if settings.further_slots(lane)
    }


def service_upstreams(settings: Settings) -> list[tuple[Service, Upstream]]:
    """The services that no lane but home has, in the order their paths are tried."""
    taken = len(settings.further_slots(Lane.HOME))
    return [
        (service, Upstream(Lane.HOME, _respelled(f"{settings.home.hostname}:{ports.INGRESS}", number),
                           settings.share(service.max_requests), service.health, service.name))
        for number, service in enumerate(at_home_only(settings), start=taken + 1)
    ]  # fmt: skip
