"""The `openai` SDK, as a caller with an event loop uses it. Scenarios and environment are those of `openai_sync`."""

import asyncio
import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import openai
from openai.types.chat import (
    ChatCompletionContentPartParam,
    ChatCompletionMessageParam,
)
from openai_sync import COUNT, MIB, MODEL, WEATHER

client = openai.AsyncOpenAI()


async def models() -> dict[str, Any]:
    return {"models": [model.id async for model in client.models.list()]}


async def plain(messages: list[ChatCompletionMessageParam] = COUNT) -> dict[str, Any]:
    answer = await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=20, temperature=0)
    return {"text": answer.choices[0].message.content, "usage": answer.usage and answer.usage.completion_tokens}


async def stream() -> dict[str, Any]:
    began, first, texts = time.monotonic(), None, list[str]()
    async for chunk in await client.chat.completions.create(
        model=MODEL, messages=COUNT, max_tokens=60, temperature=0, stream=True
    ):
        if chunk.choices and chunk.choices[0].delta.content:
            first = first or time.monotonic() - began
            texts.append(chunk.choices[0].delta.content)
    return {"text": "".join(texts), "pieces": len(texts), "first_s": first}


async def usage() -> dict[str, Any]:
    last = None
    async for chunk in await client.chat.completions.create(
        model=MODEL, messages=COUNT, max_tokens=20, temperature=0, stream=True, stream_options={"include_usage": True}
    ):
        last = chunk
    return {"usage": last and last.usage and last.usage.completion_tokens}


async def tools() -> dict[str, Any]:
    answer = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "How is the weather in Oslo?"}],
        max_tokens=20,
        temperature=0,
        tools=[WEATHER],
    )
    message = answer.choices[0].message
    return {"text": message.content, "calls": len(message.tool_calls or [])}


async def picture() -> dict[str, Any]:
    content = base64.b64encode(Path(os.environ["PICTURE"]).read_bytes()).decode()
    parts: list[ChatCompletionContentPartParam] = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{content}"}},
    ]
    return await plain([{"role": "user", "content": parts}])


async def wrong_key() -> dict[str, Any]:
    other = client.with_options(api_key="sk-nobody-has-this-key-0123456789")
    return {"models": [model.id async for model in other.models.list()]}


async def too_large() -> dict[str, Any]:
    return await plain([{"role": "user", "content": "x" * 31 * MIB}])


async def abort() -> dict[str, Any]:
    """Cancels the task that reads, as a server does whose own caller has left."""
    pieces, enough = 0, asyncio.Event()

    async def read() -> None:
        nonlocal pieces
        async with await client.chat.completions.create(
            model=MODEL, messages=COUNT, max_tokens=1500, temperature=0, stream=True
        ) as chunks:
            async for _ in chunks:
                pieces += 1
                if pieces == 5:
                    enough.set()

    reading = asyncio.create_task(read())
    await enough.wait()
    reading.cancel()
    await asyncio.wait({reading})
    return {"pieces": pieces}


async def impatient() -> dict[str, Any]:
    answer = await client.with_options(timeout=2).chat.completions.create(
        model=MODEL, messages=COUNT, max_tokens=20, temperature=0
    )
    return {"text": answer.choices[0].message.content}


SCENARIOS = [models, plain, stream, usage, tools, picture, wrong_key, too_large, abort, impatient]


async def main() -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        [scenario] = [each for each in SCENARIOS if each.__name__ == line.strip()]
        try:
            told = await scenario()
        except openai.OpenAIError as error:
            told = {"error": type(error).__name__, "status": getattr(error, "status_code", None)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
