"""What is checked of a running engine beside the kinds of requests: health, metrics, and an orderly end.

Owns: these checks; each returns what is wrong, in sentences. Does not own: the metrics' names (`metrics`), the kinds of
requests (`kinds`).
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import aiohttp

from components.gateway.caddy.walk import FAILED, REFUSED
from lab.run.processes import Process
from tests.contract import metrics
from tests.contract.asking import LIMIT_S, Asking
from tests.contract.kinds import CHAT, Promise
from tests.kit import until

LONG_TOKENS: Final = 600
"""An answer that is still being written while something else is looked at."""
ANSWER_TOKENS: Final = 4000
"""Of an answer that is watched: the tiny model writes 600 in the time of two looks."""
PROMPT_TOKENS: Final = 6500
"""A prompt that vLLM reads in four steps."""
REPEATED: Final = (FAILED, *REFUSED)
"""Answers that the gateway repeats on the next lane. vLLM gives the first while it is being stopped."""
GONE_S: Final = 20
"""How long an engine may need to end once nothing runs in it, seconds."""


async def health(url: str) -> list[str]:
    """`/health` says 200."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/health") as answer:
        return [] if answer.status == 200 else [f"/health answers {answer.status}"]


async def names(url: str, wanted: Mapping[str, frozenset[str]]) -> list[str]:
    """The metrics have their names and labels."""
    async with aiohttp.ClientSession() as session:
        return metrics.missing(await _metrics(session, url), wanted)


async def moving(url: str, engine: str, promise: Promise) -> list[str]:
    """A metric changes while a long prompt is read, and while a long answer is written."""
    found: list[str] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(LIMIT_S)) as session:
        given = await Asking(url, session).given(promise, "")
        for what, body in {
            f"a prompt of {PROMPT_TOKENS} tokens is read": {
                **_long(promise, max_tokens=1),
                # Another beginning than any prompt before it, for engines remember those.
                "messages": [{"role": "user", "content": f"read: {given.words(PROMPT_TOKENS)}"}],
            },
            f"an answer of {ANSWER_TOKENS} tokens is written": {
                **_long(promise, max_tokens=ANSWER_TOKENS),
                # A server that writes a stream this fast has no time for its metrics.
                "stream": False,
            },
        }.items():
            seen = await _while_it_runs(session, url, engine, body)
            if len(seen) < 3:
                found.append(f"while {what}, {', '.join(metrics.MOVING[engine])} had the values {sorted(seen)} only")
    return found


async def _while_it_runs(
    session: aiohttp.ClientSession, url: str, engine: str, body: Mapping[str, object]
) -> set[tuple[float, ...]]:
    """The values of what moves, from a request's first byte to its answer's last."""

    async def whole() -> None:
        async with session.post(url + CHAT, json=body) as answer:
            await answer.read()

    seen: set[tuple[float, ...]] = set()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(whole())
        while not running.done():
            seen.add(metrics.moving(await _metrics(session, url), engine))
            await asyncio.sleep(0.01)
    return seen


async def statuses(url: str) -> list[str]:
    """vLLM counts its answers by status, in `http_requests_total`: those of every kind were asked before."""
    async with aiohttp.ClientSession() as session:
        text = await _metrics(session, url)
    seen = {labels["status"] for name, labels, _ in metrics.rows(text)
            if name == "http_requests_total" and labels["handler"] == CHAT}  # fmt: skip
    lacking = sorted({"2xx", "4xx"} - seen)
    return [f"http_requests_total has no row for the status {status} of {CHAT}" for status in lacking]


async def stuck(url: str, engine: int, probe: Sequence[str]) -> list[str]:
    """While the engine stands still, `/health` says 200 and the declared liveness that it doesn't live."""
    found: list[str] = []
    status = Path(f"/proc/{engine}/status")
    async with aiohttp.ClientSession() as session:
        if not await _lives(probe):
            found.append("the declared liveness calls an idle engine dead")
        os.kill(engine, signal.SIGSTOP)
        try:
            # A process on another core goes on for a moment after the signal.
            await asyncio.to_thread(until, lambda: "State:\tT" in status.read_text(), "the engine stands still")
            async with session.get(f"{url}/health") as answer:
                if answer.status != 200:
                    found.append(f"/health of an engine that stands still answers {answer.status}")
            # The first may still see what happened before.
            if [await _lives(probe), await _lives(probe)][1]:
                found.append("the declared liveness calls an engine alive that stands still")
        finally:
            os.kill(engine, signal.SIGCONT)
        if not await _lives(probe):
            found.append("the declared liveness calls an engine dead that goes on")
    return found


async def _lives(probe: Sequence[str]) -> bool:
    asked = await asyncio.create_subprocess_exec(*probe, stdout=asyncio.subprocess.DEVNULL)
    return await asked.wait() == 0


async def drain(url: str, promise: Promise, process: Process, terminate: Callable[[Process], None],
                drain_s: int) -> list[str]:  # fmt: skip
    """After SIGTERM a running stream goes on to its end, and nobody new is served. Ends the engine."""
    found: list[str] = []
    events: list[bytes] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(LIMIT_S)) as session:
        async with session.post(url + CHAT, json=_long(promise)) as stream:
            began = 0.0
            with contextlib.suppress(aiohttp.ClientError):
                async for line in stream.content:
                    events += [line] if line.startswith(b"data:") else []
                    if len(events) == 2 and not began:
                        began = time.monotonic()
                        terminate(process)
                        await asyncio.sleep(0.5)
                        found += await _refused(session, url, promise)
            took = time.monotonic() - began
        if not events or events[-1].strip() != b"data: [DONE]":
            found.append(f"the stream that ran broke off after {took:.1f} s, {len(events)} events")
        elif took > drain_s:
            found.append(f"the stream that ran took {took:.1f} s, more than --shutdown-timeout {drain_s}")
    try:
        await asyncio.wait_for(process.handle.wait(), GONE_S)
    except TimeoutError:
        found.append(f"it still runs {GONE_S} s after its last request")
    return found


async def _refused(session: aiohttp.ClientSession, url: str, promise: Promise) -> list[str]:
    body = {"model": promise.model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    try:
        async with session.post(url + CHAT, json=body) as answer:
            told = json.loads(await answer.read())
            if answer.status in REPEATED:
                return []
            return [f"a new request is answered with {answer.status}, which the gateway repeats nowhere: {told}"]
    except (aiohttp.ClientError, ValueError):
        return []


async def _metrics(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(f"{url}/metrics") as answer:
        return await answer.text()


def _long(promise: Promise, max_tokens: int = LONG_TOKENS) -> dict[str, object]:
    return {
        "model": promise.model,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "stream": True,
    }
