"""What each client is put through, and what must come of it.

Owns: the scenarios with their expectations, and what a client can't do, with the reason. Does not own: how a scenario
is carried out (`trial`), the words of the table (`table`). Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Told = Mapping[str, Any]
"""What a program prints: `error` and `status` of a failure, or else what the answer held."""
GOOD: Final = "ok"
WRITTEN_S: Final = 0.1
"""Least time from a stream's first piece to its end: 60 tokens take the small model several times as long. An answer
that someone keeps back arrives all at once."""


@dataclass(frozen=True)
class Scenario:
    """One column of the table. `name` is what the program is told; `lacks` says what is wrong, or nothing."""

    name: str
    title: str
    lacks: Callable[[Told, str], str]

    def cell(self, told: Told, model: str) -> str:
        """The table's words for what came of it."""
        return self.lacks(told, model) or GOOD


def failure(told: Told) -> str:
    """Status or class of a failure; empty: there was none. curl has a status always."""
    status = told.get("status") or 0
    if status >= 400:
        return str(status)
    return str(told.get("error") or "")


def _models(told: Told, model: str) -> str:
    return failure(told) or ("" if model in told["models"] else "not in the list")


def _text(told: Told, model: str) -> str:
    del model
    return failure(told) or ("" if told.get("text") or told.get("calls") else "no text")


def _stream(told: Told, model: str) -> str:
    if wrong := _text(told, model):
        return wrong
    if told["pieces"] < 10:
        return f"{told['pieces']} pieces"
    return "" if told["seconds"] - told["first_s"] > WRITTEN_S else "all at once"


def _usage(told: Told, model: str) -> str:
    del model
    return failure(told) or ("" if told["usage"] else "no usage")


def _status(wanted: int) -> Callable[[Told, str], str]:
    def lacks(told: Told, model: str) -> str:
        del model
        found = failure(told)
        return "" if found == str(wanted) else found or "taken"

    return lacks


def _aborted(told: Told, model: str) -> str:
    """`busy`: what the lanes still did when nobody waited for it any more."""
    del model
    return failure(told) or ("" if told["pieces"] >= 4 else f"{told['pieces']} pieces") or told["busy"]


def _retried(told: Told, model: str) -> str:
    """`statuses`: those of its requests, from the gateway's log."""
    if wrong := _text(told, model):
        return wrong
    *before, last = told["statuses"]
    return "" if before and set(before) == {503} and last == 200 else f"answered with {told['statuses']}"


SCENARIOS: Final = (
    Scenario("models", "models", _models),
    Scenario("plain", "plain", _text),
    Scenario("stream", "stream", _stream),
    Scenario("usage", "usage", _usage),
    Scenario("tools", "tools", _text),
    Scenario("picture", "picture", _text),
    Scenario("wrong_key", "wrong key", _status(401)),
    Scenario("too_large", "31 MiB", _status(413)),
)
ABORT: Final = Scenario("abort", "abort", _aborted)
RETRY: Final = Scenario("plain", "503, retry", _retried)
ALL: Final = (*SCENARIOS, ABORT, RETRY)


@dataclass(frozen=True)
class Limit:
    """What a client can't do: the cell that is expected in place of `ok`, and why nothing is done about it."""

    client: str
    scenario: str
    cell: str
    why: str


LIMITS: Final = (
    Limit("ai-sdk", "models", "no call for it", "The AI SDK has no call that lists models; `fetch` does it."),
)


def expected(client: str, scenario: Scenario) -> str:
    """The cell of a client that behaves."""
    for limit in LIMITS:
        if (limit.client, limit.scenario) == (client, scenario.title):
            return limit.cell
    return GOOD
