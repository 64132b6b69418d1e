"""A fake OpenAI engine: as slow as the machine that it is told, or scripted; it says who answered and misbehaves on
demand.

Owns: deterministic answers with the marker `BACKEND:<marker>`, and the faults' effect on them. Does not own: a model,
for no answer means anything; when a machine's tokens come (`engine`), what an engine refuses (`limits`), the switches
and the request log (`fake_control`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

from aiohttp import web

from lab.programs import die_with_parent, fake_metrics, log_to_stderr, prompt
from lab.programs.engine import Counts, Engine, Job, Pace
from lab.programs.event_loop import stop_event
from lab.programs.fake_control import Control
from lab.programs.fake_http import MAX_BODY_BYTES, event, receive, reset
from lab.programs.fake_state import Behaviour, Entry, Reading
from lab.programs.limits import Limits, Refused, error_of, undecodable
from lab.programs.pictures import PictureError
from lab.programs.serving import serve_http

BATCH_TOKENS = 2048
"""Prompt tokens of a step: the default of llama.cpp (`--batch-size`) and of vLLM on cards under 70 GB."""
CONNECTION_REQUESTS = 100
"""After so many llama.cpp's server closes a connection (b11206 says `Keep-Alive: timeout=5, max=100`, and does it)."""
CONNECTION_IDLE_S = 5.0

_ENTRY = web.RequestKey("entry", Entry)
log_to_stderr("fake_model")


class FakeModel:
    """The engine's state and its handlers."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Start healthy."""
        self._alias, self._marker = cast("str", args.alias), cast("str", args.marker)
        self._tags: list[str] = args.tags.split(",") if args.tags else []
        self._limits, self._llama_cpp = Limits.of(args), args.engine == "llama.cpp"
        self._most_picture_tokens = prompt.most_picture_tokens(args.image_max_tokens, args.mm_processor_kwargs)
        self._first_tokens: list[float] = []
        self._control = Control(args.journal, self._first_tokens.clear)
        self._engine: Engine | None = None
        if args.pace:
            pace, limits = Pace(**json.loads(args.pace)), {"slots": args.parallel, "batch": args.batch_size}
            self._engine = Engine(pace, **limits, moving=self._control.moving)
        self._scripted, self._requests, self._served = Counts(), fake_metrics.Served(), 0
        self._started = time.time()
        self._connections = WeakKeyDictionary[asyncio.Transport, int]()
        """Requests on each."""

    def app(self) -> web.Application:
        """Return the application with all routes."""
        app = web.Application(middlewares=[self._requests.count])
        app.on_response_prepare.append(self._mark)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._complete),
                web.post("/v1/completions", self._complete),
                web.get("/v1/models", self._models),
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/_busy", self._busy),
                *self._control.routes(),
            ]
        )
        return app

    async def _mark(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Fake-Backend"] = self._marker
        if self._llama_cpp and request.transport:
            self._connections[request.transport] = count = self._connections.get(request.transport, 0) + 1
            if count >= CONNECTION_REQUESTS:
                response.force_close()
                response.headers["Connection"] = "close"
        if entry := request.get(_ENTRY):
            entry.status = response.status
            self._control.log.note(entry)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        entry = self._enter(request)
        with self._control.answering(entry):
            try:
                return await self._answer(request, entry)
            except Refused as refused:
                return self._refusal(refused)

    def _refusal(self, refused: Refused, headers: dict[str, str] | None = None) -> web.Response:
        return web.json_response(error_of(self._llama_cpp, refused), status=refused.status, headers=headers)

    async def _answer(self, request: web.Request, entry: Entry) -> web.StreamResponse:
        raw = await receive(request, entry)
        if raw is None:
            raise Refused(413, f"body over {MAX_BODY_BYTES} bytes")
        behaviour = self._control.behaviour
        if behaviour.hang:
            await self._control.moving.wait()
        if behaviour.reset == "before-headers":
            return await reset(request, entry)
        if faulty := self._faulty(behaviour):
            return faulty
        reading = self._read(request, entry, raw)
        if not self._engine:
            return await self._begin(request, reading, behaviour, None)
        assert reading.work
        work = replace(reading.work, answer=reading.tokens(behaviour))
        with self._engine.enter(work, held_s=behaviour.first_token_delay) as job:
            return await self._begin(request, reading, behaviour, job)

    def _faulty(self, behaviour: Behaviour) -> web.Response | None:
        """The answer of an engine that a fault has made refuse everybody."""
        if behaviour.status is None:
            return None
        after = {} if behaviour.retry_after is None else {"Retry-After": str(behaviour.retry_after)}
        return self._refusal(Refused(behaviour.status, f"fault set on {self._marker}"), after)

    def _read(self, request: web.Request, entry: Entry, raw: bytes) -> Reading:
        """The request, within the engine's limits; raises `Refused`."""
        try:
            body = json.loads(raw)
        except ValueError as refused:
            raise Refused(400, f"body is not JSON: {refused}") from refused
        if not isinstance(body, dict):
            raise Refused(400, "body is not a JSON object")
        body = cast("dict[str, Any]", body)
        self._limits.check(body)
        try:
            work = prompt.work(raw, body, self._most_picture_tokens)
        except PictureError as error:
            raise undecodable(self._llama_cpp) from error
        self._limits.check_tokens(work.prompt, body)
        reading = Reading(entry, body, chat=request.path.endswith("/chat/completions"))
        reading.work = work if self._engine else None
        return reading

    async def _begin(
        self, request: web.Request, reading: Reading, behaviour: Behaviour, job: Job | None
    ) -> web.StreamResponse:
        if not reading.body.get("stream"):
            return await self._whole(request, reading, behaviour, job)
        # No engine answers within microseconds; Traefik cuts about one such stream in 200 (none of 3,092 after 10 ms).
        await asyncio.sleep(0.01)
        if job and self._llama_cpp:
            await job.in_slot.wait()
        return await self._stream(request, reading, behaviour, job)

    async def _tokens(self, reading: Reading, behaviour: Behaviour, job: Job | None) -> AsyncIterator[str]:
        """Yield the answer's tokens at the machine's pace or the set one, and take the time to the first."""
        for number in range(reading.tokens(behaviour)):
            if job:
                await job.token()
            if number:
                await asyncio.sleep(behaviour.token_interval)
            elif not job:
                await asyncio.sleep(behaviour.first_token_delay)
            await self._control.moving.wait()
            if not number:
                self._first_tokens.append(time.monotonic() - reading.started)
                self._scripted.prompt_tokens += reading.usage(behaviour)["prompt_tokens"]
                self._scripted.prompt_s += self._first_tokens[-1]
            self._scripted.generated += 1
            self._scripted.steps += 1
            yield f" token{number}" if number else f"BACKEND:{self._marker}"
        self._control.finished(reading.entry)

    async def _whole(
        self, request: web.Request, reading: Reading, behaviour: Behaviour, job: Job | None
    ) -> web.StreamResponse:
        text = "".join([token async for token in self._tokens(reading, behaviour, job)])
        text += f" sha256={reading.entry.sha256} length={reading.entry.body_length}"
        choice = {"message": {"role": "assistant", "content": text}} if reading.chat else {"text": text}
        answer = self._head(reading, "") | {
            "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None} | choice],
            "usage": reading.usage(behaviour),
            "received": reading.entry.received(behaviour.echo_headers),
        }
        data = json.dumps(answer).encode()
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(data))})
        await response.prepare(request)
        if behaviour.reset == "mid-stream":
            await response.write(data[: len(data) // 2])
            return await reset(request, reading.entry, response)
        await response.write(data)
        return response

    async def _stream(
        self, request: web.Request, reading: Reading, behaviour: Behaviour, job: Job | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        head = self._head(reading, ".chunk")
        count = reading.tokens(behaviour)
        number = 0
        async for token in self._tokens(reading, behaviour, job):
            if behaviour.reset == "mid-stream" and number >= max(1, count // 2):
                return await reset(request, reading.entry, response)
            choice = {"delta": {"role": "assistant", "content": token}} if reading.chat else {"text": token}
            extra = {} if number else {"received": reading.entry.received(behaviour.echo_headers)}
            await event(response, head | {"choices": [{"index": 0, "finish_reason": None} | choice]} | extra)
            number += 1
        last: dict[str, Any] = {"delta": {}} if reading.chat else {"text": ""}
        await event(response, head | {"choices": [{"index": 0, "finish_reason": "stop"} | last]})
        if reading.wants_usage:
            await event(response, head | {"choices": [], "usage": reading.usage(behaviour)})
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    def _head(self, reading: Reading, suffix: str) -> dict[str, Any]:
        self._served += 1
        kind = f"chat.completion{suffix}" if reading.chat else "text_completion"
        identity = {"id": f"fake-{self._marker}-{self._served}", "created": int(time.time())}
        return identity | {"object": kind, "model": self._alias}

    def _enter(self, request: web.Request) -> Entry:
        request[_ENTRY] = self._control.log.enter(request.method, request.path_qs, list(request.headers.items()))
        return request[_ENTRY]

    async def _models(self, request: web.Request) -> web.Response:
        self._enter(request).outcome = "answered"
        model = {"id": self._alias, "object": "model", "created": 0, "owned_by": "lab"}
        model |= {"tags": self._tags} if self._llama_cpp else {}
        listed = web.json_response({"object": "list", "data": [model]})
        return self._faulty(self._control.behaviour) or listed

    async def _health(self, _: web.Request) -> web.Response:
        self._control.probes["/health"] += 1
        await self._control.healthy.wait()
        status = self._control.behaviour.health
        return web.json_response({"status": "ok" if status == 200 else "fault"}, status=status)

    async def _metrics(self, _: web.Request) -> web.Response:
        self._control.probes["/metrics"] += 1
        if self._control.moving.is_set():
            # Told by an engine's steps: of one that is stuck nobody hears who came and went.
            self._scripted.processing = self._control.in_flight
            # A slow engine takes steps, also while a script holds its tokens back.
            self._scripted.steps += bool(self._control.in_flight)
        counts = self._engine.counts if self._engine else self._scripted
        if self._llama_cpp:
            text = fake_metrics.llama_cpp(counts)
        else:
            text = fake_metrics.vllm(self._alias, counts, self._first_tokens, self._started) + self._requests.text()
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _busy(self, _: web.Request) -> web.Response:
        """How long the machine has worked by now, seconds, on a clock of its own; never without a pace."""
        now = asyncio.get_running_loop().time()
        return web.json_response({"at_s": now, "busy_s": self._engine.busy_s(now) if self._engine else 0.0})


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line; the model server's further options are accepted, so that both are interchangeable."""
    parser = argparse.ArgumentParser(prog="fake_model", allow_abbrev=False)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--marker", required=True)
    parser.add_argument("--journal", type=Path, help="file to which the log is copied as it grows")
    parser.add_argument("--engine", choices=["llama.cpp", "vllm"], default="vllm", help="whose habits and metrics")
    parser.add_argument(
        "--pace", help="the machine's speeds, JSON of `engine.Pace`; without them a script sets the pace"
    )
    parser.add_argument("--parallel", type=int, default=1, help="slots of a machine")
    parser.add_argument("--batch-size", type=int, default=BATCH_TOKENS, help="prompt tokens of a step")
    parser.add_argument("--image-max-tokens", type=int, help="llama.cpp: most tokens of a picture")
    parser.add_argument("--mm-processor-kwargs", type=json.loads, default={}, help="vLLM: `size` of a picture")
    parser.add_argument("--tags", default="", help="llama.cpp: told with the model")
    parser.add_argument("--ctx-size", type=int, help="tokens: llama.cpp's of all slots, vLLM's of one request")
    parser.add_argument("--mmproj", help="llama.cpp: pictures are taken")
    parser.add_argument("--limit-mm-per-prompt", type=json.loads, default={}, help="vLLM: most pictures of a request")
    parser.add_argument("--allowed-media-domains", nargs="*", help="vLLM: hosts that media may come from")
    parser.add_argument("--enable-auto-tool-choice", action="store_true", help="vLLM")
    parser.add_argument("--tool-call-parser", help="vLLM")
    for ignored in ("--runner", "--cache", "--threads"):
        parser.add_argument(ignored)
    return parser.parse_args(argv)


async def run(args: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    idle_s = CONNECTION_IDLE_S if args.engine == "llama.cpp" else None
    await serve_http(FakeModel(args).app(), args.host, args.port, stop_event(), idle_s=idle_s)


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(run(arguments(sys.argv[1:])))
