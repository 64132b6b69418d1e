"""The gateway's Tailscale container: it joins the tailnet in userspace mode and is Caddy's SOCKS5 proxy.

Owns: the container's command and environment, as plain data. Does not own: the auth key's value, the tailnet's policy
(`tailnet`).
"""

from typing import Final

import pulumi

from components import ports
from components.gateway.sidecar import kept_running
from components.settings import Settings
from components.settings.tailnet import Join
from components.tailnet.policy import GATEWAY

KEY_FOLDER: Final = "/etc/pilotlight/tailnet"
KEY_FILE: Final = "auth-key"
SOCKET: Final = f"{ports.SHARED_FOLDER}/{ports.TAILSCALED_SOCKET}"
POLICY_FOLDER: Final = "/etc/pilotlight/tailscaled"
POLICY_FILE: Final = "syspolicy.json"
POLICY: Final = '{"AllowTailscaledRestart": true}'
"""Lets root in the instance shut the daemon down through its local API (v1.102.5: refused without, run and seen)."""


def command() -> list[str]:
    """The image's own entrypoint, which must not take the instance down with it."""
    return kept_running("the tailnet is away, only the home lane needs it", "containerboot")


def environment(
    settings: Settings, *, client_id: pulumi.Input[str] = "", audience: pulumi.Input[str] = ""
) -> dict[str, pulumi.Input[str]]:
    """Environment of the entrypoint `containerboot`.

    TS_STATE_DIR stays unset: then state is in memory and the node ephemeral. The key comes as a file, because a secret
    in an environment variable that can't be read would keep the whole instance from starting. Where the gateway joins
    by its identity, the entrypoint asks Google for a token with the `audience` and makes a key of its own with it.
    """
    found: dict[str, pulumi.Input[str]] = {
        "TS_USERSPACE": "true",
        "TS_SOCKS5_SERVER": ports.loopback(ports.SOCKS5),
        "TS_HOSTNAME": f"{settings.prefix}-gateway",
        # Nothing in the tailnet has to reach the gateway, and in userspace mode what may would reach its loopback.
        "TS_EXTRA_ARGS": f"--advertise-tags={GATEWAY} --shields-up",
        "TS_ENABLE_HEALTH_CHECK": "true",
        "TS_LOCAL_ADDR_PORT": ports.loopback(ports.TUNNEL_HEALTH),
        # Larger packets are lost on Cloud Run and big uploads hang (tailscale#9894).
        "TS_DEBUG_MTU": "1280",
        # The pilot ends the daemon when home's packets vanish: that breaks what hangs, and Caddy sends it elsewhere.
        "TS_SOCKET": SOCKET,
        # Refused by default (`shutdown access denied by policy`).
        "TS_TAILSCALED_EXTRA_ARGS": f"--syspolicy-file={POLICY_FOLDER}/{POLICY_FILE}",
    }
    if settings.tailnet.join is Join.AUTH_KEY:
        found["TS_AUTHKEY"] = f"file:{KEY_FOLDER}/{KEY_FILE}"
    else:
        # Both attributes: `preauthorized` alone would switch the default `ephemeral` off (v1.102.5).
        client = pulumi.Output.concat(client_id, "?ephemeral=true&preauthorized=true")
        found |= {"TS_CLIENT_ID": client, "TS_AUDIENCE": audience}
    return found
