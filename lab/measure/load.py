"""A steady load from the caller's side, and the outcome of every request.

Owns: sending, timing and judging requests; shares and percentiles of the samples. Does not own: faults and phases
(`scenarios`). Nothing here asks the gateway how it feels: a sample is what the caller saw.
"""

import asyncio
import json
import math
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from lab.measure.requests import GREETING, Request

TIMEOUT_S: Final = 310.0
"""Longer than Cloud Run's 300 s: the caller never gives up first."""
REFUSAL: Final = '"too_slow"'
"""The code of the gateway's own word that no lane can begin in time."""


@dataclass(frozen=True)
class Sample:
    """One request. Times are seconds since the load began."""

    sent: float
    streamed: bool
    lane: str
    """`X-Served-By` of its answer; empty where none began."""
    outcome: str
    """`ok`; `refused`: told that no lane is fast enough; `lost`: no answer began (another error status, a broken
    connection); `broken`: it began and did not end well."""
    first_token_s: float
    """From sending to the first token of the text, seconds; NaN where none came."""
    detail: str = ""
    request: str = ""
    """The `X-Request-Id` it was sent with."""
    whole_s: float = math.nan
    """From sending until the answer's end, whatever it was, seconds."""


class Load:
    """`rate` requests a second. Leaving the context waits for the answers still open."""

    def __init__(self, base_url: str, key: str, model: str, *, rate: float, request: Request = GREETING) -> None:
        self._url = f"{base_url}/chat/completions"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._model = model
        self.every_s = 1 / rate
        """Between two requests, seconds."""
        self._request = request
        self._began = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: aiohttp.ClientSession | None = None
        self.samples: list[Sample] = []

    async def __aenter__(self) -> "Load":
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._tasks)
        assert self._client is not None
        await self._client.close()

    def now(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self._began

    @property
    def pending(self) -> set[asyncio.Task[None]]:
        """Requests without an answer's end."""
        return {task for task in self._tasks if not task.done()}

    async def run(self, seconds: float) -> None:
        """Sends for `seconds`. Late answers don't hold up the next request: callers don't wait for each other."""
        assert self._client is not None, "use it as a context manager"
        end = self.now() + seconds
        while self.now() < end:
            streamed = len(self._tasks) % 2 == 0 if self._request.streamed is None else self._request.streamed
            self._tasks.add(asyncio.create_task(self._one(self._client, streamed=streamed)))
            await asyncio.sleep(max(0.0, min(self.every_s, end - self.now())))

    async def _one(self, client: aiohttp.ClientSession, *, streamed: bool) -> None:
        sent, request = self.now(), uuid.uuid4().hex
        body = self._request.body(self._model, streamed=streamed)
        lane, outcome, detail, first = "", "lost", "", math.nan
        try:
            headers = {**self._headers, "X-Request-Id": request, "Content-Type": "application/json"}
            async with client.post(self._url, data=body, headers=headers) as answer:
                lane = answer.headers.get("X-Served-By", "")
                if answer.status != 200:
                    text = await answer.text()
                    detail = f"HTTP {answer.status} after {self.now() - sent:.1f} s: {text[:200]}"
                    outcome = "refused" if REFUSAL in text else "lost"
                else:
                    outcome = "broken"
                    first, detail = await (self._stream(answer, sent) if streamed else self._plain(answer, sent))
                    outcome = "ok" if not detail else "broken"
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            detail = f"{type(error).__name__}: {error}"
        whole = self.now() - sent
        self.samples.append(Sample(sent, streamed, lane, outcome, first, detail, request, whole))

    async def _stream(self, answer: aiohttp.ClientResponse, sent: float) -> tuple[float, str]:
        """Time of the first token, and what is wrong with the stream's end (empty: nothing)."""
        first, finished = math.nan, False
        async for line in answer.content:
            if line.startswith(b"data: [DONE]"):
                finished = True
            elif line.startswith(b"data: ") and math.isnan(first):
                chunk: dict[str, Any] = json.loads(line[6:])
                if any(choice["delta"].get("content") for choice in chunk["choices"]):
                    first = self.now() - sent
        return first, "" if finished else "the stream ended without [DONE]"

    async def _plain(self, answer: aiohttp.ClientResponse, sent: float) -> tuple[float, str]:
        document = json.loads(await answer.read())
        return self.now() - sent, "" if document["choices"][0]["message"]["content"] else "empty answer"


def between(samples: Iterable[Sample], start: float, end: float) -> list[Sample]:
    """The samples sent in `[start, end)`."""
    return [sample for sample in samples if start <= sample.sent < end]


def shares(samples: Sequence[Sample]) -> dict[str, float]:
    """Lane -> share of the answers that began."""
    counted = Counter(sample.lane for sample in samples if sample.lane)
    total = sum(counted.values())
    return {lane: count / total for lane, count in counted.most_common()}


def percentile(samples: Sequence[Sample], share: float) -> float:
    """First-token time that `share` of the answers did not exceed, seconds; NaN without any."""
    times = sorted(sample.first_token_s for sample in samples if not math.isnan(sample.first_token_s))
    return times[min(len(times) - 1, math.ceil(share * len(times)) - 1)] if times else math.nan
