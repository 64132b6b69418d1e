"""The `openai` SDK, as a caller who waits for each answer uses it.

The scenarios are asked for by name (`asked`). The SDK itself reads OPENAI_BASE_URL and OPENAI_API_KEY; MODEL is the
model's name, PICTURE a PNG file.
"""

import base64
import os
import time
from pathlib import Path
from typing import Any

import openai
from asked import answer
from openai.types.chat import (
    ChatCompletionContentPartParam,
    ChatCompletionFunctionToolParam,
    ChatCompletionMessageParam,
)

MODEL = os.environ["MODEL"]
MIB = 1024 * 1024
COUNT: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "List the numbers from 1 to 1000: 1, 2, 3, 4, 5, 6,"}
]
WEATHER: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

client = openai.OpenAI()


def models() -> dict[str, Any]:
    return {"models": [model.id for model in client.models.list()]}


def plain(messages: list[ChatCompletionMessageParam] = COUNT) -> dict[str, Any]:
    answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=20, temperature=0)
    return {"text": answer.choices[0].message.content, "usage": answer.usage and answer.usage.completion_tokens}


def stream() -> dict[str, Any]:
    began, first, texts = time.monotonic(), None, list[str]()
    for chunk in client.chat.completions.create(model=MODEL, messages=COUNT, max_tokens=60, temperature=0, stream=True):
        if chunk.choices and chunk.choices[0].delta.content:
            first = first or time.monotonic() - began
            texts.append(chunk.choices[0].delta.content)
    return {"text": "".join(texts), "pieces": len(texts), "first_s": first}


def usage() -> dict[str, Any]:
    last = None
    for chunk in client.chat.completions.create(
        model=MODEL, messages=COUNT, max_tokens=20, temperature=0, stream=True, stream_options={"include_usage": True}
    ):
        last = chunk
    return {"usage": last and last.usage and last.usage.completion_tokens}


def tools() -> dict[str, Any]:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "How is the weather in Oslo?"}],
        max_tokens=20,
        temperature=0,
        tools=[WEATHER],
    )
    message = answer.choices[0].message
    return {"text": message.content, "calls": len(message.tool_calls or [])}


def picture() -> dict[str, Any]:
    content = base64.b64encode(Path(os.environ["PICTURE"]).read_bytes()).decode()
    parts: list[ChatCompletionContentPartParam] = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{content}"}},
    ]
    return plain([{"role": "user", "content": parts}])


def wrong_key() -> dict[str, Any]:
    other = client.with_options(api_key="sk-nobody-has-this-key-0123456789")
    return {"models": [model.id for model in other.models.list()]}


def too_large() -> dict[str, Any]:
    return plain([{"role": "user", "content": "x" * 31 * MIB}])


def abort() -> dict[str, Any]:
    pieces = 0
    # Leaving the block closes the connection, which ends the work on the model's server.
    with client.chat.completions.create(
        model=MODEL, messages=COUNT, max_tokens=1500, temperature=0, stream=True
    ) as chunks:
        for _ in chunks:
            pieces += 1
            if pieces == 5:
                break
    return {"pieces": pieces}


def impatient() -> dict[str, Any]:
    answer = client.with_options(timeout=2).chat.completions.create(
        model=MODEL, messages=COUNT, max_tokens=20, temperature=0
    )
    return {"text": answer.choices[0].message.content}


SCENARIOS = [models, plain, stream, usage, tools, picture, wrong_key, too_large, abort, impatient]

if __name__ == "__main__":
    answer(SCENARIOS, openai.OpenAIError)
