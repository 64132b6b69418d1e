"""The pilot's own requests to a lane's engine, one at a time as the state machine wants them.

Owns: the way to each lane, what is asked there, and what an answer says. Does not own: when to ask (`lane`), the token
(`id_token`).
"""

import asyncio
import contextlib
import json
import random
import ssl
import time
from collections.abc import Awaitable
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from .engine import engine, first_token, new_errors, new_tokens
from .environment import Settings, address
from .id_token import IdToken
from .lane import LOOK_S
from .log import described
from .machines import Looks, Machines
from .net import FAILURES, Stream, answer, fetch, through_socks
from .prompts import Prompts, prompts
from .state import Answer, Ask, Request

SEE_S: Final = 0.5
"""Between two questions which machine answers, on average: of a lane that never sleeps, in use or not."""


class LaneClient:
    """The engine of the lane `name`: home's through the tunnel, burst's at its public address, the VM's directly."""

    def __init__(self, name: str, settings: Settings, token: IdToken) -> None:
        self.prompts = Prompts()
        """The VM's."""
        self._name, self._settings, self._token = name, settings, token
        self.machines = Machines()
        self._looks = Looks()
        self._model = ""
        self.tokens: tuple[int, int] = 0, 0
        """Read and written, as far as it was seen."""
        secure = name == "burst" and settings.burst_url.startswith("https:")
        self._tls = ssl.create_default_context() if secure else None

    async def ask(self, request: Request) -> Answer:
        """How it ended; within its time."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._asked(request, begun)
        except FAILURES as error:
            late = isinstance(error, TimeoutError)
            now = time.monotonic()
            spent, told = now - begun if late else None, f"{request.ask}: {described(error)}"
            return Answer(request.serial, 0, spent, late, told, moved=self._looks.without_answer(now))

    async def see(self) -> None:
        """Which machine answers, after a pause.

        Traefik leads each request to the next pod in turn: asked as regularly as Caddy's checks are, it would show the
        same one again and again. So the pause is now shorter, now longer than theirs.
        """
        await asyncio.sleep(SEE_S * 2 * random.random())
        with contextlib.suppress(*FAILURES, KeyError, TypeError):
            name = await (self._pod_at_home() if self._name == "home" else self._machine_of_group())
            self.machines.saw(name, time.monotonic())

    async def _machine_of_group(self) -> str:
        """It says so among its model's tags (`components.vm.boot`)."""
        async with asyncio.timeout(LOOK_S):
            _, text = await self._send("GET", "/v1/models")
        [name] = json.loads(text)["data"][0]["tags"]
        return name

    async def _pod_at_home(self) -> str:
        """By the cookie that Traefik sets beside the answer to Caddy's own check (`charts/ai-service`)."""
        async with asyncio.timeout(LOOK_S):
            connection = asyncio.open_connection(*self._settings.checks)
            status, headers, _ = await answer(connection, "checks", "/", {"X-Lane": self._settings.dials["home"]})
        if status != 200:
            raise ValueError(status)
        return headers["set-cookie"].partition(";")[0]

    async def _asked(self, request: Request, begun: float) -> Answer:
        if request.ask is Ask.TRY:
            self._looks.begin()
            wanted = {"model": self._model} if self._model else {}
            body = json.dumps({**wanted, "prompt": "1", "max_tokens": 1, "temperature": 0})
            status, _ = await self._send("POST", "/v1/completions", body)
            found = Answer(request.serial, status, time.monotonic() - begun)
        else:
            status, text = await self._send("GET", "/health" if request.ask is Ask.WAKE else "/metrics")
            looked = request.ask is Ask.LOOK and status == 200
            found = self._read(request.serial, text) if looked else Answer(request.serial, status)
        if status >= 500:
            found = replace(found, moved=self._looks.without_answer(time.monotonic()))
        return replace(found, error="" if status < 400 else f"{request.ask}: HTTP {status}")

    async def _send(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        headers = {"Content-Type": "application/json"}
        if self._name == "burst":
            if not self._token.text:
                raise ConnectionError(f"no ID token yet: {self._token.error}")
            headers["X-Serverless-Authorization"] = f"Bearer {self._token.text}"
        host, connection = self._way(path)
        return await fetch(connection, host, path, headers, method, body)

    def _way(self, path: str) -> tuple[str, Awaitable[Stream]]:
        """The Host to ask for, and a connection."""
        settings = self._settings
        if self._name == "home" and settings.home:
            # Every service at home has metrics: Traefik finds the model's by the service's name.
            host = settings.home_host if path == "/metrics" else settings.dials["home"]
            return host, through_socks(settings.socks, settings.home)
        if self._name == "burst":
            parts = urlsplit(settings.burst_url)
            port = parts.port or (443 if self._tls else 80)
            return parts.netloc, asyncio.open_connection(parts.hostname, port, ssl=self._tls)
        dial = settings.dials[self._name]
        return dial, asyncio.open_connection(*address(dial))

    def _read(self, serial: int, text: str) -> Answer:
        after = engine(text, time.monotonic())
        self._model = after.model or self._model
        self.prompts = prompts(self.prompts, text)
        # Several instances may answer in turn; each counts for itself.
        before = self._looks.before(after)
        read, written = new_tokens(before, after)
        self.tokens = self.tokens[0] + read, self.tokens[1] + written
        after, seconds = first_token(before, after)
        if self._name == "burst":
            self.machines.saw(after.identity, after.at)
        return Answer(serial, 200, seconds, moved=self._looks.add(after), errors=new_errors(before, after))
