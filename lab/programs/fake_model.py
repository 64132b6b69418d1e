"""A fake OpenAI engine for fault tests: says who answered, keeps a log, and misbehaves on demand.

Owns: deterministic answers with the marker `BACKEND:<marker>`, the request log (the tests' witness), the faults, and
metrics under vLLM's names. Does not own: a model; no answer means anything.

Control: `POST /_fault` merges JSON into the behaviour, `DELETE /_fault` resets it, `GET /_fault` shows it; `GET /_log`
lists the API requests received, `DELETE /_log` empties it, `GET /_stats` has counts and the in-flight peak.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from lab.programs import die_with_parent, log_to_stderr
from lab.programs.event_loop import reset, stop_event
from lab.programs.fake_state import Behaviour, Entry, Log, Reading, metrics, outcomes
from lab.programs.serving import serve_http

MAX_BODY_BYTES = 64 << 20
_FLUSH_SECONDS = 0.2
"""Between the last bytes and an RST, which would else discard them at the client."""

_ENTRY = web.RequestKey("entry", Entry)

log = log_to_stderr("fake_model")


class Engine:
    """The engine's state and its handlers."""

    def __init__(self, alias: str, marker: str, log: Log) -> None:
        """Start healthy."""
        self._alias, self._marker, self._log = alias, marker, log
        self._moving, self._healthy = asyncio.Event(), asyncio.Event()
        self._become(Behaviour())
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
        raw = await _receive(request, entry)
        if raw is None:
            return _error(413, f"body over {MAX_BODY_BYTES} bytes")
        behaviour = self._behaviour
        await self._moving.wait()
        if behaviour.reset == "before-headers":
            return await _reset(request, entry)
        if behaviour.status is not None:
            return _error(behaviour.status, f"fault set on {self._marker}", behaviour.retry_after)
        try:
            body = json.loads(raw)
        except ValueError as error:
            return _error(400, f"body is not JSON: {error}")
        if not isinstance(body, dict):
            return _error(400, "body is not a JSON object")
        reading = Reading(entry, cast("dict[str, Any]", body), chat=request.path.endswith("/chat/completions"))
        if reading.body.get("stream"):
            return await self._stream(request, reading, behaviour)
        return await self._whole(request, reading, behaviour)

    async def _tokens(self, reading: Reading, behaviour: Behaviour) -> AsyncIterator[str]:
        """Yield the answer's tokens at the set pace and take the time to the first."""
        for number in range(reading.tokens(behaviour)):
            await asyncio.sleep(behaviour.token_interval if number else behaviour.first_token_delay)
            await self._moving.wait()
            if not number:
                self._first_tokens.append(time.monotonic() - reading.started)
            yield f" token{number}" if number else f"BACKEND:{self._marker}"

    async def _whole(self, request: web.Request, reading: Reading, behaviour: Behaviour) -> web.StreamResponse:
        text = "".join([token async for token in self._tokens(reading, behaviour)])
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
            return await _reset(request, reading.entry, response)
        await response.write(data)
        return response

    async def _stream(self, request: web.Request, reading: Reading, behaviour: Behaviour) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        # No engine answers within microseconds; Traefik cuts about one such stream in 200 (none of 3,092 after 10 ms).
        await asyncio.sleep(0.01)
        await response.prepare(request)
        head = self._head(reading, ".chunk")
        count = reading.tokens(behaviour)
        number = 0
        async for token in self._tokens(reading, behaviour):
            if behaviour.reset == "mid-stream" and number >= max(1, count // 2):
                return await _reset(request, reading.entry, response)
            choice = {"delta": {"role": "assistant", "content": token}} if reading.chat else {"text": token}
            extra = {} if number else {"received": reading.entry.received(behaviour.echo_headers)}
            await _event(response, head | {"choices": [{"index": 0, "finish_reason": None} | choice]} | extra)
            number += 1
        last: dict[str, Any] = {"delta": {}} if reading.chat else {"text": ""}
        await _event(response, head | {"choices": [{"index": 0, "finish_reason": "stop"} | last]})
        if reading.wants_usage:
            await _event(response, head | {"choices": [], "usage": reading.usage(behaviour)})
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    def _become(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        for event, free in ((self._moving, not behaviour.hang), (self._healthy, behaviour.health != 0)):
            event.set() if free else event.clear()

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

    async def _metrics(self, _: web.Request) -> web.Response:
        self._probes["/metrics"] += 1
        text = metrics(self._alias, self._in_flight, self._first_tokens, outcomes(self._log.entries))
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
        except (ValueError, TypeError) as error:
            return _error(400, str(error))
        log.info("behaviour: %s", self._behaviour)
        return await self._show_fault(request)

    async def _reset_fault(self, request: web.Request) -> web.Response:
        self._become(Behaviour())
        return await self._show_fault(request)


async def _receive(request: web.Request, entry: Entry) -> bytes | None:
    """Read the body, noting what came even if the client leaves half-way; None if it is too large."""
    digest, body = hashlib.sha256(), bytearray()
    try:
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                return None
    finally:
        entry.body_length, entry.sha256 = len(body), digest.hexdigest()
    return bytes(body)


async def _event(response: web.StreamResponse, data: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(data).encode() + b"\n\n")


def _error(status: int, message: str, retry_after: str | int | None = None) -> web.Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    body = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return web.json_response(body, status=status, headers=headers)


async def _reset(request: web.Request, entry: Entry, begun: web.StreamResponse | None = None) -> web.StreamResponse:
    """Close the connection with RST; the response returned never reaches the client."""
    entry.outcome = "reset"
    if begun is not None:
        await asyncio.sleep(_FLUSH_SECONDS)
    if request.transport is not None:
        reset(request.transport)
    if begun is None:
        raise ConnectionResetError("reset before headers")
    return begun


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line; the model server's further options are accepted, so that both are interchangeable."""
    parser = argparse.ArgumentParser(prog="fake_model", allow_abbrev=False)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--marker", required=True)
    parser.add_argument("--journal", type=Path, help="file to which the log is copied as it grows")
    for ignored in ("--runner", "--parallel", "--ctx-size", "--cache", "--threads"):
        parser.add_argument(ignored)
    return parser.parse_args(argv)


async def run(args: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    await serve_http(Engine(args.alias, args.marker, Log(args.journal)).app(), args.host, args.port, stop_event())


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(run(arguments(sys.argv[1:])))
