"""The engines' metrics: how long a first token takes, whether anything moves, and how many answers were errors.

Owns: what vLLM's and llama.cpp's counters say. Does not own: asking for them (`lane_client`), what follows (`lane`),
how fast the VM reads (`prompts`). Pure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from .prometheus import samples


@dataclass(frozen=True)
class Engine:
    """Counters of one engine at one time; None where it has no such metric."""

    at: float
    identity: float = 0
    model: str = ""
    seconds: float | None = None
    first_tokens: float | None = None
    waiting: float | None = None
    read: float | None = None
    """Tokens of prompts."""
    written: float | None = None
    """Tokens of answers."""
    errors: float = 0
    moving: Mapping[str, float] = field(default_factory=dict[str, float])
    """What changes with every step of the engine, and only so."""
    queued_since: float | None = None


_ENGINE: Final = {
    "process_start_time_seconds": "identity",
    "vllm:time_to_first_token_seconds_sum": "seconds",
    "vllm:time_to_first_token_seconds_count": "first_tokens",
    "vllm:num_requests_waiting": "waiting",
    "vllm:prompt_tokens_total": "read",
    "vllm:generation_tokens_total": "written",
    "llamacpp:prompt_tokens_total": "read",
    "llamacpp:tokens_predicted_total": "written",
}
_MOVING: Final = (
    "vllm:time_to_first_token_seconds_count",
    "vllm:generation_tokens_total",
    "vllm:iteration_tokens_total_count",
    # A long prompt is read in steps that bring no token yet; each takes its share of the cache.
    "vllm:kv_cache_usage_perc",
    "llamacpp:prompt_tokens_total",
    "llamacpp:tokens_predicted_total",
    "llamacpp:n_decode_total",
)
_ANSWERS: Final = "http_requests_total"
"""vLLM's server counts its answers by `status="2xx"` and so on; llama.cpp's doesn't."""
_NAMES: Final = dict.fromkeys((*_ENGINE, *_MOVING, _ANSWERS), "")


def engine(text: str, now: float) -> Engine:
    """Read an engine's metrics; what several engines of one server count is added up."""
    totals: dict[str, float] = {}
    model, errors = "", 0.0
    for name, labels, value in samples(text, _NAMES):
        if name != _ANSWERS:
            totals[name] = totals.get(name, 0) + value
        elif 'status="5xx"' in labels:
            errors += value
        if match := re.search(r'model_name="([^"]+)"', labels):
            model = match[1]
    known = {field: totals[name] for name, field in _ENGINE.items() if name in totals}
    moving = {name: totals[name] for name in _MOVING if name in totals}
    return Engine(at=now, model=model, errors=errors, moving=moving, **known)


def first_token(before: Engine | None, after: Engine) -> tuple[Engine, float | None]:
    """`after`, and the mean time to the first token since `before`; while requests queue and none begins, how long.

    Without this, an engine whose queue stands would look fine until its first late token.
    """
    if before is None or after.first_tokens is None or before.first_tokens is None:
        return after, None
    begun = after.first_tokens - before.first_tokens
    if begun > 0:
        return after, ((after.seconds or 0) - (before.seconds or 0)) / begun
    if begun < 0 or not (before.waiting and after.waiting):
        return after, None
    since = before.at if before.queued_since is None else before.queued_since
    return replace(after, queued_since=since), after.at - since


def moved(before: Engine | None, after: Engine) -> bool:
    """Whether the engine did anything since `before`. One that counts nothing, or is seen for the first time, did."""
    return before is None or not after.moving or after.moving != before.moving


def new_tokens(before: Engine | None, after: Engine) -> tuple[int, int]:
    """Tokens read and written since `before`; none where that is not known: of an engine that was there before the
    pilot, most are not of this time."""
    old = before and (before.read or 0, before.written or 0)
    new = after.read or 0, after.written or 0
    return (int(new[0] - old[0]), int(new[1] - old[1])) if old and old <= new else (0, 0)


def new_errors(before: Engine | None, after: Engine) -> int:
    """Answers of 5xx since `before`; all of an engine that is seen for the first time, or was started again."""
    old = before.errors if before and before.errors <= after.errors else 0
    return int(after.errors - old)
