"""The fake engine's memory: its behaviour, and the requests that it received.

Owns: the fault switches with their checks, the log and its copy on disk. Does not own: HTTP (`fake_model`), a machine's
pace (`engine`).
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, cast

from components.machines.requests import BYTES_PER_TOKEN
from lab.programs.engine import Work

SCRIPTED_TOKENS: Final = 8
"""Tokens of an answer whose pace a script sets."""


@dataclass(frozen=True)
class Behaviour:
    """How API requests are answered; the defaults are a healthy engine, as fast as its machine, or instant without."""

    first_token_delay: float = 0.0
    """Seconds from the request's end to the first token, added to the machine's own: the request's slot is taken."""
    token_interval: float = 0.0
    """Seconds between tokens, added to the machine's own."""
    tokens: int | None = None
    """Tokens an answer has, unless the request's max_tokens is lower. None: as a machine's pace has it, or else 8."""
    status: int | None = None
    """Answer every API request with this status and an error body instead."""
    retry_after: str | int | None = None
    """`Retry-After` sent with `status`."""
    reset: str | None = None
    """RST `before-headers`, or `mid-stream` after half of the answer."""
    hang: bool = False
    """Stand still before headers and before each token until lifted; applies to requests already open."""
    mute: bool = False
    """The engine is stuck until lifted: it takes requests, and not one token comes. The metrics stand still."""
    health: int = 200
    """Status of `/health`; 0 means that it stands still too."""
    echo_headers: bool = False
    """Put the received headers into the answer."""

    def merged(self, change: dict[str, Any]) -> Behaviour:
        """Return a copy with `change` applied; unknown keys and wrong types are errors, not faults without effect."""
        names = [f.name for f in fields(self)]
        if unknown := sorted(set(change) - set(names)):
            raise ValueError(f"unknown key {', '.join(unknown)}; known: {', '.join(names)}")
        new = replace(self, **change)
        if new.reset not in {None, "before-headers", "mid-stream"}:
            raise ValueError("reset must be before-headers, mid-stream or null")
        for name in ("first_token_delay", "token_interval", "tokens", "health"):
            value = getattr(new, name)
            if name == "tokens" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ValueError(f"{name} must be a number of at least 0")
        if new.status is not None and not 200 <= new.status <= 599:
            raise ValueError("status must be 200 to 599 or null")
        return new


@dataclass
class Entry:
    """One API request, as received."""

    key: str
    """Unlike that of any other entry, of earlier processes too."""
    time: float
    method: str
    path: str
    headers: list[tuple[str, str]]
    body_length: int = 0
    sha256: str = ""
    status: int | None = None
    """Status sent, from the moment on when the answer's headers go out."""
    finished: float | None = None
    """When the answer's last token came; Unix time."""
    outcome: str = "open"
    """`answered`, `client-gone` (before the answer's end), or `reset` (by us)."""

    def received(self, with_headers: bool) -> dict[str, Any]:
        """Return what an answer tells its caller about the request."""
        received: dict[str, Any] = {"sha256": self.sha256, "length": self.body_length}
        return received | ({"headers": self.headers} if with_headers else {})


@dataclass
class Reading:
    """The request being answered: its log entry, its JSON, and what the answer needs of both."""

    entry: Entry
    body: dict[str, Any]
    chat: bool
    started: float = field(default_factory=time.monotonic)
    work: Work | None = None
    """What it asks of the machine; None where a script sets the pace."""

    def tokens(self, behaviour: Behaviour) -> int:
        """Tokens of the answer: those of the behaviour or the machine, or fewer where the request sets a limit."""
        most = (self.work.answer if self.work else SCRIPTED_TOKENS) if behaviour.tokens is None else behaviour.tokens
        return min(most, self.body.get("max_completion_tokens") or self.body.get("max_tokens") or most)

    def usage(self, behaviour: Behaviour) -> dict[str, int]:
        """The machine's count, or a prompt token per four bytes of the body."""
        prompt = self.work.prompt if self.work else self.entry.body_length // BYTES_PER_TOKEN
        answer = self.tokens(behaviour)
        return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}

    @property
    def wants_usage(self) -> bool:
        """Whether a stream's last chunk shall tell the usage."""
        options = cast("dict[str, Any]", self.body.get("stream_options") or {})
        return bool(options.get("include_usage"))


class Log:
    """The requests received. A copy on disk outlives this process; each line there is one request as it stands then."""

    def __init__(self, journal: Path | None) -> None:
        """Append to `journal`, or keep the log in memory alone."""
        self._journal = journal.open("a", buffering=1) if journal else None
        self._entered = 0
        self.entries: list[Entry] = []

    def enter(self, method: str, path: str, headers: list[tuple[str, str]]) -> Entry:
        """Note a request that just came."""
        self._entered += 1
        entry = Entry(f"{os.getpid()}-{self._entered}", time.time(), method, path, headers)
        self.entries.append(entry)
        self.note(entry)
        return entry

    def note(self, entry: Entry) -> None:
        """Write the entry as it stands."""
        if self._journal:
            self._journal.write(json.dumps(asdict(entry)) + "\n")


def outcomes(log: list[Entry]) -> dict[str, int]:
    """Count the log's entries by outcome."""
    counts: dict[str, int] = {"open": 0, "answered": 0, "client-gone": 0, "reset": 0}
    for entry in log:
        counts[entry.outcome] += 1
    return counts
