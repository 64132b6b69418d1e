"""What the VM's llama.cpp makes of its declared command line, and what it answers to callers: the real one, here.

Owns: the VM's declaration against llama.cpp itself. Does not own: the other engine, and the table of both (`kinds`).
The expected numbers are those of the declaration, which is read as the lab reads it.
"""

import asyncio
import base64
import contextlib
import dataclasses
import functools
import io
import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import requests
from PIL import Image

from components.gateway.pilot import prompts
from lab.errors import LabError
from lab.programs import model_server
from lab.programs.prompt import picture_tokens
from lab.read import images, plan
from lab.read.cloud import Cloud
from lab.read.plan import Plan
from lab.read.stack import ROOT, config_of, render
from lab.read.vm import Vm
from lab.run.ports import free_port
from tests.contract import llama_cpp
from tests.kit import loop_beside, until

LIMIT_S: Final = 280.0
"""For one answer: less than the gateway's time-out."""
SILENCE_S: Final = 5.0
"""Longer than any pause between two tokens."""
SLOW: Final = pytest.mark.slow
TOOL: Final = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
FIELDS: Final[Mapping[str, Callable[[Any], object]]] = {
    "--host": lambda p: p.hostnames[0],
    "--port": lambda p: p.port,
    "--model": lambda p: p.model.path,
    "--mmproj": lambda p: p.mmproj.path,
    "--alias": lambda p: next(iter(p.model_alias)),
    "--chat-template": lambda p: p.chat_template,
    "--ctx-size": lambda p: p.n_ctx,
    "--parallel": lambda p: p.n_parallel,
    "--threads": lambda p: p.cpuparams.n_threads,
    "--batch-size": lambda p: p.n_batch,
    "--ubatch-size": lambda p: p.n_ubatch,
    "--cache-ram": lambda p: p.cache_ram_mib,
    "--image-min-tokens": lambda p: p.image_min_tokens,
    "--image-max-tokens": lambda p: p.image_max_tokens,
    "--n-gpu-layers": lambda p: {-2: "all"}.get(p.n_gpu_layers),
    "--metrics": lambda p: {True: ""}.get(p.endpoint_metrics),
}
"""Where a declared argument must arrive."""


@functools.cache
def declared(**changes: str) -> Plan:
    cloud = Cloud(port=0)
    settings = {f"pilotlight:{key}": value for key, value in {"lanes": '["home", "burst", "vm"]', **changes}.items()}
    return plan.read(render("dev", {**cloud.config(), **config_of("dev"), **settings}, cloud.compute))


def vm(**changes: str) -> Vm:
    found = declared(**changes).vm
    assert found
    return found


def value(name: str) -> str:
    found = images.value_of(vm().container.args, name)
    assert found, f"the VM declares {name}"
    return found


def slots() -> int:
    return int(value("--parallel"))


def context() -> int:
    """Of one slot, tokens."""
    return int(value("--ctx-size")) // slots()


# --- its argument parser ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"vm": '{"gpu": "t4"}'}], ids=["default", "card"])
def test_llama_cpp_takes_every_declared_argument_to_where_it_belongs(changes: dict[str, str]) -> None:
    words = vm(**changes).container.args
    params = model_server.parsed(words)
    names = [word for word in words if word.startswith("--")]
    pairs = {name: images.value_of([*words, ""], name) if name != "--metrics" else "" for name in names}
    assert {"--ctx-size", "--parallel", "--cache-ram", "--image-max-tokens", "--metrics"} <= pairs.keys()
    assert pairs == {name: str(FIELDS[name](params)) for name in names}


def test_what_the_declaration_leaves_open_is_as_llama_cpp_has_it() -> None:
    """The lab sets nothing of it."""
    line = llama_cpp.command(vm(), 1)
    here = model_server.parsed(line[line.index("--host") :])
    there = model_server.parsed([*vm().container.args])
    for name in ("n_predict", "n_threads_http", "endpoint_slots", "use_jinja", "ui", "fit_params", "warmup",
                 "cache_ram_mib", "n_batch", "n_gpu_layers", "cont_batching", "ctx_shift", "kv_unified"):  # fmt: skip
        assert getattr(here, name) == getattr(there, name), name
    assert here.sampling.temp == there.sampling.temp


@pytest.mark.parametrize(("name", "other"), [("PARSER", "_Z3not_there"), ("SERVER", 11)])
def test_another_build_than_expected_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, name: str, other: object
) -> None:
    monkeypatch.setattr(model_server, name, other)
    with pytest.raises(SystemExit, match="keeps its parameters elsewhere than this program looks for them"):
        model_server.parsed(["--model", "a"])


def test_a_word_that_llama_cpp_does_not_know_ends_the_server_and_the_log_says_so(tmp_path: Path) -> None:
    container = vm().container
    wrong = dataclasses.replace(container, args=(*container.args, "--no-such-thing", "7"))

    async def start() -> None:
        async with llama_cpp.started(dataclasses.replace(vm(), container=wrong), tmp_path):
            pass

    with pytest.raises(LabError, match="a process ended before"):
        asyncio.run(start())
    said = (tmp_path / "llama.cpp.log").read_text().strip()
    assert said.endswith("error: invalid argument: --no-such-thing"), "and nothing was started"


# --- its answers -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("llama.cpp")
    with loop_beside() as loop:
        server = llama_cpp.started(vm(), folder)
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(llama_cpp.START_S)
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(30)


def ask(url: str, content: object = "Hello!", **more: Any) -> requests.Response:
    messages = [{"role": "user", "content": content}]
    body: Any = {"model": value("--alias"), "messages": messages, "max_tokens": 8, **more}
    return requests.post(f"{url}/v1/chat/completions", json=body, timeout=LIMIT_S)


def answered(answer: requests.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return answer.json()


def prompt_tokens(answer: requests.Response) -> int:
    return answered(answer)["usage"]["prompt_tokens"]


def refused(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["type"]


def looking(*sizes: tuple[int, int]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": "What is this?"}]
    for size in sizes:
        jpeg = io.BytesIO()
        Image.effect_noise(size, 60).save(jpeg, "JPEG", quality=30)
        data = "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()
        parts.append({"type": "image_url", "image_url": {"url": data}})
    return parts


def words(tokens: int) -> str:
    """A text of so many tokens: each of these words is one."""
    return "word " * tokens


def test_it_has_the_declared_slots_with_the_declared_context(url: str) -> None:
    told = requests.get(f"{url}/props", timeout=LIMIT_S).json()
    assert (told["total_slots"], told["default_generation_settings"]["n_ctx"]) == (slots(), context())


def test_each_slot_holds_what_the_other_lanes_take(url: str) -> None:
    """Issue 12: 9,030 tokens were served at home, and refused by the VM for good."""
    found = declared()
    assert found.burst
    others = [found.burst.container.args, *(pod.args for pod in found.pods if pod.name == "vllm")]
    taken = max(int(images.value_of(args, "--max-model-len") or 0) for args in others)
    assert taken > 0
    told = requests.get(f"{url}/props", timeout=LIMIT_S).json()
    assert told["default_generation_settings"]["n_ctx"] >= taken


def test_it_answers_a_text_under_the_declared_name(url: str) -> None:
    answer = answered(ask(url))
    assert answer["model"] == value("--alias")
    assert answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("name", ["gpt-4o", "", None, 7, ["a"]])
def test_whatever_a_caller_names_it_answers_as_the_declared_model(url: str, name: object) -> None:
    assert answered(ask(url, model=name))["model"] == value("--alias")
    events = [line.removeprefix("data: ") for line in ask(url, model=name, stream=True).text.split("\n\n")]
    assert {json.loads(event)["model"] for event in events if event.startswith("{")} == {value("--alias")}


def test_a_stream_comes_in_pieces_and_ends_with_its_usage(url: str) -> None:
    lines = ask(url, stream=True, stream_options={"include_usage": True}).text.split("\n\n")
    events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert len(events) > 3
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] > 0


def test_it_gives_as_many_answers_as_it_has_slots_and_refuses_more(url: str) -> None:
    assert len(answered(ask(url, n=slots()))["choices"]) == slots()
    assert refused(ask(url, n=slots() + 1)) == (400, "invalid_request_error")


def test_it_takes_tools_and_shows_them_to_the_model(url: str) -> None:
    plain = prompt_tokens(ask(url))
    answer = ask(url, tools=[TOOL], tool_choice="auto")
    assert answered(answer)["choices"][0]["message"]["role"] == "assistant"
    assert prompt_tokens(answer) > plain + 20, "a template without a place for tools drops them"
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    said = [
        {"role": "user", "content": "Is it warm in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "21 degrees"},
    ]
    answered(ask(url, tools=[TOOL], messages=said))


def test_it_answers_in_json_if_it_is_told_to(url: str) -> None:
    kind = {"type": "json_object"}
    answer = answered(ask(url, "Give JSON.", response_format=kind, temperature=0, max_tokens=40))
    # The small model may write spaces until it is cut off, but begins no other word.
    assert answer["choices"][0]["message"]["content"].lstrip()[:1] in ("{", "")
    assert refused(ask(url, response_format={"type": "json_schema", "json_schema": {"schema": {"type": 7}}}))[0] == 400


def test_a_picture_takes_its_true_way_and_counts_its_true_tokens(url: str) -> None:
    marks = prompt_tokens(ask(url, looking((112, 112)), max_tokens=1)) - picture_tokens(112, 112)
    assert prompt_tokens(ask(url, looking((320, 240)), max_tokens=1)) - marks == picture_tokens(320, 240)


def test_a_text_longer_than_a_slot_is_refused_as_the_callers_fault(url: str) -> None:
    assert refused(ask(url, words(context()))) == (400, "exceed_context_size_error")


def test_its_health_answers_while_all_slots_are_busy(url: str) -> None:
    def long() -> None:
        ask(url, max_tokens=40, ignore_eos=True, stop=["never"])

    callers = [threading.Thread(target=long) for _ in range(slots() + 1)]
    for caller in callers:
        caller.start()
    try:
        until(lambda: busy(url) == slots(), "all slots are busy")
        assert requests.get(f"{url}/health", timeout=5).json() == {"status": "ok"}
    finally:
        for caller in callers:
            caller.join(LIMIT_S)


def busy(url: str) -> int:
    found = re.search(r"^llamacpp:requests_processing (\d+)", metrics(url), re.MULTILINE)
    return int(found[1]) if found else 0


def metrics(url: str) -> str:
    answer = requests.get(f"{url}/metrics", timeout=LIMIT_S)
    assert answer.status_code == 200, "--metrics is declared"
    return answer.text


def test_its_metrics_have_what_the_pilot_reads(url: str) -> None:
    ask(url, "One more text, which nobody sent before.")
    found = prompts.prompts(prompts.Prompts(), metrics(url))
    assert found.tokens
    assert found.seconds > 0


def test_it_asks_whichever_address_a_caller_names(url: str) -> None:
    """What the container's closed way out is for; and the answer is a 500, though it is the caller's fault."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nobody.settimeout(10)
        asked: list[bytes] = []

        def close() -> None:
            connection, _ = nobody.accept()
            with connection:
                asked.append(connection.recv(64))

        listening = threading.Thread(target=close)
        listening.start()
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/latest/meta-data"
        answer = ask(url, [{"type": "image_url", "image_url": {"url": address}}])
        listening.join(LIMIT_S)
    assert asked[0].startswith(b"GET /latest/meta-data")
    assert refused(answer) == (500, "server_error")


@SLOW
def test_9030_tokens_are_answered_as_they_are_at_home(url: str) -> None:
    """Issue 12, seen: 200 while home was free, 400 while it was full."""
    assert prompt_tokens(ask(url, words(9000), max_tokens=2)) > 9000


@SLOW
def test_the_last_token_that_fits_is_taken(tmp_path: Path) -> None:
    """With a context that is read in seconds; the rule is the same for any."""
    args = list(vm().container.args)
    least = 256
    args[args.index("--ctx-size") + 1] = str(least * slots())
    small = dataclasses.replace(vm(), container=dataclasses.replace(vm().container, args=tuple(args)))

    async def ask_both() -> tuple[requests.Response, requests.Response]:
        async with llama_cpp.started(small, tmp_path) as url:
            frame = prompt_tokens(ask(url, words(10), max_tokens=1)) - 10
            return ask(url, words(least - 1 - frame), max_tokens=1), ask(url, words(least - frame), max_tokens=1)

    under, over = asyncio.run(ask_both())
    assert prompt_tokens(under) == least - 1
    assert refused(over) == (400, "exceed_context_size_error")


@SLOW
def test_pictures_of_12_megapixels_count_no_more_than_declared(url: str) -> None:
    most = int(value("--image-max-tokens"))
    marks = prompt_tokens(ask(url, looking((112, 112)), max_tokens=1)) - picture_tokens(112, 112)
    seen = prompt_tokens(ask(url, looking((4000, 3000)), max_tokens=1)) - marks
    assert 0.9 * most < seen <= most
    one, two, three = (prompt_tokens(ask(url, looking(*[(4000, 3000)] * n), max_tokens=1)) for n in (1, 2, 3))
    assert three - two == two - one, "a third picture is one like the others"
    assert seen < two - one < seen + marks


@SLOW
def test_sigterm_brings_no_answer_to_its_end() -> None:
    """vLLM writes running answers to their end first. Here one is cut, or stands still until its caller hangs up."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(llama_cpp.command(vm(), port), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: healthy(url), "loaded", llama_cpp.START_S)
            body = {"prompt": "1, 2, 3,", "max_tokens": 3000, "ignore_eos": True, "stream": True}
            with requests.post(f"{url}/v1/completions", json=body, stream=True, timeout=SILENCE_S) as answer:
                lines = answer.iter_lines()
                assert next(lines).startswith(b"data: ")
                process.send_signal(signal.SIGTERM)
                with pytest.raises(requests.RequestException, match=r"timed out|ended prematurely"):
                    assert b"data: [DONE]" not in list(lines)
            process.wait(30)
        finally:
            process.kill()


def healthy(url: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{url}/health", timeout=LIMIT_S).ok
    return False
