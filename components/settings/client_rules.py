"""The rules of `clients`, checked before any resource exists.

Owns: what must hold between clients, and between a client and the stack's lanes. Does not own: the type and range of a
single value, the arithmetic of priorities (`client_classes`).
"""

from typing import Final

from components.settings.client_classes import by_client
from components.settings.section import problem
from components.settings.stack import Settings

MOST_CLIENTS: Final = 900
"""Each key is a variable of the gateway's environment. Cloud Run takes 1,000 of a service, or of a container: Google's
pages say both (cloud.google.com/run/docs, "Configure environment variables"). The rest is for its three containers."""


def broken(settings: Settings) -> list[str]:
    """Every rule the clients break, a `problem` line each."""
    return [*_names_and_keys(settings), *_lanes(settings), *_priorities(settings)]


def _names_and_keys(settings: Settings) -> list[str]:
    names = [client.name for client in settings.clients]
    twice = sorted({name for name in names if names.count(name) > 1})
    found: list[str] = []
    if not names:
        found.append(problem("clients", "at least one client", "nobody could call the endpoint", "add `- name: demo`"))
    if len(names) > MOST_CLIENTS:
        found.append(
            problem("clients", f"at most {MOST_CLIENTS}, there are {len(names)}",
                    "Cloud Run takes 1,000 environment variables, each key is one, and the gateway's revision would be "
                    + "refused", "let several callers share a client, or make a second stack")
        )  # fmt: skip
    if twice:
        found.append(
            problem("clients", f"a name stands once, {', '.join(twice)} stands more often",
                    "their keys and log lines could not be told apart", "rename one of them")
        )  # fmt: skip
    keys = [client.key.get_secret_value() for client in settings.clients if client.key]
    if len(set(keys)) < len(keys):
        found.append(
            problem("clients", "every client has a key of its own", "the second would be logged as the first, and "
                    + "losing one key would lock out both", "leave `key` out and one is made")
        )  # fmt: skip
    return found


def _lanes(settings: Settings) -> list[str]:
    found: list[str] = []
    for number, client in enumerate(settings.clients):
        if client.lanes is None:
            continue
        field, missing = f"clients.{number}.lanes", [lane for lane in client.lanes if lane not in settings.lanes]
        if not client.lanes:
            found.append(
                problem(field, "at least one lane", f"every request of {client.name} would end in 503",
                        "leave it out for all lanes, or remove the client")
            )  # fmt: skip
        if missing:
            found.append(
                problem(field, f"lanes that the stack has ({', '.join(settings.lanes)}), not {', '.join(missing)}",
                        "it would promise an answer from where nothing runs", f"add {missing[0]} to `lanes`, or "
                        + "remove it here")
            )  # fmt: skip
        if len(set(client.lanes)) < len(client.lanes):
            found.append(
                problem(field, "a lane stands once", "the list would read as if it had an order of its own, which is "
                        + "that of the stack's `lanes`", "remove the repeat")
            )  # fmt: skip
    return found


def _priorities(settings: Settings) -> list[str]:
    found = by_client(settings)
    return [
        problem(
            f"clients.{number}.priority",
            f"some lane has slots left for `{client.priority}`: each higher priority keeps a quarter of a lane's "
            + "slots, at least one",
            f"{client.name} would never be served",
            "raise `max_requests` of one of its lanes, or give it the priority of the others",
        )
        for number, client in enumerate(settings.clients)
        if client.lanes != () and any(lane in settings.lanes for lane in client.lanes or settings.lanes)
        and not found[client.name].lanes
    ]  # fmt: skip
