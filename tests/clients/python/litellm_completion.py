"""LiteLLM as a client: `completion`. Scenarios and environment are those of `openai_sync`."""

import base64
import os
import time
from pathlib import Path
from typing import Any

import litellm
from asked import answer

litellm.suppress_debug_info = True
MIB = 1024 * 1024
COUNT = "List the numbers from 1 to 1000: 1, 2, 3, 4, 5, 6,"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def ask(content: Any = COUNT, **options: Any) -> Any:
    # The prefix says which API the endpoint speaks; the rest is the model's name there.
    return litellm.completion(
        model=f"openai/{os.environ['MODEL']}",
        messages=[{"role": "user", "content": content}],
        temperature=0,
        **options,
    )


def models() -> dict[str, Any]:
    # Without the address it would ask OpenAI's, whatever OPENAI_BASE_URL says.
    where = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"]}
    return {"models": litellm.get_valid_models(check_provider_endpoint=True, custom_llm_provider="openai", **where)}


def plain(content: Any = COUNT, **options: Any) -> dict[str, Any]:
    answer = ask(content, max_tokens=20, **options)
    return {"text": answer.choices[0].message.content, "usage": answer.usage.completion_tokens}


def stream() -> dict[str, Any]:
    began, first, texts = time.monotonic(), None, []
    for chunk in ask(max_tokens=60, stream=True):
        if chunk.choices[0].delta.content:
            first = first or time.monotonic() - began
            texts.append(chunk.choices[0].delta.content)
    return {"text": "".join(texts), "pieces": len(texts), "first_s": first}


def usage() -> dict[str, Any]:
    last = None
    for chunk in ask(max_tokens=20, stream=True, stream_options={"include_usage": True}):
        last = chunk
    return {"usage": last.usage.completion_tokens}


def tools() -> dict[str, Any]:
    message = ask("How is the weather in Oslo?", max_tokens=20, tools=[WEATHER]).choices[0].message
    return {"text": message.content, "calls": len(message.tool_calls or [])}


def picture() -> dict[str, Any]:
    content = base64.b64encode(Path(os.environ["PICTURE"]).read_bytes()).decode()
    return plain(
        [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{content}"}},
        ]
    )


def wrong_key() -> dict[str, Any]:
    return plain(api_key="sk-nobody-has-this-key-0123456789")


def too_large() -> dict[str, Any]:
    return plain("x" * 31 * MIB)


def abort() -> dict[str, Any]:
    pieces = 0
    chunks = ask(max_tokens=1500, stream=True)
    for _ in chunks:
        pieces += 1
        if pieces == 5:
            break
    # LiteLLM's own stream has no `close`; that of the SDK below it closes the connection.
    chunks.completion_stream.close()
    return {"pieces": pieces}


def impatient() -> dict[str, Any]:
    return plain(timeout=2)


SCENARIOS = [models, plain, stream, usage, tools, picture, wrong_key, too_large, abort, impatient]

if __name__ == "__main__":
    # LiteLLM's exceptions are subclasses of the SDK's.
    answer(SCENARIOS, litellm.exceptions.openai.OpenAIError)
