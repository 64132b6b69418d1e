"""A running server, and requests to it, each bounded in time.

Owns: the server's process, its log, the prompts, and the times that a caller sees. Does not own: the arguments
(`server`), what the times mean (`rows`).
"""

import asyncio
import base64
import contextlib
import io
import json
import random
import re
import string
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from PIL import Image

from bench.errors import BenchError
from bench.vm.rows import Answer, Request
from bench.vm.server import READY

START_S: Final = 300.0
_ENCODING: Final = re.compile(r"encoding mtmd batch")
_ENCODED: Final = re.compile(r"decoding image batch 1/")


class Server:
    """A server; it can be asked once `address` is known, which is when it has loaded its weights."""

    def __init__(self, pid: int, limit_s: float) -> None:
        self.address = ""
        self.encoding_began = self.encoding_ended = 0.0
        self._pid = pid
        self._limit_s = limit_s
        self._template_tokens = 0

    def resident_gib(self) -> float:
        """Memory that the server holds, shared pages of the weights' file included, GiB."""
        [kib] = re.findall(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{self._pid}/status").read_text(), re.MULTILINE)
        return int(kib) / 2**20

    def read(self, line: str) -> None:
        """Notes a line of the log that tells of a picture."""
        if _ENCODING.search(line):
            self.encoding_began = self.encoding_ended = time.monotonic()
        elif _ENCODED.search(line):
            self.encoding_ended = time.monotonic()

    async def warm_up(self) -> None:
        """One short request: it reads every page of the weights once and shows how many tokens the template adds."""
        answer = await self._ask(text(1), None, 1)
        self._template_tokens = answer.prompt_tokens - 1

    async def answers(self, request: Request) -> list[Answer]:
        """The request's answers, asked at once; raises `TimeoutError` beyond the limit."""
        self.encoding_began = self.encoding_ended = 0.0
        picture = jpeg(*request.picture) if request.picture else None
        letters = request.text_tokens - self._template_tokens
        asked = (self._ask(text(letters), picture, request.answer_tokens) for _ in range(request.copies))
        found = await asyncio.gather(*asked)
        if not picture and any(answer.prompt_tokens != request.text_tokens for answer in found):
            told = [answer.prompt_tokens for answer in found]
            raise BenchError(f"{request.name}: the server counts {told} tokens and not {request.text_tokens}")
        return found

    async def _ask(self, prompt: str, picture: str | None, answer_tokens: int) -> Answer:
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        if picture:
            content.insert(0, {"type": "image_url", "image_url": {"url": picture}})
        body = {
            "messages": [{"role": "user", "content": content}],
            "max_tokens": answer_tokens, "ignore_eos": True, "stream": True, "cache_prompt": False,
        }  # fmt: skip
        first, timings, began = None, dict[str, Any](), time.monotonic()
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._limit_s)) as session,
            session.post(f"{self.address}/v1/chat/completions", json=body) as response,
        ):
            if response.status != 200:
                raise BenchError(f"the server answers {response.status}: {await response.text()}")
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line.removeprefix(b"data: "))
                timings = event.get("timings") or timings
                if first is None and any(choice["delta"].get("content") for choice in event.get("choices", ())):
                    first = time.monotonic() - began
        whole = time.monotonic() - began
        if not timings:
            raise BenchError("the server's answer broke off: its last event has no timings")
        return Answer(
            first_s=whole if first is None else first,
            whole_s=whole,
            prompt_tokens=timings["prompt_n"],
            prompt_rate=timings["prompt_per_second"],
            generation_rate=timings["predicted_per_second"],
            encoding_s=self.encoding_ended - self.encoding_began or None if picture else None,
        )


@asynccontextmanager
async def started(arguments: Sequence[str], cpus: Sequence[int], log: Path, limit_s: float) -> AsyncGenerator[Server]:
    """A server on these processors with its weights loaded; it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.vm.server", "--cpus", ",".join(map(str, cpus)), *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    assert process.stderr
    server = Server(process.pid, limit_s)
    logging = asyncio.create_task(_log(process.stderr, log, server))
    try:
        with contextlib.suppress(TimeoutError):
            line = (await asyncio.wait_for(process.stdout.readline(), START_S)).decode()
            server.address = line.removeprefix(READY).strip()
        if not server.address:
            raise BenchError(f"the server did not load its weights within {START_S:.0f} s; its log: {log}")
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await logging


async def _log(stream: asyncio.StreamReader, log: Path, server: Server) -> None:
    """Keeps the server's log, and reads it as it comes."""
    with log.open("wb", buffering=0) as file:
        async for line in stream:
            file.write(line)
            server.read(line.decode(errors="replace"))


def text(tokens: int) -> str:
    """As many letters, each a token, and never the same twice: llama.cpp would remember."""
    return "".join(random.choices(string.ascii_lowercase, k=tokens))


def jpeg(width: int, height: int) -> str:
    """A picture of coloured spots as a data URL, never the same twice."""
    spots = Image.frombytes("RGB", (64, 48), random.randbytes(64 * 48 * 3)).resize((width, height))
    file = io.BytesIO()
    spots.save(file, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
