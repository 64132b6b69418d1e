"""What a lab says when it is ready: one real answer through the whole path, and a snippet to paste.

Owns: the first request and its words. Does not own: when it is sent (`__main__`).
"""

import time

from lab.errors import LabError
from lab.read.stack import Stack


async def first_answer(stack: Stack) -> None:
    """Streams one real answer through the whole path; the first request also starts the gateway's instance."""
    import openai

    began, first = time.monotonic(), 0.0
    # The user's proxy settings are for the internet; this is loopback.
    direct = openai.DefaultAsyncHttpxClient(trust_env=False)
    try:
        async with openai.AsyncOpenAI(
            base_url=stack.outputs["base_url"], api_key=_first_key(stack), timeout=300, http_client=direct
        ) as client:
            stream = await client.chat.completions.create(
                model=stack.outputs["model"],
                messages=[{"role": "user", "content": "Say hello in one short sentence."}],
                max_tokens=40,
                stream=True,
            )
            print("\nfirst answer: ", end="", flush=True)
            async for chunk in stream:
                text = chunk.choices[0].delta.content if chunk.choices else None
                if text:
                    first = first or time.monotonic() - began
                    print(text, end="", flush=True)
    except openai.OpenAIError as error:
        raise LabError(f"the first answer failed: {error}; see the lab's folder `logs`") from None
    served = stream.response.headers.get("X-Served-By")
    print(f"\n(first token after {first:.2f} s, the gateway's own start included; served by {served})")


def _first_key(stack: Stack) -> str:
    return next(iter(stack.outputs["api_keys"].values()))


def snippet(stack: Stack) -> str:
    return f"""
from openai import OpenAI

client = OpenAI(base_url="{stack.outputs["base_url"]}", api_key="{_first_key(stack)}", timeout=300)
answer = client.chat.completions.create(
    model="{stack.outputs["model"]}", messages=[{{"role": "user", "content": "Hello!"}}]
)
print(answer.choices[0].message.content)
"""
