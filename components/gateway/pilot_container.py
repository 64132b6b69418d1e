"""The pilot: knows burst's state, wakes it, tells Caddy whether to send requests there, and frees what hangs at home.

Owns: the pilot's command and environment, as plain data; what it does is in `pilot/pilot.py`, one file that is mounted
as it is into a stock Python image. Does not own: any request.
"""

from pathlib import Path
from typing import Final

from components import ports
from components.gateway import tunnel
from components.gateway.caddy import pilot_routes
from components.gateway.sidecar import kept_running
from components.settings import Lane, Settings

FOLDER: Final = "/etc/pilotlight/pilot"
FILE: Final = "pilot.py"


def source() -> str:
    """The program's text."""
    return (Path(__file__).parent / "pilot" / FILE).read_text()


def command() -> list[str]:
    """The program in a loop: without it burst gets nothing, and home and vm serve on."""
    return kept_running(
        "the pilot is away: burst gets no requests, and nothing is freed that hangs at home",
        "python",
        f"{FOLDER}/{FILE}",
    )


def environment(settings: Settings, *, burst_url: str, dials: dict[Lane, str]) -> dict[str, str]:
    """The pilot's settings; without burst, its own are empty or of no account.

    `dials` are the lanes' addresses exactly as they stand in Caddy's configuration.
    """
    burst = settings.burst
    home = dials.get(Lane.HOME, "")
    return {
        "PILOT_LISTEN": pilot_routes.PILOT,
        "PILOT_FOLDER": ports.SHARED_FOLDER,
        "PILOT_WAKE": burst.wake.value if Lane.BURST in settings.lanes else "never",
        "PILOT_IDLE_S": str(burst.idle_s),
        "PILOT_WAKE_DEADLINE_S": str(burst.wake_deadline_s),
        "PILOT_RETRY_S": str(burst.retry_s),
        "PILOT_SLOW_S": str(burst.slow_s),
        "PILOT_RECOVERED_S": str(burst.recovered_s),
        "BURST_URL": burst_url,
        "HOME_ADDRESS": home,
        "HOME_DIAL": home,
        "BURST_DIAL": dials.get(Lane.BURST, ""),
        "VM_DIAL": dials.get(Lane.VM, ""),
        "HOME_CAPACITY": str(settings.home.max_requests) if home else "0",
        "VM_CAPACITY": str(settings.vm.capacity) if Lane.VM in settings.lanes else "0",
        "SOCKS5": ports.loopback(ports.SOCKS5),
        "TAILSCALED_SOCKET": tunnel.SOCKET if home else "",
        "PYTHONUNBUFFERED": "1",
    }
