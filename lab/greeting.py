"""What a lab says when it is ready: one real answer through the whole path, and a snippet to paste.

Owns: the first requests and their words. Does not own: when they are sent (`__main__`).
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import aiohttp

from components.machines.requests import TEXT_TOKENS, first_token_s
from lab import show
from lab.errors import LabError
from lab.read.plan import Plan
from lab.read.stack import Stack

PATIENCE_S: Final = 15.0
"""Longest wait for the first lane. On a quiet machine its check passes within a second of the gateway's start."""
SEEN_S: Final = 1.0
"""How long the pilot must have seen the lane up. Each of Caddy's handlers asks for itself every half second and shows
nobody what it found: by then all of them have asked."""
START_S: Final = 300.0
"""Cloud Run's longest request; the first one includes the gateway's start."""


@dataclass(frozen=True)
class Arrival:
    """What happened before the first request for an answer; times in seconds."""

    start_s: float
    """Until the gateway answered its very first request, which starts the instance."""
    wait_s: float
    """From then on, until the first lane was up or `PATIENCE_S` had passed."""
    lane: str
    """First of the declared lanes; empty where no pilot tells."""
    why_not: str
    """Why that lane may not serve; empty if it is up."""


async def arrive(base_url: str, key: str, *, every: bool = False) -> Arrival:
    """Starts the gateway with a look at its lanes, then waits for the first of them, or for every one."""
    began = time.monotonic()
    limit = aiohttp.ClientTimeout(total=START_S)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}, timeout=limit) as client:
        try:
            lanes = await _lanes(client, base_url)
            started = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    while not _settled(lanes, every):
                        await asyncio.sleep(0.05)
                        lanes = await _lanes(client, base_url)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LabError(f"the gateway does not answer: {error!r}; see the lab's folder `logs`") from None
    wait_s = time.monotonic() - started
    lane = next(iter(lanes or {}), "")
    return Arrival(started - began, wait_s, lane, why_not(lane, lanes[lane]) if lanes else "")


async def _lanes(client: aiohttp.ClientSession, base_url: str) -> dict[str, Any] | None:
    """What the pilot shows of each lane, in their order; empty without a pilot, None while it is away."""
    async with client.get(f"{base_url}/lanes") as answer:
        if answer.status == 200:
            return cast(dict[str, Any], (await answer.json())["lanes"])
        # The gateway's own 503 says that the pilot is away; no other refusal is going to change.
        return None if answer.status == 503 and answer.headers.get("X-Served-By") == "gateway" else {}


def _settled(lanes: dict[str, Any] | None, every: bool) -> bool:
    """Whether waiting changes nothing any more: the first lane is up, or only demand wakes it; or so is every lane."""
    if not lanes:
        return lanes is not None
    waited_for = list(lanes.values())[: None if every else 1]
    return all(lane["seconds"] >= SEEN_S if lane["state"] == "warm" else lane["state"] != "down" for lane in waited_for)


def why_not(lane: str, seen: dict[str, Any]) -> str:
    """Why a lane, as the pilot shows it, gets no request; empty if it gets some."""
    if seen["state"] == "warm":
        return ""
    if seen["state"] == "down":
        return f"{lane}'s check has not passed yet ({seen['error']})"
    return f"{lane} is {seen['state']}, and demand wakes it"


async def first_answer(stack: Stack) -> None:
    """Streams one real answer through the whole path, from the first lane if that comes up in time."""
    import openai

    base_url, key = stack.outputs["base_url"], _first_key(stack.outputs)
    with show.busy("the gateway starts and asks its lanes"):
        arrival = await arrive(base_url, key)
    began = first = 0.0
    # The user's proxy settings are for the internet; this is loopback.
    direct = openai.DefaultAsyncHttpxClient(trust_env=False)
    try:
        async with openai.AsyncOpenAI(base_url=base_url, api_key=key, timeout=300, http_client=direct) as client:
            # Looked up before the clock runs: it loads half of the SDK.
            completions = client.chat.completions
            began = time.monotonic()
            stream = await completions.create(
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
    print()
    show.lines(told(arrival, first, stream.response.headers.get("X-Served-By", "nobody")))


def told(arrival: Arrival, first_token_s: float, served: str) -> list[str]:
    """How long the parts of the first answer took, who gave it, and why that was not the first lane."""
    parts = {"cold start of the gateway": arrival.start_s}
    if arrival.lane:
        parts[f"wait for {arrival.lane}'s check"] = arrival.wait_s
    parts["first token after"] = first_token_s
    lines = [f"   {part:<25} {seconds:7.2f} s" for part, seconds in parts.items()]
    lines[-1] += f", served by {served}"
    if arrival.lane not in ("", served):
        why = arrival.why_not or f"{arrival.lane} was up, and the gateway chose otherwise; see the lab's folder `logs`"
        lines.append(f"   not by {arrival.lane}: {why}")
    return lines


def truth(plan: Plan, *, scripted: bool) -> list[str]:
    """What the first answer's time says about the declared machines, which is little."""
    if scripted or not plan.vm or not plan.vm.pace.served.known:
        return ["`python -m lab plan` says how late the declared machines answer"]
    text = first_token_s(plan.vm.pace.speed, TEXT_TOKENS)
    return [
        f"a small model on this machine: the declared VM ({plan.vm.pace.on}) needs {text:.1f} s to the first token",
        f"of a text of {TEXT_TOKENS} tokens; `python -m lab plan` has the others",
    ]


def sight(*, scripted: bool) -> list[str]:
    """What the small model makes of pictures."""
    if scripted:
        return []
    return [
        "its projector has random weights: a picture is scaled, encoded and counted as declared, but the model sees",
        "noise, and whatever it says of a picture is made up",
    ]


def _first_key(outputs: Mapping[str, Any]) -> str:
    return next(iter(outputs["api_keys"].values()))


def snippet(outputs: Mapping[str, Any]) -> str:
    """A program that calls the endpoint; it holds a key."""
    return f"""
from openai import OpenAI

client = OpenAI(base_url="{outputs["base_url"]}", api_key="{_first_key(outputs)}", timeout=300)
answer = client.chat.completions.create(
    model="{outputs["model"]}", messages=[{{"role": "user", "content": "Hello!"}}]
)
print(answer.choices[0].message.content)
"""
