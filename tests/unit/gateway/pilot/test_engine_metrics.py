"""vLLM's metrics: how long a first token took, and how long none has come."""

import pytest

from components.gateway.pilot.engine import engine, first_token


def text(first_tokens: float, seconds: float, running: int = 0, waiting: int = 0, tokens: float | None = None) -> str:
    label = '{engine="0",model_name="org/model"}'
    lines = [
        "# TYPE vllm:time_to_first_token_seconds histogram",
        f'vllm:time_to_first_token_seconds_bucket{{le="0.1",model_name="org/model"}} {first_tokens}',
        f"vllm:time_to_first_token_seconds_count{label} {first_tokens}",
        f"vllm:time_to_first_token_seconds_sum{label} {seconds}",
        f"vllm:num_requests_running{label} {running}",
        f"vllm:num_requests_waiting{label} {waiting}",
        "process_start_time_seconds 1.7e9",
    ]
    return "\n".join(lines + ([f"vllm:generation_tokens_total{label} {tokens}"] if tokens is not None else []))


@pytest.mark.parametrize(
    ("reads", "seconds"),
    [
        ([text(4, 2.0)], None),
        ([text(4, 2.0), text(4, 2.0)], None),
        ([text(4, 2.0), text(8, 14.0)], 3.0),
        # Restarted: its counters begin again.
        ([text(4, 2.0), text(1, 0.1)], None),
        # Queued, and none begins; running, and no token comes.
        ([text(4, 2.0, 8, 1), text(4, 2.0, 8, 1), text(4, 2.0, 8, 3)], 2.0),
        ([text(4, 2.0, 1, 0, 50), text(4, 2.0, 1, 0, 50), text(4, 2.0, 1, 0, 50)], 2.0),
        # One long answer is no trouble, nor is an engine that does not count tokens.
        ([text(4, 2.0, 1, 0, 50), text(4, 2.0, 1, 0, 80)], None),
        ([text(4, 2.0, 1), text(4, 2.0, 1)], None),
        ([text(4, 2.0, 8, 1), text(4, 2.0, 8, 1), text(5, 7.0, 8, 0)], 5.0),
        (["", ""], None),
    ],
)
def test_time_to_the_first_token_is_read(reads: list[str], seconds: float | None) -> None:
    before, found = None, None
    for index, read in enumerate(reads):
        before, found = first_token(before, engine(read, 100.0 + index))
    assert found == seconds
    assert before is not None
    assert before.model == ("org/model" if reads[-1] else "")
