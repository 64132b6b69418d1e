"""A listener that keeps what a client sends, and answers as it is told: how a client behaves, seen from outside.

Owns: what is kept of a request, and the three ways to answer. Does not own: which client is asked for what.
"""

import asyncio
import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from tests.kit import loop_beside

COMPLETION: Final = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "any",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
"""The smallest answer that every client understands."""
SILENCE: Final = 0
"""In place of a status: nothing is answered."""


@dataclass
class Sent:
    """One request, as it arrived."""

    version: str
    headers: dict[str, str]
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    """When the answer was sent, or the client left."""

    @property
    def body(self) -> str:
        """How the client says where the body ends."""
        return "chunked" if "chunked" in self.headers.get("transfer-encoding", "") else "Content-Length"

    @property
    def patience_s(self) -> float | None:
        """How long the client has waited; None: it still does."""
        return None if self.ended is None else self.ended - self.began


class Wire:
    """The listener."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        """200, 503, or `SILENCE`."""
        self.sent: list[Sent] = []

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        sent = Sent(f"{request.version.major}.{request.version.minor}", headers)
        self.sent.append(sent)
        try:
            await request.read()
            if self.status == SILENCE:
                await asyncio.Event().wait()
            if self.status != 200:
                return web.json_response({"error": {"message": "not now", "type": "server_error"}}, status=self.status)
            return web.json_response(COMPLETION)
        finally:
            sent.ended = time.monotonic()

    async def _start(self) -> web.AppRunner:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._answer)
        # Who leaves is seen at once, and not when there would be something to send.
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        return runner

    @contextlib.contextmanager
    def listening(self) -> Generator["Wire"]:
        """Listens on a free port of loopback."""
        with loop_beside() as loop:
            runner = asyncio.run_coroutine_threadsafe(self._start(), loop).result(10)
            try:
                yield self
            finally:
                asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
