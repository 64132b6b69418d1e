"""The engines' metrics that something here relies on: the pilot, probes, alerts, and the lab's stand-ins.

Owns: the one list of their names and labels, and the check of an engine's text against it. Does not own: what they
mean (`components.gateway.pilot`). Pure.
"""

import re
from collections.abc import Mapping
from typing import Final

ENGINE: Final = frozenset({"engine", "model_name"})
NONE: Final = frozenset[str]()

VLLM: Final[Mapping[str, frozenset[str]]] = {
    "process_start_time_seconds": NONE,
    "vllm:num_requests_running": ENGINE,
    "vllm:num_requests_waiting": ENGINE,
    "vllm:kv_cache_usage_perc": ENGINE,
    "vllm:prompt_tokens_total": ENGINE,
    "vllm:generation_tokens_total": ENGINE,
    "vllm:iteration_tokens_total_count": ENGINE,
    "vllm:iteration_tokens_total_sum": ENGINE,
    "vllm:time_to_first_token_seconds_bucket": ENGINE | {"le"},
    "vllm:time_to_first_token_seconds_sum": ENGINE,
    "vllm:time_to_first_token_seconds_count": ENGINE,
    # Statuses by their first digit: `2xx`. A row is there from the first such answer on.
    "http_requests_total": frozenset({"handler", "method", "status"}),
}
LLAMA_CPP: Final[Mapping[str, frozenset[str]]] = {
    "llamacpp:prompt_tokens_total": NONE,
    "llamacpp:prompt_tokens_cached_total": NONE,
    "llamacpp:prompt_seconds_total": NONE,
    "llamacpp:tokens_predicted_total": NONE,
    "llamacpp:tokens_predicted_seconds_total": NONE,
    "llamacpp:n_decode_total": NONE,
    "llamacpp:prompt_tokens_seconds": NONE,
    "llamacpp:predicted_tokens_seconds": NONE,
    "llamacpp:requests_processing": NONE,
    "llamacpp:requests_deferred": NONE,
    "llamacpp:n_busy_slots_per_decode": NONE,
}
MOVING: Final = {
    # A step that reads a part of a long prompt has no output: it changes the cache's share alone.
    "vLLM": ("vllm:iteration_tokens_total_count", "vllm:generation_tokens_total", "vllm:kv_cache_usage_perc"),
    "llama.cpp": ("llamacpp:n_decode_total",),
}
"""Metrics of which at least one changes with every step of the engine."""

_LINE: Final = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


def rows(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Name, labels and value of each line in Prometheus' text."""
    return [(name, dict(_LABEL.findall(labels)), float(value)) for name, labels, value in _LINE.findall(text)]


def total(text: str, name: str) -> float:
    """The sum of a metric's rows; 0 if it has none."""
    return sum(value for found, _, value in rows(text) if found == name)


def moving(text: str, engine: str) -> tuple[float, ...]:
    """`MOVING` as the text has it."""
    return tuple(total(text, name) for name in MOVING[engine])


def missing(text: str, wanted: Mapping[str, frozenset[str]]) -> list[str]:
    """What the text lacks of the list: a name, or a name's labels."""
    found: dict[str, frozenset[str]] = {}
    for name, labels, _ in rows(text):
        found[name] = found.get(name, NONE) | labels.keys()
    told = [f"{name} is not there" for name in wanted if name not in found]
    return told + [
        f"{name} has the labels {sorted(found[name])}, not {sorted(labels)}"
        for name, labels in wanted.items()
        if name in found and found[name] != labels
    ]
