"""The tailnet as the gateway's container sees it: what lets it in, and where it looks for home.

Owns: reading the gateway's auth key, the trusted identity, and the address in Caddy's configuration. Does not own:
home's own key, the policy, and any packet (`programs.containerboot` stands in for the tunnel).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lab.errors import LabError
from lab.read.gateway import Gateway
from lab.read.stack import Stack

KEY: Final = "tailscale:index/tailnetKey:TailnetKey"
IDENTITY: Final = "tailscale:index/federatedIdentity:FederatedIdentity"


@dataclass(frozen=True)
class Tailnet:
    """The gateway's way in, and its way home."""

    auth_key: str | None
    trusted: Mapping[str, str] | None
    """Whom the tailnet lets in without a key: `client_id`, `issuer`, `subject`, `audience`."""
    home: str | None
    """Where the gateway looks for home, `host:port`."""


def read(stack: Stack, gateway: Gateway) -> Tailnet:
    """The tailnet; raises `LabError` where Caddy dials more than one machine in it."""
    return Tailnet(auth_key=_auth_key(stack), trusted=_trusted(stack), home=_home_address(gateway))


def _auth_key(stack: Stack) -> str | None:
    keys = [key.outputs["key"].strip() for key in stack.of_type(KEY) if key.inputs["ephemeral"]]
    return keys[0] if keys else None


def _trusted(stack: Stack) -> dict[str, str] | None:
    found = [identity.outputs for identity in stack.of_type(IDENTITY) if identity.inputs["tags"] == ["tag:gateway"]]
    if not found:
        return None
    return {"client_id": found[0]["id"], **{name: found[0][name] for name in ("issuer", "subject", "audience")}}


def _home_address(gateway: Gateway) -> str | None:
    """The tailnet address in the declared Caddy configuration: the one dialled by name, which only the tunnel knows."""
    texts = [text for container in gateway.containers for mount in container.mounts for text in mount.texts]
    dialled = [address for text in texts for address in re.findall(r'"dial": ?"([a-z][a-z0-9-]*):(\d+)"', text)]
    # Leading zeros are another spelling of the same port.
    found = {f"{host}:{int(port)}" for host, port in dialled}
    if len(found) > 1:
        raise LabError(f"Caddy dials {', '.join(sorted(found))} by name; the lab's tailnet has one machine, home")
    return found.pop() if found else None
