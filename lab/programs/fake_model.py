"""A fake OpenAI engine: as slow as the machine that it is told, or scripted; it says who answered and misbehaves on
demand.

Owns: deterministic answers with the marker `BACKEND:<marker>`, the request log (the tests' witness), the faults. Does
not own: a model, for no answer means anything; when a machine's tokens come (`engine`).

Control: `POST /_fault` merges JSON into the behaviour, `DELETE /_fault` resets it, `GET /_fault` shows it; `GET /_log`
lists the API requests received, `DELETE /_log` empties it, `GET /_stats` has counts and the in-flight peak.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from lab.programs import die_with_parent, fake_metrics, log_to_stderr, prompt
from lab.programs.engine import Counts, Engine, Job, Pace
from lab.programs.event_loop import stop_event
from lab.programs.fake_http import MAX_BODY_BYTES, error, event, receive, reset
from lab.programs.fake_state import Behaviour, Entry, Log, Reading, outcomes
from lab.programs.pictures import PictureError
from lab.programs.serving import serve_http

BATCH_TOKENS = 2048
"""Prompt tokens of a step: the default of llama.cpp (`--batch-size`) and of vLLM on cards under 70 GB."""

_ENTRY = web.RequestKey("entry", Entry)

log = log_to_stderr("fake_model")


class FakeModel:
    """The engine's state and its handlers."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Start healthy."""
        self._alias, self._marker, self._log = cast("str", args.alias), cast("str", args.marker), Log(args.journal)
        self._llama_cpp = args.engine == "llama.cpp"
        self._most_picture_tokens = prompt.most_picture_tokens(args.image_max_tokens, args.mm_processor_kwargs)
        self._moving, self._healthy = asyncio.Event(), asyncio.Event()
        self._become(Behaviour())
        self._engines: list[Engine] = []
        if args.pace:
            pace, limits = Pace(**json.loads(args.pace)), {"slots": args.parallel, "batch": args.batch_size}
            self._engines = [Engine(pace, **limits, moving=self._moving) for _ in range(args.machines)]
        self._scripted = Counts()
        self._in_flight = self._peak = self._served = 0
        self._probes = {"/health": 0, "/metrics": 0}
        self._first_tokens: list[float] = []

    def app(self) -> web.Application:
        """Return the application with all routes."""
        app = web.Application()
        app.on_response_prepare.append(self._mark)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._complete),
                web.post("/v1/completions", self._complete),
                web.get("/v1/models", self._models),
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/_log", self._show_log),
                web.delete("/_log", self._clear_log),
                web.get("/_stats", self._stats),
                web.get("/_fault", self._show_fault),
                web.post("/_fault", self._merge_fault),
                web.delete("/_fault", self._reset_fault),
            ]
        )
        return app

    async def _mark(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Fake-Backend"] = self._marker
        if entry := request.get(_ENTRY):
            entry.status = response.status
            self._log.note(entry)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        entry = self._enter(request)
        self._in_flight += 1
        self._peak = max(self._peak, self._in_flight)
        try:
            response = await self._answer(request, entry)
        except (asyncio.CancelledError, OSError):
            entry.outcome = "client-gone" if entry.outcome == "open" else entry.outcome
            raise
        finally:
            self._in_flight -= 1
        entry.outcome = "answered" if entry.outcome == "open" else entry.outcome
        return response

    async def _answer(self, request: web.Request, entry: Entry) -> web.StreamResponse:
        raw = await receive(request, entry)
        if raw is None:
            return error(413, f"body over {MAX_BODY_BYTES} bytes")
        behaviour = self._behaviour
        await self._moving.wait()
        if behaviour.reset == "before-headers":
            return await reset(request, entry)
        if behaviour.status is not None:
            return error(behaviour.status, f"fault set on {self._marker}", behaviour.retry_after)
        try:
            body = json.loads(raw)
        except ValueError as refused:
            return error(400, f"body is not JSON: {refused}")
        if not isinstance(body, dict):
            return error(400, "body is not a JSON object")
        reading = Reading(entry, cast("dict[str, Any]", body), chat=request.path.endswith("/chat/completions"))
        if not self._engines:
            return await self._begin(request, reading, behaviour, None)
        try:
            reading.work = prompt.work(raw, reading.body, self._most_picture_tokens)
        except PictureError as refused:
            return error(400, str(refused))
        work = replace(reading.work, answer=reading.tokens(behaviour))
        with self._engine(request).enter(work, held_s=behaviour.first_token_delay) as job:
            return await self._begin(request, reading, behaviour, job)

    def _engine(self, request: web.Request) -> Engine:
        """The machine that a connection leads to: a balancer hands out connections, and keeps none in mind."""
        peer = request.transport.get_extra_info("peername") if request.transport else None
        return self._engines[(peer[1] if peer else 0) % len(self._engines)]

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
            await self._moving.wait()
            if not number:
                self._first_tokens.append(time.monotonic() - reading.started)
                self._scripted.prompt_tokens += reading.usage(behaviour)["prompt_tokens"]
                self._scripted.prompt_s += self._first_tokens[-1]
            self._scripted.generated += 1
            yield f" token{number}" if number else f"BACKEND:{self._marker}"

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

    def _become(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        for goes, free in ((self._moving, not behaviour.hang), (self._healthy, behaviour.health != 0)):
            goes.set() if free else goes.clear()

    def _head(self, reading: Reading, suffix: str) -> dict[str, Any]:
        self._served += 1
        kind = f"chat.completion{suffix}" if reading.chat else "text_completion"
        identity = {"id": f"fake-{self._marker}-{self._served}", "created": int(time.time())}
        return identity | {"object": kind, "model": self._alias}

    def _enter(self, request: web.Request) -> Entry:
        request[_ENTRY] = self._log.enter(request.method, request.path_qs, list(request.headers.items()))
        return request[_ENTRY]

    async def _models(self, request: web.Request) -> web.Response:
        self._enter(request).outcome = "answered"
        model = {"id": self._alias, "object": "model", "created": 0, "owned_by": "lab"}
        return web.json_response({"object": "list", "data": [model]})

    async def _health(self, _: web.Request) -> web.Response:
        self._probes["/health"] += 1
        await self._healthy.wait()
        status = self._behaviour.health
        return web.json_response({"status": "ok" if status == 200 else "fault"}, status=status)

    async def _metrics(self, request: web.Request) -> web.Response:
        self._probes["/metrics"] += 1
        scripted = replace(self._scripted, processing=self._in_flight)
        counts = self._engine(request).counts if self._engines else scripted
        told = fake_metrics.llama_cpp(counts) if self._llama_cpp else None
        text = told or fake_metrics.vllm(self._alias, counts, self._first_tokens)
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _show_log(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(entry) for entry in self._log.entries])

    async def _clear_log(self, request: web.Request) -> web.Response:
        self._log.entries.clear()
        self._first_tokens.clear()
        self._probes = dict.fromkeys(self._probes, 0)
        self._peak = self._in_flight
        return await self._stats(request)

    async def _stats(self, _: web.Request) -> web.Response:
        counts = {"in_flight": self._in_flight, "in_flight_peak": self._peak, "requests": len(self._log.entries)}
        return web.json_response(counts | {"outcomes": outcomes(self._log.entries), "probes": self._probes})

    async def _show_fault(self, _: web.Request) -> web.Response:
        return web.json_response(asdict(self._behaviour))

    async def _merge_fault(self, request: web.Request) -> web.Response:
        try:
            self._become(self._behaviour.merged(await request.json()))
        except (ValueError, TypeError) as refused:
            return error(400, str(refused))
        log.info("behaviour: %s", self._behaviour)
        return await self._show_fault(request)

    async def _reset_fault(self, request: web.Request) -> web.Response:
        self._become(Behaviour())
        return await self._show_fault(request)


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
    parser.add_argument("--machines", type=int, default=1, help="machines that share the connections, each this fast")
    parser.add_argument("--parallel", type=int, default=1, help="slots of a machine")
    parser.add_argument("--batch-size", type=int, default=BATCH_TOKENS, help="prompt tokens of a step")
    parser.add_argument("--image-max-tokens", type=int, help="llama.cpp: most tokens of a picture")
    parser.add_argument("--mm-processor-kwargs", type=json.loads, default={}, help="vLLM: `max_pixels` of a picture")
    for ignored in ("--runner", "--ctx-size", "--cache", "--threads"):
        parser.add_argument(ignored)
    return parser.parse_args(argv)


async def run(args: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    await serve_http(FakeModel(args).app(), args.host, args.port, stop_event())


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(run(arguments(sys.argv[1:])))
