"""The pilot's own requests to burst, one at a time as the state machine wants them.

Owns: what is asked and what an answer says. Does not own: when to ask (`lane`), the token (`id_token`).
"""

import asyncio
import json
import ssl
import time
from urllib.parse import urlsplit

from .engine import Engine, engine, first_token
from .environment import Settings
from .id_token import IdToken
from .log import described
from .net import FAILURES, fetch
from .state import Answer, Ask, Request


class BurstClient:
    """Burst's service, at its public address."""

    def __init__(self, settings: Settings, token: IdToken) -> None:
        self._url, self._token = settings.burst_url, token
        self._engines: dict[float, Engine] = {}
        self._model = ""
        self._tls = ssl.create_default_context() if self._url.startswith("https:") else None

    async def ask(self, request: Request) -> Answer:
        """How it ended; within its time."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._asked(request, begun)
        except FAILURES as error:
            late = isinstance(error, TimeoutError)
            spent = time.monotonic() - begun
            return Answer(request.serial, 0, spent if late else None, late, f"{request.ask}: {described(error)}")

    async def _asked(self, request: Request, begun: float) -> Answer:
        if not self._token.text:
            raise ConnectionError(f"no ID token yet: {self._token.error}")
        if request.ask is Ask.TRY:
            wanted = {"model": self._model} if self._model else {}
            body = json.dumps({**wanted, "prompt": "1", "max_tokens": 1, "temperature": 0})
            status, _ = await self._send("POST", "/v1/completions", body)
            seconds = time.monotonic() - begun
        else:
            status, text = await self._send("GET", "/health" if request.ask is Ask.WAKE else "/metrics")
            seconds = self._latency(text) if request.ask is Ask.LOOK and status == 200 else None
        return Answer(request.serial, status, seconds, error="" if status < 400 else f"{request.ask}: HTTP {status}")

    async def _send(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        parts = urlsplit(self._url)
        port = parts.port or (443 if self._tls else 80)
        connection = asyncio.open_connection(parts.hostname, port, ssl=self._tls)
        headers = {"X-Serverless-Authorization": f"Bearer {self._token.text}", "Content-Type": "application/json"}
        return await fetch(connection, parts.netloc, path, headers, method, body)

    def _latency(self, text: str) -> float | None:
        after = engine(text, time.monotonic())
        self._model = after.model or self._model
        # Several instances may answer in turn; each counts for itself.
        after, seconds = first_token(self._engines.get(after.identity), after)
        self._engines = dict([*self._engines.items()][-7:]) | {after.identity: after}
        return seconds
