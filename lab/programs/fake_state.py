"""The fake engine's memory: its behaviour, the requests that it received, and its metrics.

Owns: the fault switches with their checks, a request's size in tokens, the log and its copy on disk, and the Prometheus
text. Does not own: HTTP.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

_TTFT = "vllm:time_to_first_token_seconds"
_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640)


@dataclass(frozen=True)
class Behaviour:
    """How API requests are answered; the defaults are a healthy, instant engine."""

    first_token_delay: float = 0.0
    """Seconds from the request's end to the first token; a stream's headers are sent before it, as engines do."""
    token_interval: float = 0.0
    """Seconds between tokens."""
    tokens: int = 8
    """Tokens an answer has, unless the request's max_tokens is lower."""
    status: int | None = None
    """Answer with this status and an error body instead."""
    retry_after: str | int | None = None
    """`Retry-After` sent with `status`."""
    reset: str | None = None
    """RST `before-headers`, or `mid-stream` after half of the answer."""
    hang: bool = False
    """Stand still before headers and before each token until lifted; applies to requests already open."""
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

    def tokens(self, behaviour: Behaviour) -> int:
        """Tokens of the answer: those of the behaviour, or fewer where the request sets a limit."""
        limit = self.body.get("max_completion_tokens") or self.body.get("max_tokens") or behaviour.tokens
        return min(behaviour.tokens, limit)

    def usage(self, behaviour: Behaviour) -> dict[str, int]:
        """Count a prompt token per four bytes of the body: a number that grows with the request, no more."""
        prompt, answer = self.entry.body_length // 4, self.tokens(behaviour)
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


def metrics(alias: str, in_flight: int, first_tokens: list[float], counts: dict[str, int]) -> str:
    """Return the Prometheus text; where vLLM has a metric, it is named and labelled as vLLM's."""
    label = f'model_name="{alias}"'
    lines = ["# TYPE vllm:num_requests_running gauge", f"vllm:num_requests_running{{{label}}} {in_flight}"]
    lines += [f"# TYPE {_TTFT} histogram"]
    buckets = [(str(limit), sum(t <= limit for t in first_tokens)) for limit in _BUCKETS]
    lines += [f'{_TTFT}_bucket{{{label},le="{le}"}} {count}' for le, count in [*buckets, ("+Inf", len(first_tokens))]]
    lines += [f"{_TTFT}_sum{{{label}}} {sum(first_tokens)}", f"{_TTFT}_count{{{label}}} {len(first_tokens)}"]
    lines += ["# TYPE fake:requests_total counter"]
    lines += [f'fake:requests_total{{{label},outcome="{outcome}"}} {count}' for outcome, count in counts.items()]
    return "\n".join(lines) + "\n"
