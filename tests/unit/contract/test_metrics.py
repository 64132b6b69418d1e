"""The one list of the engines' metrics: nothing here relies on another one, and the stand-ins have no other."""

import re
from typing import Final

import pytest

from lab.programs import fake_metrics
from lab.programs.engine import Counts
from lab.read.stack import ROOT
from tests.contract.metrics import LLAMA_CPP, MOVING, VLLM, missing, moving, rows, total

NAME: Final = re.compile(r"\b(?:vllm:|llamacpp:|http_requests_|process_start_)\w+")
SHIPPED: Final = [
    path for folder in ("components", "charts") for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".sh", ".yaml", ".tpl", ".service")
]  # fmt: skip


def relied_on() -> set[str]:
    return {name for path in SHIPPED for name in NAME.findall(path.read_text())}


def test_nothing_shipped_reads_a_metric_that_is_not_in_the_list() -> None:
    assert relied_on() >= {"vllm:generation_tokens_total", "llamacpp:prompt_seconds_total"}, "the search finds nothing"
    assert relied_on() - VLLM.keys() - LLAMA_CPP.keys() == set()


@pytest.mark.parametrize(
    ("text", "real"),
    [(fake_metrics.vllm("m", Counts(), [0.5], 1.79e9), VLLM), (fake_metrics.llama_cpp(Counts()), LLAMA_CPP)],
    ids=["vllm", "llama.cpp"],
)
def test_a_stand_in_has_no_metric_and_no_label_that_the_engine_lacks(
    text: str, real: dict[str, frozenset[str]]
) -> None:
    found = rows(text)
    assert found
    assert [(name, labels) for name, labels, _ in found if not labels.keys() <= real.get(name, frozenset())] == []
    assert {name for name, _, _ in found} <= real.keys()


TEXT: Final = """\
# HELP vllm:num_requests_running Requests
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a/b"} 2.0
http_requests_total{handler="/v1/chat/completions",method="POST",status="2xx"} 3.0
http_requests_total{handler="/v1/chat/completions",method="POST",status="4xx"} 1e+01
process_start_time_seconds 1.79e+09
"""


def test_prometheus_text_is_read() -> None:
    assert rows(TEXT)[0] == ("vllm:num_requests_running", {"engine": "0", "model_name": "a/b"}, 2.0)
    assert total(TEXT, "http_requests_total") == 13.0
    assert total(TEXT, "process_start_time_seconds") == 1.79e9
    assert total(TEXT, "vllm:num_requests") == 0


def test_what_the_text_lacks_is_told() -> None:
    wanted = {name: VLLM[name] for name in ("vllm:num_requests_running", "http_requests_total")}
    assert missing(TEXT, wanted) == []
    assert missing(TEXT.replace("num_requests_running", "running"), wanted) == [
        "vllm:num_requests_running is not there"
    ]
    assert missing(TEXT.replace("handler", "path"), wanted) == [
        "http_requests_total has the labels ['method', 'path', 'status'], not ['handler', 'method', 'status']"
    ]


def test_what_moves_is_in_the_list() -> None:
    assert set(MOVING["vLLM"]) <= VLLM.keys()
    assert set(MOVING["llama.cpp"]) <= LLAMA_CPP.keys()
    assert moving(TEXT.replace("num_requests_running", "kv_cache_usage_perc"), "vLLM") == (0, 0, 2.0)
