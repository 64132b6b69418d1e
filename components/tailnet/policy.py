"""The tailnet's policy, as data from one pure function.

Owns: who may reach what, who owns the tags, and the tests that Tailscale runs before it accepts an update. Does not
own: the user's own policy file (`merge`), registering the policy (`tailnet`).
"""

from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from components import ports
from components.settings import Settings

GATEWAY: Final = "tag:gateway"
HOME: Final = "tag:home"
CI: Final = "tag:ci"

Policy = dict[str, Any]

_PRIVATE6: Final = (
    *map(str, sorted(IPv6Network("fd00::/8").address_exclude(IPv6Network("fd7a:115c::/32")))),
    # Networks behind "4via6" routers: https://tailscale.com/docs/features/subnet-routers/4via6-subnets
    "fd7a:115c:a1e0:b1a::/64",
)
_PRIVATE: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", *_PRIVATE6)
_ANYWHERE: Final = (
    *map(str, sorted(IPv4Network("0.0.0.0/0").address_exclude(IPv4Network("100.64.0.0/10")))),
    "2000::/3",
    *_PRIVATE6,
)
"""Every network but the tailnet's own addresses (100.64.0.0/10, fd7a:115c:a1e0::/48), which this stack's have, too."""
_CONTROL: Final = (f"{HOME}:{ports.KUBERNETES}", f"{HOME}:{ports.KUBELET}")
_PODS: Final = (f"{HOME}:{ports.FLANNEL}",)
_OWN_DOORS: Final = (f"{HOME}:{ports.SSH}", f"{HOME}:{ports.INGRESS}")
"""What one machine at home doesn't need of another."""


def policy(settings: Settings) -> Policy:
    """The policy of a tailnet that has no other: all that Tailscale's default grants, except towards this stack's tags.

    A policy replaces the whole file, the default's `*` -> `*` too. Rules can't deny, so the rest is named. It is whole:
    nobody can carry another tag, since the default has no `tagOwners`. Nobody reaches the gateway, its owners neither.
    """
    found = share(settings) | _kept()
    for row in found["tests"]:
        if row["src"] in settings.tailnet.owners:
            row["deny"] = _gateway_ports()
    return found


def _kept() -> Policy:
    """What people's machines, shared ones and networks behind subnet routers may do by Tailscale's default.

    Source: the default policy file as Tailscale's console shows it, September 2026. A network is a source by its
    private addresses only: a public one as a source would let in what comes back from an exit node.
    """
    people = "autogroup:member"
    return {
        "grants": [
            {
                "src": [people, "autogroup:shared", *_PRIVATE],
                "dst": [people, "autogroup:internet", *_ANYWHERE],
                "ip": ["*"],
            }
        ],
        "ssh": [
            {"action": "check", "src": [people], "dst": ["autogroup:self"], "users": ["autogroup:nonroot", "root"]}
        ],
        "nodeAttrs": [{"target": [people], "attr": ["funnel"]}],
    }


def share(settings: Settings) -> Policy:
    """What this stack needs of any policy; nothing here takes a right away that another rule gives.

    No `autoApprovers`: a machine at home is no way into its network. Machines at home reach each other only where there
    are several.
    """
    owners = list(settings.tailnet.owners)
    several = settings.home.nodes > 1
    own_access = [f"{HOME}:{port}" for port in (ports.SSH, ports.INGRESS, ports.KUBERNETES)]
    return {
        "tagOwners": {tag: list(owners) for tag in (GATEWAY, HOME, CI)},
        "acls": [
            {"action": "accept", "src": [GATEWAY], "dst": [f"{HOME}:{ports.INGRESS}"]},
            {"action": "accept", "src": [CI], "dst": [f"{HOME}:{ports.KUBERNETES}"]},
            {"action": "accept", "src": owners, "dst": own_access},
            *(_between_machines() if several else ()),
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
            {"src": HOME, "deny": [f"{CI}:{ports.SSH}", *_gateway_ports(), *(_OWN_DOORS if several else ())]},
            *(_between_machines_tested() if several else ()),
            # Tailscale's tests name a user or a tag, never an autogroup: owners given by name are tested, too.
            *({"src": owner, "accept": own_access} for owner in owners if "@" in owner),
        ],
    }


def _between_machines() -> list[dict[str, Any]]:
    """What K3s' server and its agents ask of each other (docs.k3s.io/installation/requirements, inbound rules)."""
    return [
        {"action": "accept", "proto": "tcp", "src": [HOME], "dst": list(_CONTROL)},
        {"action": "accept", "proto": "udp", "src": [HOME], "dst": list(_PODS)},
    ]


def _between_machines_tested() -> list[dict[str, Any]]:
    return [
        {"src": HOME, "proto": "tcp", "accept": list(_CONTROL), "deny": list(_PODS)},
        {"src": HOME, "proto": "udp", "accept": list(_PODS), "deny": list(_CONTROL)},
    ]


def _gateway_ports() -> list[str]:
    return [f"{GATEWAY}:{port}" for port in ports.GATEWAY]
