"""Caddy with nothing but a proxy, in the version that ours has: the measure of all ratios.

Owns: the shortest configuration that serves the same requests. `max_requests`, where a table has a limited lane, waits
as Caddy waits by itself.
"""

import contextlib
import json
from collections.abc import Generator
from typing import Any

from bench.processes import started
from bench.systems.system import VM, Place, Running, System
from lab.read.images import BIN


def _config(port: int, max_requests: int) -> dict[str, Any]:
    proxy: dict[str, Any] = {"handler": "reverse_proxy", "upstreams": [{"dial": VM.address}]}
    if max_requests:
        proxy["upstreams"][0]["max_requests"] = max_requests
        proxy["load_balancing"] = {"try_duration": "120s"}
    server = {"listen": [f"127.0.0.1:{port}"], "routes": [{"handle": [proxy]}], "automatic_https": {"disable": True}}
    return {"admin": {"disabled": True}, "apps": {"http": {"servers": {"bench": server}}}}


def system(max_requests: int = 0) -> System:
    """With `max_requests` slots; 0: any number."""

    @contextlib.contextmanager
    def start(place: Place) -> Generator[Running]:
        file = place.folder / "caddy.json"
        file.write_text(json.dumps(_config(place.port, max_requests)))
        command = [str(BIN / "caddy"), "run", "--config", str(file)]
        with started("plain-caddy", command, place.core, place.folder, {"HOME": str(place.folder)}) as process:
            yield Running(f"127.0.0.1:{place.port}", [process])

    return System("plain Caddy", start)
