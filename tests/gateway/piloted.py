"""The real pilot beside the real Caddy, in the place of the toy.

Owns: the pilot's process, with the declared environment but for the folder. Does not own: Caddy and the lanes
(`world`).
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Generator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from components import ports
from components.gateway import pilot_container
from components.gateway.caddy import upstreams
from components.settings import Settings
from tests.gateway.routing import environment, patient, rendered
from tests.gateway.world import VM_ADDRESS, World
from tests.kit import until


def asked() -> dict[str, Any]:
    """The pilot's status; empty while it does not listen."""
    with contextlib.closing(HTTPConnection("127.0.0.1", ports.PILOT, timeout=10)) as connection:
        try:
            connection.request("GET", "/status")
            return json.loads(connection.getresponse().read())
        except OSError:
            return {}


def in_line() -> int:
    """Callers whom the pilot holds."""
    return asked()["line"]["waiting"]


@contextlib.contextmanager
def pilot(here: World, chosen: Settings, **changed: str) -> Generator[subprocess.Popen[bytes]]:
    """The pilot's process, with what is declared for `chosen` but the folder, and what is `changed`."""
    here.pilot.down()
    program = here.folder / pilot_container.FILE
    program.write_bytes(pilot_container.archive())
    dials = {each.lane: each.dial for each in upstreams.upstreams(chosen, vm_address=VM_ADDRESS)}
    declared = pilot_container.environment(chosen, burst_url="", dials=dials, further={})
    env = {name: str(value).replace(ports.SHARED_FOLDER, str(here.folder)) for name, value in declared.items()}
    with log(here).open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-W", "error", program], env=env | changed, stderr=stream)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        print(log(here).read_text())


def log(here: World) -> Path:
    """What the pilot says."""
    return here.folder / "pilot.log"


@contextlib.contextmanager
def piloted(here: World, chosen: Settings, *, hasty: bool = False) -> Generator[subprocess.Popen[bytes]]:
    """Caddy with the configuration of `chosen`, and its pilot; `hasty`: with the declared times."""
    config = rendered(chosen)
    # The toys have no engine's metrics, and no daemon that could be ended.
    without = {"HOME_HOST": "", "VM_STUCK_S": "", "TAILSCALED_SOCKET": ""}
    with here.caddy(config if hasty else patient(config), environment(chosen)) as caddy:
        with pilot(here, chosen, **without) as process:
            until(lambda: asked().get("caddy", {}).get("seen"), "the pilot sees Caddy")
            until(lambda: asked()["lanes"]["home"]["state"] == "warm", "the pilot sees home")
            yield process
            assert caddy.poll() is None
        told = log(here).read_text()
        assert "could not do one of its duties" not in told, told
