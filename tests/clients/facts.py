"""How each client behaves towards an endpoint that says no, or nothing: what it sends, how often it comes again.

Owns: these facts as they were measured, and measuring them anew. Does not own: what the gateway makes of them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Final

from tests.clients.programs import ANSWER_S, Client
from tests.clients.wire import SILENCE, Wire
from tests.kit import happens, until

LONGEST_S: Final = 660.0
"""Longest wait for a client to lose patience by itself, seconds."""
NEVER: Final = f"more than {LONGEST_S:.0f} s"


@dataclass(frozen=True)
class Fact:
    """One client's row."""

    client: str
    http: str
    body: str
    """How the end of a request's body is told."""
    tries: int
    """Requests for one call while the answer is 503 without `Retry-After`; curl's by `--retry 2`."""
    hurried: int
    """Requests for one call that the caller limits to 2 s, while there is no answer."""
    patience: str
    """After how many seconds without a byte the client gives a request up by itself; `--patience` measures it."""


FACTS: Final = (
    Fact("openai-python", "1.1", "Content-Length", 3, 3, "600 s"),
    Fact("openai-python-async", "1.1", "Content-Length", 3, 3, "600 s"),
    Fact("openai-node", "1.1", "Content-Length", 3, 3, "300 s"),
    Fact("openai-go", "1.1", "Content-Length", 3, 1, "600 s"),
    Fact("openai-java", "1.1", "Content-Length", 3, 3, "600 s"),
    Fact("langchain", "1.1", "Content-Length", 3, 3, NEVER),
    Fact("litellm", "1.1", "Content-Length", 3, 3, "600 s"),
    Fact("ai-sdk", "1.1", "Content-Length", 3, 1, "300 s"),
    Fact("curl", "1.1", "Content-Length", 3, 3, NEVER),
)


def measured(client: Client, picture: Path) -> Fact:
    """This client's row, by a listener of its own; the last column as it is kept."""
    with Wire().listening() as wire, client.running(wire.url, "sk-any", "any", picture) as program:
        program.ask("plain")
        [plain] = wire.sent
        wire.sent, wire.status = [], 503
        program.ask("plain")
        tries = len(wire.sent)
        wire.sent, wire.status = [], SILENCE
        program.ask("impatient")
    kept = next((fact.patience for fact in FACTS if fact.client == client.name), "not measured")
    return Fact(client.name, plain.version, plain.body, tries, len(wire.sent), kept)


def patience(client: Client, picture: Path) -> str:
    """How long it waits for the first byte of an answer if nobody tells it a limit."""
    with Wire().listening() as wire, client.running(wire.url, "sk-any", "any", picture) as program:
        wire.status = SILENCE
        program.send("plain")
        until(lambda: wire.sent, f"{client.title} has sent its request", ANSWER_S)
        happens(lambda: wire.sent[0].patience_s is not None, LONGEST_S)
        waited = wire.sent[0].patience_s
    # Node looks at its clock every second or so.
    return f"{round(waited, -1):.0f} s" if waited else NEVER


def at_once(clients: Sequence[Client], picture: Path) -> list[Fact]:
    """All rows: most of the time each waits."""
    with ThreadPoolExecutor(len(clients)) as pool:
        return list(pool.map(partial(measured, picture=picture), clients))


def all_patience(clients: Sequence[Client], picture: Path) -> dict[str, str]:
    """Each client's, by name; all wait at the same time."""
    with ThreadPoolExecutor(len(clients)) as pool:
        waited = pool.map(partial(patience, picture=picture), clients)
        return dict(zip((client.name for client in clients), waited, strict=True))


def differences(found: Sequence[Fact], kept: Sequence[Fact] = FACTS) -> list[str]:
    """A sentence for each fact that is another one now."""
    told: list[str] = []
    by_client = {fact.client: fact for fact in kept}
    for fact in found:
        was = by_client.get(fact.client)
        if was is None:
            told.append(f"{fact.client}: no row in FACTS; measured: {fact}")
            continue
        told += [
            f"{fact.client}: {each.name} is {getattr(fact, each.name)}, and FACTS has {getattr(was, each.name)}"
            for each in fields(Fact)
            if getattr(fact, each.name) != getattr(was, each.name)
        ]
    return told
