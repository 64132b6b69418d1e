"""The fake engines are never kinder than the real ones: what they refuse, and how they look when they are stuck.

Statuses, types and messages are copied from real answers (`lab.programs.limits` names the versions).
"""

import base64
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from lab.run.ports import free_port
from tests.kit import until

ROOT = Path(__file__).parents[2]
ALIAS = "Qwen/Qwen2.5-VL-7B-Instruct"
LIMIT_S = 30.0
VLLM = ["--engine", "vllm", "--parallel", "8", "--ctx-size", "2048", "--limit-mm-per-prompt", '{"image":2,"video":0}',
        "--allowed-media-domains", "images-are-sent-inline.invalid"]  # fmt: skip
LLAMA_CPP = ["--engine", "llama.cpp", "--parallel", "2", "--ctx-size", "4096", "--mmproj", "some"]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
}


@contextlib.contextmanager
def engine(*options: str, env: dict[str, str] | None = None) -> Generator[str]:
    port = free_port()
    words = [sys.executable, "-m", "lab.programs.fake_model", "--alias", ALIAS, "--marker", "m", "--port", str(port)]
    process = subprocess.Popen([*words, *options], cwd=ROOT, env={"PATH": os.environ["PATH"], **(env or {})})
    base = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{base}/health", timeout=LIMIT_S).ok
        return False

    try:
        until(ready, "the fake engine answers")
        yield base
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def vllm() -> Iterator[str]:
    with engine(*VLLM) as base:
        yield base


@pytest.fixture(scope="module")
def llama_cpp() -> Iterator[str]:
    with engine(*LLAMA_CPP) as base:
        yield base


def picture(size: tuple[int, int] = (64, 64)) -> str:
    out = io.BytesIO()
    Image.new("RGB", size, (1, 2, 3)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def content(*urls: str, kind: str = "image_url") -> dict[str, Any]:
    parts = [{"type": "text", "text": "hi"}, *({"type": kind, kind: {"url": url}} for url in urls)]
    return {"messages": [{"role": "user", "content": parts}]}


def words(tokens: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "x" * (4 * tokens)}]}


def post(base: str, body: dict[str, Any], path: str = "/v1/chat/completions", **options: Any) -> requests.Response:
    whole = {"model": ALIAS, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, **body}
    return requests.post(base + path, json=whole, timeout=options.pop("timeout", LIMIT_S), **options)


def refused(base: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    answer = post(base, body)
    return answer.status_code, answer.json().get("error", {})


@pytest.mark.parametrize(("kind", "kept"), [("llama_cpp", 100), ("vllm", 150)])
def test_llama_cpp_closes_a_connection_after_100_requests(request: pytest.FixtureRequest, kind: str, kept: int) -> None:
    """So the balancer in front of a group gets a new one to lead elsewhere, which a lane in steady use needs."""
    base: str = request.getfixturevalue(kind)
    with requests.Session() as session:
        counts = [0]
        for _ in range(150):
            closes = session.get(f"{base}/health", timeout=LIMIT_S).headers.get("Connection") == "close"
            counts[-1] += 1
            counts += [0] if closes else []
    assert counts[0] == kept


# --- vLLM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "kind", "param", "message"),
    [
        (words(9000), 400, "BadRequestError", "input_tokens",
         r"This model's maximum context length is 2048 tokens\. However, you requested 2 output tokens and your prompt "
         r"contains \d+ input tokens, for a total of \d+ tokens\. Please .* \(parameter=input_tokens, value=\d+\)"),
        ({**words(1500), "max_tokens": 1900}, 400, "BadRequestError", "input_tokens", "requested 1900 output tokens"),
        ({"max_tokens": 5000}, 400, "BadRequestError", "max_tokens",
         r"max_tokens=5000 cannot be greater than max_model_len=max_total_tokens=2048\. Please request fewer output "
         r"tokens\. \(parameter=max_tokens, value=5000\)"),
        ({"max_tokens": 0}, 400, "BadRequestError", "max_tokens",
         r"max_tokens must be at least 1, got 0\. \(parameter=max_tokens, value=0\)"),
        (content(*[picture()] * 3), 400, "BadRequestError", "image",
         r"At most 2 image\(s\) may be provided in one prompt\. \(parameter=image\)"),
        (content("data:video/mp4;base64,AAAA", kind="video_url"), 400, "BadRequestError", "video",
         r"At most 0 video\(s\) may be provided in one prompt\. \(parameter=video\)"),
        ({"tools": [TOOL]}, 400, "BadRequestError", None,
         '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        ({"tools": [TOOL], "tool_choice": "required"}, 400, "BadRequestError", None,
         'tool_choice="required" requires --tool-call-parser to be set'),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}}, 400, "BadRequestError",
         None, 'tool_choice=function "f" requires --tool-call-parser to be set'),
        ({"n": 0}, 400, "BadRequestError", None, r"n must be at least 1, got 0\."),
        ({"n": 20000}, 400, "BadRequestError", None,
         r"n must be at most 16384, got 20000\. To increase this limit, set the VLLM_MAX_N_SEQUENCES environment .*"),
        (content("http://127.0.0.1:9/x.png"), 400, "BadRequestError", None,
         r"The URL must be from one of the allowed domains: \['images-are-sent-inline.invalid'\]\. "
         r"Input URL domain: 127\.0\.0\.1"),
        (content("file:///etc/passwd"), 500, "InternalServerError", None, "Cannot load local files without .*"),
        (content("ftp://x/y"), 400, "BadRequestError", None, "The URL must be either a HTTP, data or file URL."),
        (content("data:image/png;base64,@@@@"), 400, "BadRequestError", None, "Non-base64 digit found"),
        (content("data:image/png,raw"), 501, "NotImplementedError", None, "Only base64 data URLs are supported .*"),
        (content("data:image/png;base64,AAAA"), 400, "BadRequestError", None, "Failed to load image: cannot .*"),
        ({"model": 7}, 400, "Bad Request", "body.model",
         r"^1 validation error:\n  \{'type': 'string_type', .*'input': 7\}$"),
        ({"model": "nosuch"}, 404, "NotFoundError", "model", "The model `nosuch` does not exist."),
        ({"messages": []}, 400, "BadRequestError", None, "Cannot apply chat template to an empty conversation. .*"),
    ],
)  # fmt: skip
def test_vllm_refuses(vllm: str, body: dict[str, Any], status: int, kind: str, param: str | None, message: str) -> None:
    found, error = refused(vllm, body)
    assert (found, error["type"], error["param"], error["code"]) == (status, kind, param, status)
    assert re.search(message, error["message"]), error["message"]


@pytest.mark.parametrize(
    "body",
    [{}, words(1500), content(picture(), picture()), {"n": 3}, {"tools": [TOOL], "tool_choice": "none"}, {"tools": []}],
    ids=str,
)
def test_vllm_takes_what_fits(vllm: str, body: dict[str, Any]) -> None:
    assert post(vllm, body).status_code == 200


def test_a_picture_takes_its_share_of_the_context(vllm: str) -> None:
    """12 megapixels are 10,206 tokens without a cap; vLLM's is declared, in pixels."""
    large = picture((4000, 3000))
    assert refused(vllm, content(large))[0] == 400
    with engine(*VLLM, "--mm-processor-kwargs", '{"size":{"shortest_edge":6272,"longest_edge":589568}}') as capped:
        assert post(capped, content(large)).status_code == 200


def test_what_is_declared_is_taken() -> None:
    options = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    with engine(*VLLM, *options, env={"VLLM_MAX_N_SEQUENCES": "2", "VLLM_SKIP_MODEL_NAME_VALIDATION": "1"}) as base:
        assert post(base, {"tools": [TOOL]}).status_code == 200
        assert post(base, {"model": "nosuch"}).status_code == 200
        assert "n must be at most 2, got 3." in refused(base, {"n": 3})[1]["message"]


# --- llama.cpp -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "kind", "message"),
    [
        (words(9000), 400, "exceed_context_size_error",
         r"request \(\d+ tokens\) exceeds the available context size \(2048 tokens\), try increasing it"),
        ({"n": 3}, 400, "invalid_request_error", "Field 'n': Value must be between 1 <= value <= 2, but got 3"),
        ({"max_tokens": -5}, 400, "invalid_request_error",
         "Field 'max_tokens': Value must be between -1 <= value <= 2147483647, but got -5"),
        (content("http://127.0.0.1:9/x.png"), 500, "server_error", "error: cannot make GET request"),
        (content("https://example.org/x.png"), 500, "server_error", "error: cannot make GET request"),
        (content("file:///etc/passwd"), 400, "invalid_request_error", "file:// URLs are not allowed unless .*"),
        (content("ftp://x/y"), 400, "invalid_request_error", "Failed to load image or audio file"),
        (content("data:image/png;base64,@@@@"), 400, "invalid_request_error", "Failed to load image or audio file"),
        (content("data:image/png,raw"), 400, "invalid_request_error", "uri must be base64 encoded"),
        (content("data:image/png;base64,AAAA"), 400, "invalid_request_error", "Failed to load image or audio file"),
        (content("data:video/mp4;base64,AAAA", kind="video_url"), 400, "invalid_request_error",
         "Failed to load image or audio file"),
    ],
)  # fmt: skip
def test_llama_cpp_refuses(llama_cpp: str, body: dict[str, Any], status: int, kind: str, message: str) -> None:
    found, error = refused(llama_cpp, body)
    assert (found, error["type"], error["code"]) == (status, kind, status)
    assert re.fullmatch(message, error["message"]), error["message"]


@pytest.mark.parametrize(
    "body", [{}, {"n": 2}, {"model": "nosuch"}, {"tools": [TOOL]}, content(*[picture()] * 3), {"max_tokens": 5000}],
    ids=str,
)  # fmt: skip
def test_llama_cpp_takes_what_fits(llama_cpp: str, body: dict[str, Any]) -> None:
    assert post(llama_cpp, body).status_code == 200


def test_llama_cpp_without_a_projector_takes_no_pictures() -> None:
    with engine(*LLAMA_CPP[:-2]) as base:
        status, error = refused(base, content(picture()))
    assert (status, error["type"]) == (500, "server_error")
    assert error["message"].startswith("image input is not supported - hint: if this is unexpected")


# --- stuck, or failing -----------------------------------------------------------------------------------------------


def metrics(base: str) -> dict[str, float]:
    text = requests.get(f"{base}/metrics", timeout=LIMIT_S).text
    return {name: float(value) for name, value in re.findall(r"^([^#\s]+) (\S+)$", text, re.MULTILINE)}


def of_engine(base: str) -> dict[str, float]:
    return {name: value for name, value in metrics(base).items() if name.startswith("vllm:")}


@pytest.fixture(params=["scripted", "paced"])
def working(request: pytest.FixtureRequest) -> Iterator[str]:
    pace = ["--pace", json.dumps({"prompt": 4600, "picture": 4650, "answer": 200})]
    with engine(*VLLM, *(pace if request.param == "paced" else [])) as base:
        yield base


def test_a_stuck_vllm_takes_requests_and_its_metrics_stand_still(working: str) -> None:
    post(working, {}).raise_for_status()
    before = of_engine(working)
    assert before[f'vllm:iteration_tokens_total_count{{engine="0",model_name="{ALIAS}"}}'] > 0
    requests.post(f"{working}/_fault", json={"mute": True}, timeout=LIMIT_S).raise_for_status()
    with post(working, {"stream": True}, stream=True) as begun:
        assert begun.status_code == 200, "a stream's headers go out at once"
        with pytest.raises(requests.ReadTimeout):
            post(working, {}, timeout=0.5)
        assert requests.get(f"{working}/health", timeout=LIMIT_S).status_code == 200
        assert requests.get(f"{working}/v1/models", timeout=LIMIT_S).status_code == 200
        assert of_engine(working) == before
        requests.delete(f"{working}/_fault", timeout=LIMIT_S)
        assert b"BACKEND:m" in begun.content, "lifted, it goes on"
    until(lambda: of_engine(working) != before, "its metrics go on")


def test_a_slow_vllm_takes_steps(working: str) -> None:
    requests.post(f"{working}/_fault", json={"first_token_delay": 60}, timeout=LIMIT_S).raise_for_status()
    with post(working, {"stream": True}, stream=True):
        before = of_engine(working)
        until(lambda: of_engine(working) != before, "it is slow, not stuck")


def test_a_stream_of_a_stuck_vllm_has_no_token(working: str) -> None:
    requests.post(f"{working}/_fault", json={"mute": True}, timeout=LIMIT_S).raise_for_status()
    got: list[bytes] = []

    def read() -> None:
        with post(working, {"stream": True}, stream=True) as begun:
            got.extend(begun.iter_lines())

    reading = threading.Thread(target=read)
    reading.start()
    reading.join(1)
    assert (reading.is_alive(), got) == (True, [])
    requests.delete(f"{working}/_fault", timeout=LIMIT_S)
    reading.join(LIMIT_S)
    assert not reading.is_alive()


def test_each_instance_of_vllm_says_when_it_began(vllm: str, working: str) -> None:
    began = [metrics(base)["process_start_time_seconds"] for base in (vllm, working)]
    assert 0 < began[1] - began[0] < 3600
    assert began[1] == pytest.approx(time.time(), abs=3600)
    assert metrics(vllm)["process_start_time_seconds"] == began[0], "as long as it lives"


def test_requests_are_counted_as_vllm_counts_them(vllm: str) -> None:
    def counted() -> dict[str, float]:
        return {name: value for name, value in metrics(vllm).items() if name.startswith("http_requests_total")}

    def added(before: dict[str, float]) -> dict[str, float]:
        return {name: value - before.get(name, 0) for name, value in counted().items() if value != before.get(name, 0)}

    def label(handler: str, method: str, status: str) -> str:
        return f'http_requests_total{{handler="{handler}",method="{method}",status="{status}"}}'

    before = counted()
    post(vllm, {})
    post(vllm, {"n": 0})
    requests.get(f"{vllm}/nowhere", timeout=LIMIT_S)
    chat = "/v1/chat/completions"
    assert added(before) == {
        label(chat, "POST", "2xx"): 1,
        label(chat, "POST", "4xx"): 1,
        label("none", "GET", "4xx"): 1,
    }
    requests.post(f"{vllm}/_fault", json={"status": 500}, timeout=LIMIT_S).raise_for_status()
    try:
        before = counted()
        status, error = refused(vllm, {})
        assert (status, error["type"], error["code"]) == (500, "InternalServerError", 500)
        assert requests.get(f"{vllm}/v1/models", timeout=LIMIT_S).status_code == 500
        assert requests.get(f"{vllm}/health", timeout=LIMIT_S).status_code == 200
        assert added(before) == {label(chat, "POST", "5xx"): 1, label("/v1/models", "GET", "5xx"): 1}
    finally:
        requests.delete(f"{vllm}/_fault", timeout=LIMIT_S)
    requests.post(f"{vllm}/_fault", json={"mute": True}, timeout=LIMIT_S).raise_for_status()
    try:
        before = counted()
        with pytest.raises(requests.ReadTimeout):
            post(vllm, {}, timeout=0.3)
        gone = {label(chat, "POST", "2xx"): 1.0}
        until(lambda: added(before) == gone, "who left without an answer counts as answered, as with vLLM")
    finally:
        requests.delete(f"{vllm}/_fault", timeout=LIMIT_S)
