"""The callers: a hundred at a time, of several kinds, each of which asks again and again and notes what it was told.

Owns: the kinds, the bodies with their marks, reading an answer against the request. Does not own: whether what was told
is allowed (`verdict`).

Each request has a body that no other has, and an answer of a scripted model tells the digest of the body that it is an
answer to: so an answer that is another caller's is seen.
"""

import asyncio
import base64
import contextlib
import hashlib
import io
import itertools
import json
import random
import re
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import aiohttp

from lab.measure.load import TIMEOUT_S
from lab.measure.requests import jpeg, words

MIB: Final = 1024 * 1024
_DIGEST: Final = re.compile(r" sha256=([0-9a-f]{64}) length=\d+$")
_PIECE: Final = 2**16


@dataclass(frozen=True)
class Kind:
    """Callers of one kind. `size`: of the picture in the body, bytes; 0 is text alone."""

    name: str
    callers: int
    size: int = 0
    text_tokens: int = 20
    streamed: bool = False
    chunked: bool = False
    leaves: str = ""
    """`line`: hangs up while no answer has begun; `stream`: after some tokens."""
    client: str = "demo"
    pause_s: float = 1.0
    """Mean time between an answer and the next request."""


KINDS: Final = (
    Kind("short", 16),
    Kind("short, streamed", 24, streamed=True),
    Kind("text, streamed", 12, text_tokens=300, streamed=True),
    Kind("limited client", 8, streamed=True, client="few"),
    Kind("private client", 2, client="private"),
    Kind("picture", 6, size=300_000),
    Kind("picture, streamed", 6, size=300_000, streamed=True),
    Kind("3.9 MiB", 4, size=3_080_000, pause_s=3.0),
    Kind("in chunks", 6, chunked=True),
    Kind("picture in chunks", 2, size=300_000, chunked=True, streamed=True),
    Kind("20 MB", 3, size=15_000_000, pause_s=5.0),
    Kind("leaves the line", 4, leaves="line"),
    Kind("leaves the line with 3.9 MiB", 3, size=3_080_000, leaves="line", pause_s=2.0),
    Kind("leaves its stream", 4, streamed=True, leaves="stream"),
)


@dataclass
class Told:
    """One request, and what its caller was told. Times are Unix time."""

    kind: str
    request: str
    """Its `X-Request-Id`."""
    length: int
    chunked: bool
    sent: float
    begun: float | None = None
    """When the answer's headers came."""
    ended: float = 0.0
    status: int = 0
    """0: no answer came."""
    code: str = ""
    """Of an error."""
    lane: str = ""
    """`X-Served-By`."""
    left: bool = False
    """The caller hung up."""
    broken: str = ""
    """Why it did not end well."""
    crossed: str = ""
    """What is wrong with what it says."""


class Body:
    """All bodies of one kind of request: the same text, and a mark."""

    def __init__(self, kind: Kind, model: str) -> None:
        content: Any = words(kind.text_tokens) or "word"
        if kind.size:
            picture = base64.b64encode(base64.b64decode(jpeg()).ljust(kind.size, b"\0")).decode()
            url = {"url": f"data:image/jpeg;base64,{picture}"}
            content = [{"type": "text", "text": content}, {"type": "image_url", "image_url": url}]
        body = {"model": model, "messages": [{"role": "user", "content": content}], "stream": kind.streamed}
        self._begin = json.dumps(body)[:-1].encode()
        self._digest = hashlib.sha256(self._begin)

    def marked(self, mark: str, tokens: int) -> tuple[bytes, str]:
        """The body of one request, and its digest."""
        end = f', "max_tokens": {tokens}, "user": "{mark}"}}'.encode()
        digest = self._digest.copy()
        digest.update(end)
        return self._begin + end, digest.hexdigest()


@cache
def _body(kind: Kind, model: str) -> Body:
    return Body(kind, model)


@dataclass
class Answer:
    """What an answer must say: by whom it is, and to which request."""

    lane: str
    digest: str
    tokens: int
    ids: set[str] = field(default_factory=set[str])
    seen: int = 0
    crossed: str = ""
    done: bool = False

    def whole(self, raw: bytes) -> None:
        """A plain answer."""
        self.done = True
        with self._in_form(raw):
            self._whole(raw)

    @contextlib.contextmanager
    def _in_form(self, raw: bytes) -> Generator[None]:
        """What can't be read as the answer that was asked for is somebody else's."""
        try:
            yield
        except (ValueError, LookupError, TypeError, AttributeError):
            self.crossed = self.crossed or f"it has another form: {raw[:200]!r}"

    def _whole(self, raw: bytes) -> None:
        document: dict[str, Any] = json.loads(raw)
        text: str = document["choices"][0]["message"]["content"]
        found = _DIGEST.search(text)
        if not found or found[1] != self.digest or document["received"]["sha256"] != self.digest:
            self.crossed = "it answers another request"
        elif text[: found.start()] != " ".join([f"BACKEND:{self.lane}", *(f"token{n}" for n in range(1, self.tokens))]):
            self.crossed = f"its text is not {self.lane}'s: {text[:200]}"

    def line(self, line: bytes) -> None:
        """One line of a stream."""
        if self.done and line.strip():
            self.crossed = self.crossed or "it went on after its end"
        if line.startswith(b"data: [DONE]"):
            self.done = True
            if self.seen != self.tokens:
                self.crossed = self.crossed or f"{self.seen} of {self.tokens} tokens"
        elif line.startswith(b"data: "):
            with self._in_form(line):
                self._chunk(json.loads(line[6:]))

    def _chunk(self, chunk: dict[str, Any]) -> None:
        self.ids.add(chunk["id"])
        text = chunk["choices"][0]["delta"].get("content")
        if text is not None:
            wanted = f" token{self.seen}" if self.seen else f"BACKEND:{self.lane}"
            if text != wanted:
                self.crossed = self.crossed or f"token {self.seen} is {text!r}, not {wanted!r}"
            if not self.seen and chunk["received"]["sha256"] != self.digest:
                self.crossed = "it answers another request"
            self.seen += 1
        if len(self.ids) > 1:
            self.crossed = self.crossed or f"parts of several answers: {sorted(self.ids)}"


class Callers:
    """All callers at once, until `seconds` are over; then each gets its last answer."""

    def __init__(
        self, name: str, url: str, keys: Mapping[str, str], model: str, seed: int, kinds: Sequence[Kind] = KINDS
    ) -> None:
        """`name` stands in the requests' ids: those of others with the same seed have another."""
        self._url, self._keys, self._model, self._seed = f"{url}/chat/completions", keys, model, seed
        self._kinds, self._name = kinds, name
        self._numbers = itertools.count(1)
        self.told: list[Told] = []

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncGenerator[aiohttp.ClientSession]:
        """Without a limit: callers don't wait for each other."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
            yield session

    async def run(self, seconds: float) -> None:
        """Returns when the last answer has ended."""
        until = time.monotonic() + seconds
        async with self.session() as session, asyncio.TaskGroup() as callers:
            for kind in self._kinds:
                for number in range(kind.callers):
                    source = random.Random(f"{self._seed} {kind.name} {number}")
                    callers.create_task(self._caller(session, kind, source, until))

    async def _caller(self, session: aiohttp.ClientSession, kind: Kind, source: random.Random, until: float) -> None:
        await asyncio.sleep(source.uniform(0, 2 * kind.pause_s))
        while time.monotonic() < until:
            await self.ask(session, kind, source)
            await asyncio.sleep(source.expovariate(1 / kind.pause_s))

    async def ask(
        self, session: aiohttp.ClientSession, kind: Kind, source: random.Random, patience: float | None = None
    ) -> Told:
        """One request. `patience`: of one who leaves the line, seconds; else it is drawn."""
        tokens, patience = source.randint(4, 24), patience or source.uniform(0.2, 4.0)
        stays = source.randint(1, 4) if kind.leaves == "stream" else 0
        request = f"{self._name}-{self._seed}-{next(self._numbers)}"
        body, digest = _body(kind, self._model).marked(request, tokens)
        headers = {
            "Authorization": f"Bearer {self._keys[kind.client]}",
            "X-Request-Id": request,
            "Content-Type": "application/json",
        }
        told = Told(kind.name, request, len(body), kind.chunked, time.time())
        self.told.append(told)
        data = _pieces(body) if kind.chunked else io.BytesIO(body)
        post = session.post(self._url, data=data, headers=headers)
        try:
            async with contextlib.AsyncExitStack() as opened:
                async with asyncio.timeout(patience if kind.leaves == "line" else None):
                    answer = await opened.enter_async_context(post)
                await self._read(answer, told, kind, Answer(told.lane, digest, tokens), stays)
        except TimeoutError:
            told.left = kind.leaves == "line"
            told.broken = "" if told.left else f"nothing for {TIMEOUT_S:.0f} s"
        except (aiohttp.ClientError, ConnectionError) as error:
            told.broken = f"{type(error).__name__}: {error}"
        told.ended = time.time()
        return told

    async def _read(self, answer: aiohttp.ClientResponse, told: Told, kind: Kind, wanted: Answer, stays: int) -> None:
        told.begun, told.status = time.time(), answer.status
        told.lane = wanted.lane = answer.headers.get("X-Served-By", "")
        if answer.status != 200:
            told.code = _code(await answer.read())
            return
        if answer.headers.get("X-Request-Id") != told.request:
            told.crossed = f"X-Request-Id {answer.headers.get('X-Request-Id')}"
        if kind.streamed:
            async for line in answer.content:
                wanted.line(line)
                if stays and wanted.seen >= stays:
                    told.left = True
                    answer.close()
                    break
        else:
            wanted.whole(await answer.read())
        told.crossed = told.crossed or wanted.crossed
        told.broken = "" if wanted.done or told.left else "the stream ended without [DONE]"


async def _pieces(body: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


def _code(raw: bytes) -> str:
    """Of OpenAI's error body; the beginning of anything else."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(raw)["error"]["code"])
    return raw[:200].decode(errors="replace")
