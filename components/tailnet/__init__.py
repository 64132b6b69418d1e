"""The tailnet: its policy, how the gateway joins, who else may.

Owns: keys and identities (`tailnet`), this stack's policy (`policy`), and the user's own policy beside it (`own_file`,
`merge`, `reach`). Does not own: the gateway's tunnel (`gateway.tunnel`), home's Tailscale (`home.bootstrap`).
"""

from components.tailnet.merge import require_mergeable
from components.tailnet.tailnet import Tailnet

__all__ = ["Tailnet", "require_mergeable"]
