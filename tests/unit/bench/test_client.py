"""Asking a server: prompts of exact length, times as a caller sees them, bounds, and answers that are none."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bench.errors import BenchError
from bench.vm import client, rows

TEMPLATE_TOKENS = 19
Ask = Callable[[client.Server], Awaitable[Any]]


class Engine:
    """Streams as llama.cpp's server does; a letter is a token."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.pause_s = self.extra_tokens = 0.0
        self.tells_timings = True
        self.status = 200

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        if self.status != 200:
            return web.Response(status=self.status, text="no such thing")
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(self.pause_s)
        for event in self.events(len(body["messages"][0]["content"][-1]["text"])):
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
            await asyncio.sleep(0.02)
        await response.write(b"data: [DONE]\n\n")
        return response

    def events(self, letters: int) -> list[dict[str, Any]]:
        tokens = letters + TEMPLATE_TOKENS + (self.extra_tokens if letters > 1 else 0)
        timings = {"prompt_n": tokens, "prompt_per_second": 5.0, "predicted_per_second": 2.0}
        said = [{"role": "assistant", "content": None}, {"content": "a"}, {"content": "b"}]
        return [
            *({"choices": [{"delta": delta}]} for delta in said),
            {"timings": timings} if self.tells_timings else {},
        ]


def ask(engine: Engine, asking: Ask, limit_s: float = 5) -> Any:
    """What `asking` returns of a server that `engine` plays, which has told once how long the template is."""

    async def run() -> Any:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", engine.chat)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            server = client.Server(0, limit_s)
            server.address = "http://{}:{}".format(*runner.addresses[0])
            await server.warm_up()
            return await asking(server)
        finally:
            await runner.cleanup()

    return asyncio.run(run())


def test_a_prompt_is_exactly_as_long_as_it_says() -> None:
    engine = Engine()
    [answer] = ask(engine, lambda server: server.answers(rows.TEXT))
    assert answer.prompt_tokens == rows.TEXT_TOKENS
    [warm_up, asked] = engine.asked
    assert len(asked["messages"][0]["content"][0]["text"]) == rows.TEXT_TOKENS - TEMPLATE_TOKENS
    assert (warm_up["max_tokens"], asked["max_tokens"]) == (1, rows.ANSWER_TOKENS)
    assert asked["ignore_eos"], "an answer has its whole length"
    assert asked["cache_prompt"] is False, "no prompt is remembered"


def test_a_server_that_counts_otherwise_is_seen() -> None:
    engine = Engine()
    engine.extra_tokens = 3
    with pytest.raises(BenchError, match=r"text: the server counts \[303\] tokens and not 300"):
        ask(engine, lambda server: server.answers(rows.TEXT))


def test_the_first_token_is_the_first_that_says_something() -> None:
    engine = Engine()
    [answer] = ask(engine, lambda server: server.answers(rows.TEXT))
    assert 0.02 <= answer.first_s < answer.whole_s
    assert (answer.prompt_rate, answer.generation_rate, answer.encoding_s) == (5, 2, None)


def test_two_are_asked_at_once() -> None:
    engine = Engine()
    assert len(ask(engine, lambda server: server.answers(rows.TWO_TEXTS))) == 2
    assert len(engine.asked) == 3
    [first, second] = [asked["messages"] for asked in engine.asked[1:]]
    assert first != second


def test_every_request_is_bounded() -> None:
    engine = Engine()

    async def slow(server: client.Server) -> None:
        engine.pause_s = 30
        await server.answers(rows.TEXT)

    with pytest.raises(TimeoutError):
        ask(engine, slow, limit_s=0.3)


def test_an_answer_without_timings_is_none() -> None:
    engine = Engine()
    engine.tells_timings = False
    with pytest.raises(BenchError, match="broke off"):
        ask(engine, lambda server: server.answers(rows.TEXT))


def test_a_refusal_is_told() -> None:
    engine = Engine()
    engine.status = 400
    with pytest.raises(BenchError, match="answers 400: no such thing"):
        ask(engine, lambda server: server.answers(rows.TEXT))


LOG = (
    "0.21.924.172 I slot encode_mtmd_: id  0 | task 2 | encoding mtmd batch from idx = 7, n_chunks = 1",
    "0.58.911.967 I decoding image batch 1/1, n_tokens_batch = 252",
    "1.35.078.721 I image decoded (batch 1/1) in 36162 ms",
)  # fmt: skip


def test_the_log_tells_how_long_a_picture_was_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    server = client.Server(0, 1)
    for seconds, line in zip((22, 59, 95), LOG, strict=True):
        monkeypatch.setattr(client.time, "monotonic", lambda now=seconds: now)
        server.read(line)
    assert server.encoding_ended - server.encoding_began == 37


def test_a_server_that_can_t_load_is_told_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "server.log"

    async def start() -> None:
        async with client.started(["--model", str(tmp_path / "nothing.gguf")], [0], log, 1):
            raise AssertionError("it started")

    with pytest.raises(BenchError, match=r"did not load its weights.*server\.log"):
        asyncio.run(start())
    assert "nothing.gguf" in log.read_text()


def test_no_two_prompts_are_alike() -> None:
    assert len(client.text(281)) == 281
    assert client.text(281) != client.text(281)
    assert client.jpeg(*rows.SMALL) != client.jpeg(*rows.SMALL)
