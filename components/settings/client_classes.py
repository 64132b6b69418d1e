"""Classes of clients: which of them go the same ways, and how many slots of a lane each class may take. Pure.

Owns: the arithmetic of priorities. Does not own: the values (`clients`), the rules (`client_rules`), the handlers of
each class (`gateway.caddy`).

Caddy counts what runs on a lane once for all, and each handler has a limit of its own: so a class with a lower limit
never takes a lane's last slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from components.settings.clients import ClientSettings, Priority
from components.settings.section import Lane
from components.settings.stack import Settings

RESERVED: Final = 4
"""One slot in so many is kept on a lane for each higher priority that a client has there."""


@dataclass(frozen=True)
class ClientClass:
    """Clients whose requests go the same ways: the same lanes in the same order, with the same limits."""

    lanes: tuple[Lane, ...]
    priority: Priority
    pinned: bool = False
    """Requests that name their one lane (`X-Lane`), where no client has that one alone."""


def limit(settings: Settings, lane: Lane, priority: Priority, slots: int | None = None) -> int:
    """Requests on a lane beyond which a client of this priority gets no slot; 0: the lane is not for it.

    `slots` are those of a further machine, which are shared out by the same rule.
    """
    own, order = settings.slots(lane) if slots is None else slots, list(Priority)
    present = {client.priority for client in settings.clients if lane in _named(settings, client)}
    above = sum(order.index(other) < order.index(priority) for other in present)
    return max(0, own - above * ceil(own / RESERVED))


def lanes_left(settings: Settings, client: ClientSettings) -> tuple[Lane, ...]:
    """The client's lanes in the order of the stack's, without those where all slots are kept for others."""
    return tuple(lane for lane in _named(settings, client) if limit(settings, lane, client.priority))


def class_of(settings: Settings, client: ClientSettings) -> ClientClass:
    """The client's class."""
    return ClientClass(lanes_left(settings, client), client.priority)


def by_client(settings: Settings) -> dict[str, ClientClass]:
    """Each client's class by its name. Those that say the same share one: working it out asks all clients."""
    kinds = {(client.lanes, client.priority): client for client in settings.clients}
    found = {kind: class_of(settings, client) for kind, client in kinds.items()}
    return {client.name: found[client.lanes, client.priority] for client in settings.clients}


def classes(settings: Settings) -> tuple[ClientClass, ...]:
    """The classes that some client has, the higher priorities first."""
    order = list(Priority)
    found = set(by_client(settings).values())
    return tuple(sorted(found, key=lambda one: (order.index(one.priority), -len(one.lanes), one.lanes)))


def pins(settings: Settings) -> tuple[ClientClass, ...]:
    """The classes of requests that name a lane, as far as some client may; a client's own where it has but that one."""
    known = classes(settings)
    return tuple(
        ClientClass((lane,), priority, pinned=ClientClass((lane,), priority) not in known)
        for lane in settings.lanes
        for priority in Priority
        if any(lane in one.lanes and one.priority is priority for one in known)
    )


def _named(settings: Settings, client: ClientSettings) -> Sequence[Lane]:
    return [lane for lane in settings.lanes if client.lanes is None or lane in client.lanes]
