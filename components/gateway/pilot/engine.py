"""The engine's metrics: how long a first token takes, and whether any comes at all.

Owns: what vLLM's counters say. Does not own: asking for them (`lane_client`), what follows (`lane`). Pure.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from .prometheus import samples


@dataclass(frozen=True)
class Engine:
    """Counters of one vLLM instance at one time; None where it has no such metric."""

    at: float
    identity: float = 0
    model: str = ""
    seconds: float | None = None
    first_tokens: float | None = None
    tokens: float | None = None
    running: float | None = None
    waiting: float | None = None
    stuck_since: float | None = None


_ENGINE: Final = {
    "process_start_time_seconds": "identity",
    "vllm:time_to_first_token_seconds_sum": "seconds",
    "vllm:time_to_first_token_seconds_count": "first_tokens",
    "vllm:generation_tokens_total": "tokens",
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
}


def engine(text: str, now: float) -> Engine:
    """Read vLLM's metrics; what several engines of one server count is added up."""
    totals: dict[str, float] = {}
    model = ""
    for name, labels, value in samples(text, _ENGINE):
        totals[_ENGINE[name]] = totals.get(_ENGINE[name], 0) + value
        if match := re.search(r'model_name="([^"]+)"', labels):
            model = match[1]
    return Engine(at=now, model=model, **totals)


def first_token(before: Engine | None, after: Engine) -> tuple[Engine, float | None]:
    """`after`, and the mean time to the first token since `before`; for a stuck engine, how long it has been stuck.

    Stuck: requests queue and none begins, or requests run and not one token comes. Without this, an engine that stops
    would look fine until its first late token.
    """
    if before is None or after.first_tokens is None or before.first_tokens is None:
        return after, None
    begun = after.first_tokens - before.first_tokens
    if begun > 0:
        return after, ((after.seconds or 0) - (before.seconds or 0)) / begun
    queued = bool(before.waiting and after.waiting)
    silent = bool(before.running and after.running) and after.tokens is not None and after.tokens == before.tokens
    if begun < 0 or not (queued or silent):
        return after, None
    since = before.at if before.stuck_since is None else before.stuck_since
    return replace(after, stuck_since=since), after.at - since
