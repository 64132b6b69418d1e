"""The rule of everything that the gateway counts: each of its instances has a share of it, and none is empty.

Owns: what is shared, by its field. Does not own: the share itself (`stack.Settings.share`).
"""

from collections.abc import Iterator

from components.settings.declared_services import declared
from components.settings.section import Lane, problem
from components.settings.stack import Settings


def broken(settings: Settings) -> list[str]:
    """A `problem` line for each limit with fewer places than the gateway has instances."""
    instances = settings.gateway.max_instances
    return [
        problem(field, f"at least gateway.max_instances ({instances}){hint}, is {count}",
                "instances don't know of each other, so some would have no place, or together more than there are",
                f"raise it, or set gateway.max_instances to {count}")
        for field, count, hint in _counted(settings)
        if not settings.share(count)
    ]  # fmt: skip


def _counted(settings: Settings) -> Iterator[tuple[str, int, str]]:
    """Field, places, and how they come about where that isn't the field alone."""
    if Lane.HOME in settings.lanes:
        yield "home.max_requests", settings.home.max_requests, ""
    if Lane.BURST in settings.lanes:
        yield "burst.max_requests", settings.burst.max_requests, ""
    if Lane.VM in settings.lanes:
        yield "vm.max_requests", settings.vm.capacity, ", times vm.replicas"
    for number, service in enumerate(declared(settings)):
        if not service.completes:
            yield f"services.{number}.max_requests", service.max_requests, ""
    for number, client in enumerate(settings.clients):
        if client.max_requests is not None:
            yield f"clients.{number}.max_requests", client.max_requests, ""
