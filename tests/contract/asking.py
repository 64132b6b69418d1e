"""Sends requests of every kind to one engine and keeps what came back.

Owns: HTTP, a text's length in this engine's tokens, and a listener that sees who fetches a picture. Does not own: the
requests (`kinds`), what is made of the answers (`table`).
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Final

import aiohttp
from aiohttp import web

from tests.contract.kinds import CHAT, KINDS, Answer, Given, Kind, Promise, Request

LIMIT_S: Final = 900.0
"""For one answer. How soon it comes is no matter here: a full context takes llama.cpp minutes on a busy machine."""
FEW, MANY = 64, 256
"""Words of the two prompts from which a text's length in tokens is reckoned."""


class Asking:
    """A caller of one engine."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self._session = url, session

    async def ask(self, request: Request) -> Answer:
        """One request, to its end; an answer that breaks off counts as none."""
        headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
        try:
            async with (
                asyncio.timeout(LIMIT_S),
                self._session.request(
                    request.method, self.url + request.path, data=request.body, headers=headers
                ) as answer,
            ):
                body = await (answer.content.readany() if request.begun else answer.read())
                return Answer(answer.status, body)
        except (aiohttp.ClientError, TimeoutError):
            return Answer(0)

    async def get(self, path: str) -> Answer:
        """A plain GET."""
        return await self.ask(Request(None, path, "GET"))

    async def given(self, promise: Promise, remote: str) -> Given:
        """What requests to this engine are built from."""
        few, many = [await self._tokens(promise, count) for count in (FEW, MANY)]
        each = (many - few) / (MANY - FEW)

        def words(tokens: int) -> str:
            return _text(FEW + round((tokens - few) / each))

        return Given(promise, words, remote)

    async def _tokens(self, promise: Promise, words: int) -> int:
        body = {"model": promise.model, "messages": [{"role": "user", "content": _text(words)}], "max_tokens": 1}
        answer = await self.ask(Request(json.dumps(body).encode(), CHAT))
        assert answer.status == 200, f"{self.url}: a plain text is answered with {answer.status}: {answer.body[:500]!r}"
        return answer.prompt_tokens


def _text(words: int) -> str:
    return " ".join(["a"] * words)


class Listener:
    """A picture at an address of this machine."""

    def __init__(self) -> None:
        self.asked = 0
        self.url = ""

    async def _answer(self, request: web.Request) -> web.Response:
        del request
        self.asked += 1
        return web.Response(status=404)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncGenerator["Listener"]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}/picture.png"
            yield self
        finally:
            await runner.cleanup()


async def answers(url: str, promise: Promise) -> list[tuple[Kind, Answer]]:
    """What the engine at `url` answers to each kind, one after another."""
    found: list[tuple[Kind, Answer]] = []
    # A connection for each: after a 500 vLLM closes a connection that it has promised to keep.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session, Listener().listening() as listener:
        asking = Asking(url, session)
        given = await asking.given(promise, listener.url)
        for kind in KINDS:
            before = listener.asked
            answer = await asking.ask(kind.build(given))
            found.append((kind, Answer(answer.status, answer.body, fetched=listener.asked > before)))
    return found
