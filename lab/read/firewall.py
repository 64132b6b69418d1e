"""Who reaches a machine: the declared firewall's verdict.

Owns: which rules admit whom. Does not own: packets, which nothing here filters.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any, Final, cast

from lab.errors import LabError
from lab.read.cloud_run import SERVICE
from lab.read.stack import Resource, Stack

FIREWALL: Final = "gcp:compute/firewall:Firewall"
SUBNETWORK: Final = "gcp:compute/subnetwork:Subnetwork"
HEALTH_CHECKS: Final = ("35.191.0.0/16", "130.211.0.0/22")
"""Where Google's health checks come from (cloud.google.com/load-balancing/docs/health-checks)."""


def require_reachable(stack: Stack, machine: Resource, port: int, *, checked: bool) -> None:
    """Raises unless rules let the gateway's own subnet reach the machine's port, and Google's checks if it is checked.

    `machine` is an instance or a template of instances.
    """
    subnets = {subnet.outputs["id"]: subnet.inputs for subnet in stack.of_type(SUBNETWORK)}
    access = [service.inputs["template"].get("vpcAccess") for service in stack.of_type(SERVICE)]
    used = [subnets.get(one["networkInterfaces"][0]["subnetwork"]) for one in access if one]
    network = subnets[machine.inputs["networkInterfaces"][0]["subnetwork"]]["network"]
    ranges = [subnet["ipCidrRange"] for subnet in used if subnet and subnet["network"] == network]
    if not ranges:
        raise LabError(f"{machine.name}: no Cloud Run service has an interface in the VPC, so nobody can reach it")
    callers = {"the gateway's subnet": ranges, **({"Google's health checks": HEALTH_CHECKS} if checked else {})}
    for who, sources in callers.items():
        if not any(_admits(rule.inputs, machine.inputs, network, port, sources) for rule in stack.of_type(FIREWALL)):
            raise LabError(f"{machine.name}: no firewall rule lets {who} reach its port {port}")


def _admits(rule: dict[str, Any], machine: dict[str, Any], network: str, port: int, sources: Sequence[str]) -> bool:
    admitted = [ipaddress.ip_network(source) for source in rule.get("sourceRanges", ())]
    inner = [ipaddress.ip_network(source) for source in sources]
    return (
        rule["network"] == network
        and rule.get("direction", "INGRESS") == "INGRESS"
        and machine["serviceAccount"]["email"] in rule.get("targetServiceAccounts", ())
        and any(_allows(allow, port) for allow in rule.get("allows", ()))
        and all(any(cast(Any, one).subnet_of(outer) for outer in admitted) for one in inner)
    )


def _allows(allow: dict[str, Any], port: int) -> bool:
    """Whether one `allows` entry admits TCP to `port`; without ports it admits all."""
    if allow["protocol"] not in ("tcp", "all"):
        return False
    bounds = [entry.split("-") for entry in allow.get("ports") or ["0-65535"]]
    return any(int(ends[0]) <= port <= int(ends[-1]) for ends in bounds)
