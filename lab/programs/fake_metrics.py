"""The fake engine's metrics as Prometheus' text, each engine's under its own names.

Owns: the names and the format. Does not own: counting (`engine`, `fake_model`). llama.cpp's names, and which of them it
has, are those of its own server (b11206's `/metrics`); vLLM's are those of 0.29.0 that the pilot may read.
"""

from collections.abc import Sequence
from typing import Final

from lab.programs.engine import Counts

_TTFT: Final = "vllm:time_to_first_token_seconds"
_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
)  # fmt: skip


def vllm(alias: str, counts: Counts, first_tokens: Sequence[float]) -> str:
    """`first_tokens`: seconds to each answer's first token."""
    label = f'model_name="{alias}"'
    lines: list[str] = []
    for name, kind, value in (
        ("num_requests_running", "gauge", counts.processing),
        ("num_requests_waiting", "gauge", counts.deferred),
        ("prompt_tokens_total", "counter", counts.prompt_tokens),
        ("generation_tokens_total", "counter", counts.generated),
    ):
        lines += [f"# TYPE vllm:{name} {kind}", f"vllm:{name}{{{label}}} {value}"]
    lines += [f"# TYPE {_TTFT} histogram"]
    buckets = [(str(limit), sum(t <= limit for t in first_tokens)) for limit in _BUCKETS]
    lines += [f'{_TTFT}_bucket{{{label},le="{le}"}} {count}' for le, count in [*buckets, ("+Inf", len(first_tokens))]]
    lines += [f"{_TTFT}_sum{{{label}}} {sum(first_tokens)}", f"{_TTFT}_count{{{label}}} {len(first_tokens)}"]
    return "\n".join(lines) + "\n"


def llama_cpp(counts: Counts) -> str:
    """llama.cpp's have no labels and no histogram."""
    lines: list[str] = []
    for name, kind, value in (
        ("prompt_tokens_total", "counter", counts.prompt_tokens),
        ("prompt_tokens_cached_total", "counter", 0),
        ("prompt_seconds_total", "counter", counts.prompt_s),
        ("tokens_predicted_total", "counter", counts.answer_tokens),
        ("tokens_predicted_seconds_total", "counter", counts.answer_s),
        ("n_decode_total", "counter", counts.steps),
        ("prompt_tokens_seconds", "gauge", counts.prompt_tokens / counts.prompt_s if counts.prompt_s else 0),
        ("predicted_tokens_seconds", "gauge", counts.answer_tokens / counts.answer_s if counts.answer_s else 0),
        ("requests_processing", "gauge", counts.processing),
        ("requests_deferred", "gauge", counts.deferred),
        ("n_busy_slots_per_decode", "gauge", counts.busy / counts.steps if counts.steps else 0),
    ):
        lines += [
            f"# TYPE llamacpp:{name} {kind}",
            f"llamacpp:{name} {value if isinstance(value, int) else f'{value:.6g}'}",
        ]
    return "\n".join(lines) + "\n"
