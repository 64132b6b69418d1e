"""The rules of `clients`, checked before any resource exists.

Owns: what must hold between clients, and between a client and the stack's lanes. Does not own: the type and range of a
single value, the arithmetic of priorities (`client_classes`).
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from components.settings.client_classes import by_client
from components.settings.client_keys import in_grace
from components.settings.clients import ClientSettings, OldKeySettings
from components.settings.kubeconfig import rfc3339
from components.settings.section import problem
from components.settings.stack import Settings

LONGEST_GRACE: Final = timedelta(days=90)
"""As long as the longest key of a tailnet."""
MOST_CLIENTS: Final = 900
"""Each key is a variable of the gateway's environment. Cloud Run takes 1,000 of a service, or of a container: Google's
pages say both (cloud.google.com/run/docs, "Configure environment variables"). The rest is for its three containers."""


def broken(settings: Settings) -> list[str]:
    """Every rule the clients break, a `problem` line each."""
    return [*_names_and_keys(settings), *_old_keys(settings), *_lanes(settings), *_priorities(settings)]


def _names_and_keys(settings: Settings) -> list[str]:
    names = [client.name for client in settings.clients]
    twice = sorted({name for name in names if names.count(name) > 1})
    found: list[str] = []
    if not names:
        found.append(problem("clients", "at least one client", "nobody could call the endpoint", "add `- name: demo`"))
    if (count := len(names) + len(in_grace(settings))) > MOST_CLIENTS:
        found.append(
            problem("clients", f"at most {MOST_CLIENTS}, with the old keys there are {count}",
                    "Cloud Run takes 1,000 environment variables, each key is one, and the gateway's revision would be "
                    + "refused", "let several callers share a client, or make a second stack")
        )  # fmt: skip
    if twice:
        found.append(
            problem("clients", f"a name stands once, {', '.join(twice)} stands more often",
                    "their keys and log lines could not be told apart", "rename one of them")
        )  # fmt: skip
    own = [one.key for one in (*settings.clients, *settings.old_keys) if one.key]
    keys = [key.get_secret_value() for key in own]
    if len(set(keys)) < len(keys):
        found.append(
            problem("clients", "every client has a key of its own", "the second would be logged as the first, and "
                    + "losing one key would lock out both", "leave `key` out and one is made")
        )  # fmt: skip
    return found


def _old_keys(settings: Settings) -> Iterator[str]:
    """Those that have ended are as good as not there."""
    clients = {client.name: client for client in settings.clients}
    latest = settings.now + LONGEST_GRACE
    seen: set[tuple[str, int | None]] = set()
    for number, old in enumerate(settings.old_keys):
        if old.until <= settings.now:
            continue
        field, key = f"old_keys.{number}", (old.client, old.generation)
        if old.until > latest:
            yield problem(f"{field}.until", f"at most {LONGEST_GRACE.days} days ahead, before {rfc3339(latest)}",
                          "a key that was to be replaced, perhaps because it leaked, would go on for long",
                          "write an earlier day; it can be moved later on")  # fmt: skip
        if (old.generation is None) == (old.key is None):
            yield problem(field, "either `generation` or `key`", "nobody could tell which key stays good",
                          "write `generation: 1` for the stack's first key, `key` for one of your own")  # fmt: skip
        if key in seen:
            yield problem(field, f"each key of {old.client} stands once, and one of your own",
                          "it would have two ends", "remove one of the entries")  # fmt: skip
        seen.add(key)
        if client := clients.get(old.client):
            yield from _generation(field, old, client)
        else:
            yield problem(f"{field}.client", f"a client of the stack; {old.client} is none, and its old key is in "
                          + f"grace until {rfc3339(old.until)}",
                          "both of its keys would get 401 at once, and whoever has them was told that day",
                          f"put {old.client} back under `clients` until then, or take this entry out, too")  # fmt: skip


def _generation(field: str, old: OldKeySettings, client: ClientSettings) -> Iterator[str]:
    if old.generation is None:
        return
    if client.key:
        yield problem(f"{field}.generation", f"`key`, where {client.name} has a key of your own",
                      "the stack makes none for it, and the old one would be another",
                      "give the old key itself, which `pulumi stack output api_keys --show-secrets` shows")  # fmt: skip
    elif old.generation >= client.generation:
        yield problem(f"{field}.generation", f"below the client's own, which is {client.generation}; it is "
                      + f"{old.generation}", f"{client.name} would have no new key when the old one ends",
                      f"set `generation: {old.generation + 1}` under `clients` at {client.name}")  # fmt: skip


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
    if not all(settings.slots(lane) for lane in settings.lanes):
        # Nobody has slots there, whatever the priorities (`share_rules`).
        return []
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
