"""Every port, socket and file name that two rooms share, once.

Owns: the numbers and names. Does not own: the listeners. The guard of home's ports names K3s' and Flannel's
itself, and those of services are settings.
"""

from typing import Final

# The gateway's instance. Everything but PUBLIC listens on loopback: whoever may talk to it may choose a lane.
PUBLIC: Final = 8080
"""Caddy for callers, as Cloud Run's `PORT`."""
CHECKS: Final = 9180
"""Caddy's listener that asks the lanes whether they answer."""
BURST_HOP: Final = 9181
"""Caddy's listener in front of burst."""
PILOT: Final = 9182
REFUSAL: Final = 9183
"""Caddy's listener in the place of a lane for what no lane can answer in time."""
LENGTHS: Final = 9184
"""Caddy's listener for its own callers' requests, once the length of their bodies is known."""
TURNS: Final = 9185
"""Caddy's listener for requests of clients with a limit, once they have their turn."""
LINE: Final = 9186
"""Caddy's listener in the place of a lane for those who wait for one."""
PAUSE: Final = 9187
"""Caddy's listener in the place of a lane for those who wait where nobody holds the line."""
SOCKS5: Final = 1055
"""The tunnel's proxy. It dials whatever it is asked to, so nobody outside the instance may reach it."""
TUNNEL_HEALTH: Final = 9002
GATEWAY: Final = (SOCKS5, PUBLIC, TUNNEL_HEALTH, CHECKS, BURST_HOP, PILOT, REFUSAL, LENGTHS, TURNS, LINE, PAUSE)
"""All that listens in the gateway's instance. In userspace mode the tunnel hands what may reach it to its loopback."""

# The lanes.
VM: Final = 9931
"""llama.cpp's newest default; set explicitly because the default is moving (llama.cpp#26508)."""
VLLM: Final = 8000
"""Port vLLM listens on inside its container."""
INGRESS: Final = 80
"""Home's Traefik, which the gateway dials."""
KUBERNETES: Final = 6443
KUBELET: Final = 10250
FLANNEL: Final = 8472
"""VXLAN over UDP, which carries what pods of two machines send each other."""
SSH: Final = 22

# Files in the folder in memory that the gateway's containers share.
SHARED_FOLDER: Final = "/run/pilotlight"
ADMIN_SOCKET: Final = "admin.sock"
"""Caddy's own control, for the pilot."""
ID_TOKEN: Final = "id-token"
"""Google's ID token for burst: the pilot writes it, Caddy reads it with each request."""
LINE_GATE: Final = "line"
"""There while callers wait in line for a slot: the pilot writes it, Caddy looks for it with each request."""
TAILSCALED_SOCKET: Final = "tailscaled.sock"
"""The tunnel daemon's local API, for the pilot."""


def loopback(port: int) -> str:
    """`host:port` on the instance's own loopback."""
    return f"127.0.0.1:{port}"
