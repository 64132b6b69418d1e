"""The gateway's Tailscale container: joins the tailnet in userspace and offers it to Caddy as a SOCKS5 proxy.

Owns: the container's command and environment, as plain data. Does not own: the auth key's value.
"""

from pathlib import Path
from typing import Final

from components.settings import Settings
from components.tailnet import GATEWAY

SOCKS5: Final = "127.0.0.1:1055"
"""On loopback only: SOCKS5 dials whatever it is asked to, so nobody outside the instance may reach it."""
HEALTH: Final = "127.0.0.1:9002"
KEY_FOLDER: Final = "/etc/pilotlight/tailnet"
KEY_FILE: Final = "auth-key"


def command() -> list[str]:
    """A shell loop around the image's own entrypoint, which must not take the instance down with it."""
    return ["/bin/sh", "-c", (Path(__file__).parent / "join_tailnet.sh").read_text()]


def environment(settings: Settings) -> dict[str, str]:
    """Environment of the entrypoint `containerboot`.

    TS_STATE_DIR stays unset: then state is in memory and the node ephemeral. The key comes as a file, because a secret
    in an environment variable that can't be read would keep the whole instance from starting.
    """
    return {
        "TS_USERSPACE": "true",
        "TS_SOCKS5_SERVER": SOCKS5,
        "TS_HOSTNAME": f"{settings.prefix}-gateway",
        "TS_AUTHKEY": f"file:{KEY_FOLDER}/{KEY_FILE}",
        "TS_EXTRA_ARGS": f"--advertise-tags={GATEWAY}",
        "TS_ENABLE_HEALTH_CHECK": "true",
        "TS_LOCAL_ADDR_PORT": HEALTH,
        # Larger packets are lost on Cloud Run and big uploads hang (tailscale#9894).
        "TS_DEBUG_MTU": "1280",
    }
