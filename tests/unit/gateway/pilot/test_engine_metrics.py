"""The engines' metrics: how long a first token took, whether anything moved, and how many answers were errors."""

import pytest

from components.gateway.pilot.engine import engine, first_token, moved, new_errors, new_tokens


def text(first_tokens: float, seconds: float, running: int = 0, waiting: int = 0, **more: float) -> str:
    """vLLM 0.29.0's; `more`: others of its counters, and `errors`."""
    label = '{engine="0",model_name="org/model"}'
    errors = more.pop("errors", 0)
    lines = [
        "# TYPE vllm:time_to_first_token_seconds histogram",
        f'vllm:time_to_first_token_seconds_bucket{{le="0.1",model_name="org/model"}} {first_tokens}',
        f"vllm:time_to_first_token_seconds_count{label} {first_tokens}",
        f"vllm:time_to_first_token_seconds_sum{label} {seconds}",
        f"vllm:num_requests_running{label} {running}",
        f"vllm:num_requests_waiting{label} {waiting}",
        "process_start_time_seconds 1.7e9",
        'http_requests_total{handler="/v1/chat/completions",method="POST",status="2xx"} 41.0',
        f'http_requests_total{{handler="/v1/chat/completions",method="POST",status="5xx"}} {errors}',
        f'http_requests_total{{handler="/v1/completions",method="POST",status="5xx"}} {errors}',
        'http_requests_created{handler="/v1/completions",method="POST",status="5xx"} 1.7e9',
    ]
    return "\n".join(lines + [f"vllm:{name}{label} {value}" for name, value in more.items()])


def llama_cpp(read: float, predicted: float, batches: float, processing: int = 1) -> str:
    return (
        f"llamacpp:prompt_tokens_total {read}\nllamacpp:tokens_predicted_total {predicted}\n"
        f"llamacpp:n_decode_total {batches}\nllamacpp:requests_processing {processing}\n"
    )


@pytest.mark.parametrize(
    ("reads", "seconds"),
    [
        ([text(4, 2.0)], None),
        ([text(4, 2.0), text(4, 2.0)], None),
        ([text(4, 2.0), text(8, 14.0)], 3.0),
        # Restarted: its counters begin again.
        ([text(4, 2.0), text(1, 0.1)], None),
        # Queued, and none begins.
        ([text(4, 2.0, 8, 1), text(4, 2.0, 8, 1), text(4, 2.0, 8, 3)], 2.0),
        ([text(4, 2.0, 8, 1), text(4, 2.0, 8, 1), text(5, 7.0, 8, 0)], 5.0),
        # One long answer is no trouble, nor is one that stands still any news of first tokens.
        ([text(4, 2.0, 1), text(4, 2.0, 1)], None),
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


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (text(4, 2.0), text(5, 2.1), True),
        (text(4, 2.0, generation_tokens_total=9), text(4, 2.0, generation_tokens_total=10), True),
        (text(4, 2.0, iteration_tokens_total_count=9), text(4, 2.0, iteration_tokens_total_count=10), True),
        # A long prompt is read: no token, and its share of the cache grows with each step.
        (text(4, 2.0, kv_cache_usage_perc=0.1), text(4, 2.0, kv_cache_usage_perc=0.2), True),
        # Who comes and who is refused is no step of the engine.
        (text(4, 2.0), text(4, 2.0, 3, 2, errors=2), False),
        (llama_cpp(9, 9, 9), llama_cpp(9, 9, 10), True),
        (llama_cpp(9, 9, 9), llama_cpp(12, 9, 9), True),
        (llama_cpp(9, 9, 9), llama_cpp(9, 11, 9), True),
        (llama_cpp(9, 9, 9), llama_cpp(9, 9, 9, processing=2), False),
        # Nothing is said of an engine that counts nothing.
        ("", "", True),
    ],
)
def test_a_step_of_the_engine_is_seen(before: str, after: str, found: bool) -> None:
    assert moved(engine(before, 100.0), engine(after, 101.0)) is found
    assert moved(None, engine(after, 101.0)), "the first look has nothing to compare with"


def test_only_new_errors_are_told() -> None:
    none, two, three = (engine(text(4, 2.0, errors=errors), 100.0) for errors in (0, 1, 1.5))
    assert [new_errors(None, two), new_errors(none, two), new_errors(two, three)] == [2, 2, 1]
    assert (new_errors(two, two), new_errors(three, two)) == (0, 2), "it was started again"
    assert new_errors(None, engine(llama_cpp(1, 1, 1), 100.0)) == 0


@pytest.mark.parametrize(
    ("reads", "tokens"),
    [
        ([text(4, 2.0, prompt_tokens_total=900, generation_tokens_total=90)], (0, 0)),
        ([text(4, 2.0, prompt_tokens_total=900, generation_tokens_total=90),
          text(5, 2.5, prompt_tokens_total=1200, generation_tokens_total=90)], (300, 0)),
        # Started again: its counters say nothing about what came before.
        ([text(4, 2.0, prompt_tokens_total=900, generation_tokens_total=90),
          text(1, 0.5, prompt_tokens_total=10, generation_tokens_total=1)], (0, 0)),
        ([llama_cpp(300, 20, 9), llama_cpp(300, 41, 30)], (0, 21)),
        (["", ""], (0, 0)),
    ],
)  # fmt: skip
def test_new_tokens_are_told(reads: list[str], tokens: tuple[int, int]) -> None:
    engines = [engine(read, 100.0 + index) for index, read in enumerate(reads)]
    assert new_tokens(engines[-2] if len(engines) > 1 else None, engines[-1]) == tokens
