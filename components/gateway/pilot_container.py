"""The pilot's container: how it is started and told its settings, and the archive that brings its program along.

Owns: the pilot's command and environment, as plain data, and the bytes of the archive. Does not own: what the program
does (`pilot/`, a package with nothing but the standard library), the container's place in the service (the gateway).

A secret volume mounts versions of one secret, so several files can't stand side by side in it. Python runs a zip with a
`__main__.py` at its root (`pilot_start`).
"""

import io
import json
import zipfile
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Final

import pulumi

from components import ports
from components.gateway import tunnel
from components.gateway.caddy import pilot_routes
from components.gateway.caddy.config import SECRET_LIMIT, packed
from components.gateway.caddy.upstreams import upstreams
from components.gateway.pilot_start import PACKED
from components.gateway.sidecar import kept_running
from components.gateway.speeds import first_tokens_s, speed
from components.machines.requests import TEXT_TOKENS, answer_s, first_token_s
from components.machines.speeds import BURST_START_S, Speed
from components.settings import Lane, Settings
from components.settings.client_classes import classes, limit
from components.vm.server import BATCH_S

FOLDER: Final = "/etc/pilotlight/pilot"
FILE: Final = "pilot.zip"
PACKAGE: Final = Path(__file__).parent / "pilot"
START: Final = Path(__file__).parent / "pilot_start.py"
VM_STUCK_LEAST_S: Final = 10.0
"""A machine that is stuck for less is one that was busy with something else."""


class TooLargeError(Exception):
    """The program does not fit a secret."""


def archive(package: Path = PACKAGE) -> bytes:
    """The program as a zip: the same bytes wherever and whenever it is built, so that only a change is a new version.

    Python runs a zip and deflates it itself, but builds of zlib make different bytes of the same text. So its entries
    are stored, and one of them holds the sources packed as Caddy's configuration is (`config.packed`).
    """
    modules = {f"{package.name}.{path.stem}".removesuffix(".__init__"): path for path in package.glob("*.py")}
    text = json.dumps({name: path.read_text() for name, path in sorted(modules.items())})
    program = io.BytesIO()
    with zipfile.ZipFile(program, "w", zipfile.ZIP_STORED) as target:
        for name, content in (("__main__.py", START.read_bytes()), (PACKED, packed(text))):
            # The least date that a zip knows.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            target.writestr(entry, content)
    size = program.tell()
    if size > SECRET_LIMIT:
        largest = max(modules, key=lambda name: modules[name].stat().st_size)
        raise TooLargeError(
            f"the pilot's archive has {size} bytes; a secret takes at most {SECRET_LIMIT}, so there would be no pilot; "
            + f"shorten the program (its largest module: {largest}, {modules[largest].stat().st_size} bytes unpacked)"
        )
    return program.getvalue()


def command() -> list[str]:
    """The program in a loop: without it burst gets nothing, and home and vm serve on by their checks."""
    return kept_running(
        "the pilot is away: burst gets no requests, no lane is judged, and nothing is freed that hangs at home",
        "python",
        f"{FOLDER}/{FILE}",
    )


def environment(
    settings: Settings,
    *,
    burst_url: pulumi.Input[str],
    dials: Mapping[Lane, pulumi.Input[str]],
    further: Mapping[Lane, pulumi.Input[str]],
) -> dict[str, pulumi.Input[str]]:
    """The pilot's settings; without burst, its own are empty or of no account.

    `dials` are the lanes' addresses exactly as they stand in Caddy's configuration, `further` the places of what
    may join them.
    """
    burst, contract = settings.burst, settings.contract
    home, lanes = dials.get(Lane.HOME, ""), upstreams(settings, vm_address="")
    vm = speed(settings, Lane.VM) if Lane.VM in settings.lanes else None
    # Of several machines behind a balancer each look would find another one's counters.
    watched = vm if settings.vm.most_replicas == 1 else None
    return {
        "PILOT_LISTEN": pilot_routes.PILOT,
        "PILOT_CHECKS": ports.loopback(ports.CHECKS),
        "PILOT_ADMIN_SOCKET": f"{ports.SHARED_FOLDER}/{ports.ADMIN_SOCKET}",
        "PILOT_ID_TOKEN": f"{ports.SHARED_FOLDER}/{ports.ID_TOKEN}",
        "PILOT_LINE": f"{ports.SHARED_FOLDER}/{ports.LINE_GATE}",
        "PILOT_WAKE": burst.wake.value if Lane.BURST in settings.lanes else "never",
        "PILOT_IDLE_S": str(burst.idle_s),
        "PILOT_WAKE_DEADLINE_S": str(burst.wake_deadline_s),
        "PILOT_RETRY_S": str(burst.retry_s),
        "PILOT_TIMEOUT_S": str(settings.gateway.timeout_s),
        "PILOT_SLOW_S": str(burst.slow_s),
        "PILOT_RECOVERED_S": str(burst.recovered_s),
        "BURST_URL": burst_url,
        "HOME_ADDRESS": home,
        "HOME_HOST": next((each.check_host for each in lanes if each.lane is Lane.HOME), ""),
        "HOME_DIAL": home,
        "BURST_DIAL": dials.get(Lane.BURST, ""),
        "VM_DIAL": dials.get(Lane.VM, ""),
        "HOME_CAPACITY": str(settings.slots(Lane.HOME)) if home else "0",
        "HOME_FULL": _full(settings) if home else "0",
        "BURST_CAPACITY": str(settings.slots(Lane.BURST)) if Lane.BURST in settings.lanes else "0",
        "VM_CAPACITY": str(settings.slots(Lane.VM)) if Lane.VM in settings.lanes else "0",
        **{f"{lane.upper()}_FURTHER": further.get(lane, "") for lane in Lane},
        **{f"{lane.upper()}_SECONDS": _seconds(settings, lane) for lane in Lane},
        "BURST_START_S": f"{BURST_START_S:g}",
        "VM_PROMPT": _prompt(watched, contract.picture_tokens) if watched else "",
        "VM_STUCK_S": _stuck_s(watched, contract.most_picture_tokens) if watched else "",
        "SOCKS5": ports.loopback(ports.SOCKS5),
        "TAILSCALED_SOCKET": tunnel.SOCKET if home else "",
        "PYTHONUNBUFFERED": "1",
    }


def _full(settings: Settings) -> str:
    """The least limit of a class of clients at home, with one machine there, with two, ..."""
    here = [one.priority for one in classes(settings) if Lane.HOME in one.lanes]
    slots = (settings.slots(Lane.HOME), *settings.further_slots(Lane.HOME).values())
    least = (min((limit(settings, Lane.HOME, one, count) for one in here), default=count) for count in slots)
    return " ".join(map(str, accumulate(least)))


def _prompt(vm: Speed, picture_tokens: int) -> str:
    """Tokens a second, as the VM's counters will have them: of a text, and of a picture with a text."""
    picture = (TEXT_TOKENS + picture_tokens) / first_token_s(vm, TEXT_TOKENS, picture_tokens)
    return f"{vm.prompt:.4g} {picture:.4g}"


def _stuck_s(vm: Speed, picture_tokens: int) -> str:
    """Three times the longest piece of work with nothing to see: the largest picture's encoding, or a batch."""
    return f"{max(VM_STUCK_LEAST_S, 3 * max(picture_tokens / vm.picture, BATCH_S)):.3g}"


def _seconds(settings: Settings, lane: Lane) -> str:
    """What the table of machines says of a lane; empty without the lane, or if it says nothing."""
    known = speed(settings, lane) if lane in settings.lanes else None
    if known is None:
        return ""
    times = {**first_tokens_s(settings, lane), "answer": answer_s(known)}
    return " ".join(f"{name}={seconds:.3g}" for name, seconds in times.items())
