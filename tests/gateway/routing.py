"""A gateway for routing tests: its settings, its configuration, the stock client."""

import copy
import hashlib
import json
import os
from collections.abc import Callable
from typing import Any, cast

import openai

from components.gateway.caddy import config as caddy_config
from components.settings import Settings, client_keys
from components.settings.reading import read
from tests.gateway.world import KEY, VM_ADDRESS, World

Check = Callable[[World], None]
Mutation = Callable[[dict[str, Any]], None]

SMALL = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 100_000 + b'"}]}'
LARGEST_REPLAYED = os.urandom(4 * 1024 * 1024)
LARGE = os.urandom(20_000_000)
ALIAS = "gpt-4o"
WAIT_S = 5
AT_ONCE_S = 4
"""What waits for nothing is answered within this: below `WAIT_S`, above what a busy machine takes."""
TIMEOUTS = {"timeout", "dial_timeout", "handshake_timeout", "response_header_timeout", "read_timeout"}


def settings(**changes: object) -> Settings:
    """Two slots a lane, a short wait, no page; one alias; `ghost` is a client whose key variable is never set."""
    values: dict[str, object] = {
        "clients": [{"name": "demo"}, {"name": "ghost"}],
        "gateway": {"wait_s": WAIT_S, "timeout_s": 60, "request_limit_mib": 24, "console": False},
        "home": {"max_requests": 2},
        "model": {"aliases": [ALIAS]},
        "vm": {"max_requests": 2, "machine_type": "c3-highcpu-8"},
        **changes,
    }
    config = {"gcp:project": "my-project", "gcp:region": "europe-west4"}
    return read(config | {f"pilotlight:{key}": json.dumps(value) for key, value in values.items()}, stack="test")


def rendered(chosen: Settings) -> dict[str, Any]:
    return caddy_config.render(chosen, vm_address=VM_ADDRESS)


def patient(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with more time for whatever Caddy asks, and nothing else changed.

    Where Caddy or a toy gets no CPU for a second, Caddy takes a lane for down that is up: right, and not what a test of
    routing means. The tests of the declared times take the configuration as it is.
    """
    for node in find(config, lambda x: bool(x.keys() & TIMEOUTS)):
        node |= dict.fromkeys(node.keys() & TIMEOUTS, "20s")
    # Checks that may fail before the gateway starts without the pilot.
    for node in find(config, lambda x: "fails" in x):
        node["fails"] *= 100
    return config


def environment(chosen: Settings) -> dict[str, str]:
    declared = caddy_config.environment(chosen, vm_address=VM_ADDRESS)
    return {name: str(value) for name, value in declared.items()} | {client_keys.variable("demo"): KEY}


def ask(client: openai.OpenAI, text: str = "hello") -> str | None:
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def find(tree: object, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Every object in the configuration that is `wanted`."""
    found: list[dict[str, Any]] = []
    children: list[object] = []
    if isinstance(tree, dict):
        node = cast(dict[str, Any], tree)
        found += [node] if wanted(node) else []
        children = list(node.values())
    elif isinstance(tree, list):
        children = cast(list[object], tree)
    for child in children:
        found += find(child, wanted)
    return found


def broken(config: dict[str, Any], mutation: Mutation) -> dict[str, Any]:
    """The configuration with a mistake planted, which must have found its place."""
    intact = copy.deepcopy(config)
    mutation(config)
    assert config != intact
    return config


def retried(config: dict[str, Any], rule: str, instead: str) -> None:
    """Change what is repeated on the next lane."""
    for retry in find(config, lambda x: "is_transport_error" in str(x.get("expression"))):
        retry["expression"] = retry["expression"].replace(rule, instead)
