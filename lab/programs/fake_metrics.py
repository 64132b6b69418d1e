"""The fake engine's metrics as Prometheus' text, each engine's under its own names.

Owns: the names and the format, and vLLM's count of requests. Does not own: what an engine counts (`engine`,
`fake_model`). llama.cpp's names, and which of them it has, are those of its own server (b11206's `/metrics`); vLLM's
are those of 0.29.0 that the pilot and the liveness probe may read.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web

from lab.programs.engine import Counts

_TTFT: Final = "vllm:time_to_first_token_seconds"
_UNCOUNTED: Final = {"/health", "/metrics"}
_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
)  # fmt: skip


class Served:
    """`http_requests_total`, as vLLM's server counts; it does so while its engine is stuck, too."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()

    @web.middleware
    async def count(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """A request at its end. One whose caller went before any answer counts as 2xx (seen at 0.29.0)."""
        status = 200
        try:
            response = await handler(request)
            status = response.status
        except web.HTTPException as refused:
            status = refused.status
            raise
        except OSError:
            # A connection that the stand-in broke, which no vLLM does.
            status = 0
            raise
        except asyncio.CancelledError:
            raise
        finally:
            resource = request.match_info.route.resource
            handled = resource.canonical if resource else "none"
            if status and handled not in _UNCOUNTED and not handled.startswith("/_"):
                self._counts[handled, request.method, f"{status // 100}xx"] += 1
        return response

    def text(self) -> str:
        """Prometheus' text."""
        lines = ["# TYPE http_requests_total counter"]
        for (handled, method, status), count in self._counts.items():
            lines.append(f'http_requests_total{{handler="{handled}",method="{method}",status="{status}"}} {count}.0')
        return "\n".join(lines) + "\n"


def vllm(alias: str, counts: Counts, first_tokens: Sequence[float], started: float) -> str:
    """`first_tokens`: seconds to each answer's first token; `started`: Unix time, which tells instances apart."""
    label = f'engine="0",model_name="{alias}"'
    lines = ["# TYPE process_start_time_seconds gauge", f"process_start_time_seconds {started:.2f}"]
    for name, kind, value in (
        ("num_requests_running", "gauge", counts.processing),
        ("num_requests_waiting", "gauge", counts.deferred),
        ("prompt_tokens_total", "counter", counts.prompt_tokens),
        ("generation_tokens_total", "counter", counts.generated),
    ):
        lines += [f"# TYPE vllm:{name} {kind}", f"vllm:{name}{{{label}}} {value}"]
    # vLLM counts the steps that have an output; a stand-in's steps count one and all.
    steps = "vllm:iteration_tokens_total"
    lines += [f"# TYPE {steps} histogram", f"{steps}_count{{{label}}} {counts.steps}"]
    lines += [f"{steps}_sum{{{label}}} {counts.prompt_tokens + counts.generated}"]
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
