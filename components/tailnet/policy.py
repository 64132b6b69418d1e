"""The tailnet's policy, as data from one pure function.

Owns: who may reach what, who owns the tags, and the tests that Tailscale runs before it accepts an update. Does not
own: the user's own policy file (`merge`), registering the policy (`tailnet`).
"""

from typing import Any, Final

from components import ports
from components.settings import Settings

GATEWAY: Final = "tag:gateway"
HOME: Final = "tag:home"
CI: Final = "tag:ci"

Policy = dict[str, Any]


def policy(settings: Settings) -> Policy:
    """The policy of a tailnet that has no other.

    A policy replaces the whole file, on an untouched tailnet the allow-all default too. So it also gives every member
    their own devices, or its owner would be locked out. Nobody reaches the gateway then, its owners neither.
    """
    found = share(settings)
    found["acls"] += [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]}]
    found["ssh"] = [
        {
            "action": "check",
            "src": ["autogroup:member"],
            "dst": ["autogroup:self"],
            "users": ["autogroup:nonroot", "root"],
        }
    ]
    for row in found["tests"]:
        if row["src"] in settings.tailnet.owners:
            row["deny"] = _gateway_ports()
    return found


def share(settings: Settings) -> Policy:
    """What this stack needs of any policy; nothing here takes a right away that another rule gives.

    No `autoApprovers`: home is one machine and no way into its network.
    """
    owners = list(settings.tailnet.owners)
    own_access = [f"{HOME}:{port}" for port in (ports.SSH, ports.INGRESS, ports.KUBERNETES)]
    return {
        "tagOwners": {tag: list(owners) for tag in (GATEWAY, HOME, CI)},
        "acls": [
            {"action": "accept", "src": [GATEWAY], "dst": [f"{HOME}:{ports.INGRESS}"]},
            {"action": "accept", "src": [CI], "dst": [f"{HOME}:{ports.KUBERNETES}"]},
            {"action": "accept", "src": owners, "dst": own_access},
        ],
        "tests": [
            {
                "src": GATEWAY,
                "accept": [f"{HOME}:{ports.INGRESS}"],
                "deny": [f"{HOME}:{ports.SSH}", f"{HOME}:{ports.KUBERNETES}", f"{CI}:{ports.SSH}", *_gateway_ports()],
            },
            {
                "src": CI,
                "accept": [f"{HOME}:{ports.KUBERNETES}"],
                "deny": [f"{HOME}:{ports.SSH}", f"{HOME}:{ports.INGRESS}", *_gateway_ports()],
            },
            {"src": HOME, "deny": [f"{CI}:{ports.SSH}", *_gateway_ports()]},
            # Tailscale's tests name a user or a tag, never an autogroup: owners given by name are tested, too.
            *({"src": owner, "accept": own_access} for owner in owners if "@" in owner),
        ],
    }


def _gateway_ports() -> list[str]:
    return [f"{GATEWAY}:{port}" for port in ports.GATEWAY]
