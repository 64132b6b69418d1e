"""The gateway under attack: the declared configuration in a real Caddy, between lanes that keep all that reaches them.

Owns: the stack that is attacked, and the keys of its clients. Does not own: Caddy and the toys (`tests.gateway`).
"""

import contextlib
import json
import logging
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from components.gateway.caddy import config as caddy_config
from components.gateway.caddy import console
from components.settings import Settings, client_keys
from tests.gateway import routing
from tests.gateway.backends import Lane
from tests.gateway.routing import LARGE, SMALL, patient
from tests.gateway.world import KEY, START_S, VM_ADDRESS, World, world
from tests.kit import until

PAGE: Final = "https://page.example"
CLIENTS: Final[list[dict[str, object]]] = [
    {"name": "demo"},
    {"name": "private", "lanes": ["home"]},
    {"name": "cloud", "lanes": ["vm", "burst"]},
    {"name": "few", "max_requests": 3},
]
FIRST: Final = {"demo": "home", "private": "home", "cloud": "burst", "few": "home"}
"""Who answers each client while all lanes are up."""
KEYS: Final = {"demo": KEY} | {str(one["name"]): f"{one['name']}-key-0123456789" for one in CLIENTS[1:]}


@dataclass(frozen=True)
class Arrived:
    """A request as it reached a lane."""

    lane: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]


class Recorder(Lane):
    """A lane that keeps each request but the checks that it knows."""

    arrived: list[Arrived]

    def reset(self) -> None:
        super().reset()
        self.arrived = []

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = tuple((name.lower(), value) for name, value in request.headers.items())
        if (request.method, request.raw_path) != ("GET", "/health") or {name for name, _ in headers} - {
            "host", "user-agent", "accept-encoding",
        }:  # fmt: skip
            self.arrived.append(Arrived(self.name, request.method, request.raw_path, headers))
        return await super()._serve(request)


def settings() -> Settings:
    """Every lane, a service at home, a page of another origin, the console, and clients of several classes."""
    return routing.settings(
        lanes=["home", "burst", "vm"],
        clients=CLIENTS,
        services=[{"name": "vllm", "preset": "model"}, {"name": "tts", "preset": "tts"}],
        gateway={"wait_s": 5, "timeout_s": 60, "request_limit_mib": 24, "cors_origins": [PAGE], "console": True},
        home={"max_requests": 8},
        burst={"max_requests": 8},
        vm={"max_requests": 4, "machine_type": "c3-highcpu-8"},
    )


@contextlib.contextmanager
def gateway(changed: Callable[[dict[str, Any]], object] = lambda _: None) -> Generator[World]:
    """The gateway, all lanes up; `changed` plants a mistake in its configuration."""
    # What a lane can't read, it answers with 400, and the rules see that.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    with world(Recorder, Recorder) as here, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / console.FILE).write_text(console.page())
        chosen = settings()
        url = f"http://{here.burst.host}:{here.burst.port}"
        config = patient(caddy_config.render(chosen, vm_address=VM_ADDRESS, burst_url=url))
        changed(config)
        environment = routing.environment(chosen) | {client_keys.variable(name): key for name, key in KEYS.items()}
        environment[console.FOLDER_VARIABLE] = folder
        with here.caddy(config, environment):
            here.pilot.says["/lane/burst"] = 200
            all_serve(here)
            yield here


def all_serve(here: World) -> None:
    """Until each client is answered by his first lane, whatever the size, and `vm` by who names it."""
    for name, key in KEYS.items():
        sent = {"Authorization": f"Bearer {key}"}
        for body in (b"{}", SMALL, LARGE):
            until(
                lambda body=body, sent=sent, name=name: here.call(body=body, **sent).lane == FIRST[name],
                f"{FIRST[name]} answers {name}",
                2 * START_S,
            )
    until(lambda: here.call(X_Lane="vm").lane == "vm", "the VM answers")
    forget(here)


def recorders(here: World) -> list[Recorder]:
    return [lane for lane in (here.home, here.burst, here.vm) if isinstance(lane, Recorder)]


def forget(here: World) -> None:
    """What reached the lanes so far. Their behaviour stays."""
    for lane in recorders(here):
        lane.arrived.clear()
        lane.received.clear()


def fails(here: World) -> dict[str, int]:
    """What Caddy holds against a lane, by address."""
    return {row["address"]: row["fails"] for row in json.loads(here.admin("/reverse_proxy/upstreams")) if row["fails"]}
