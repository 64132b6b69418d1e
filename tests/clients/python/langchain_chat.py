"""LangChain's `ChatOpenAI`. Scenarios and environment are those of `openai_sync`."""

import base64
import os
import time
from pathlib import Path
from typing import Any

import openai
from asked import answer
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

MIB = 1024 * 1024
COUNT = "List the numbers from 1 to 1000: 1, 2, 3, 4, 5, 6,"


def model(**options: Any) -> ChatOpenAI:
    return ChatOpenAI(model=os.environ["MODEL"], temperature=0, **options)


def models() -> dict[str, Any]:
    # LangChain has no call of its own for it; the SDK below it does.
    return {"models": [each.id for each in model().root_client.models.list()]}


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def plain(content: Any = COUNT, **options: Any) -> dict[str, Any]:
    answer = model(max_tokens=20, **options).invoke([HumanMessage(content)])
    return {"text": answer.content, "usage": answer.usage_metadata and answer.usage_metadata["output_tokens"]}


def stream() -> dict[str, Any]:
    began, first, texts = time.monotonic(), None, []
    for chunk in model(max_tokens=60).stream(COUNT):
        if chunk.content:
            first = first or time.monotonic() - began
            texts.append(chunk.content)
    return {"text": "".join(texts), "pieces": len(texts), "first_s": first}


def usage() -> dict[str, Any]:
    # Asked for by itself only where nobody has set an address.
    tokens = 0
    for chunk in model(max_tokens=20, stream_usage=True).stream(COUNT):
        if chunk.usage_metadata:
            tokens += chunk.usage_metadata["output_tokens"]
    return {"usage": tokens}


def tools() -> dict[str, Any]:
    answer = model(max_tokens=20).bind_tools([weather]).invoke("How is the weather in Oslo?")
    return {"text": answer.content, "calls": len(answer.tool_calls)}


def picture() -> dict[str, Any]:
    content = base64.b64encode(Path(os.environ["PICTURE"]).read_bytes()).decode()
    return plain(
        [
            {"type": "text", "text": "What is this?"},
            {"type": "image", "base64": content, "mime_type": "image/png"},
        ]
    )


def wrong_key() -> dict[str, Any]:
    return plain(api_key="sk-nobody-has-this-key-0123456789")


def too_large() -> dict[str, Any]:
    return plain("x" * 31 * MIB)


def abort() -> dict[str, Any]:
    pieces = 0
    chunks = model(max_tokens=1500).stream(COUNT)
    for _ in chunks:
        pieces += 1
        if pieces == 5:
            break
    # Closing the generator closes the connection, which ends the work on the model's server.
    chunks.close()
    return {"pieces": pieces}


def impatient() -> dict[str, Any]:
    return plain(timeout=2)


SCENARIOS = [models, plain, stream, usage, tools, picture, wrong_key, too_large, abort, impatient]

if __name__ == "__main__":
    answer(SCENARIOS, openai.OpenAIError)
