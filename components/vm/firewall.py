"""Who reaches the VM lane: the gateway's subnet, on the model's port, and nobody else.

Owns: the one firewall rule. Does not own: the network, which denies what no rule allows (`network`).
"""

from typing import Final

import pulumi
from pulumi_gcp import compute

from components import ports
from components.network import GATEWAY_RANGE
from components.settings import Settings

HEALTH_CHECK_RANGES: Final = ("35.191.0.0/16", "130.211.0.0/22")
"""Where Google's health checks of a group come from (cloud.google.com/load-balancing/docs/health-checks)."""


def firewall(
    name: str, settings: Settings, *, network: pulumi.Input[str], account: pulumi.Input[str], parent: pulumi.Resource
) -> compute.Firewall:
    """Admits the gateway, and a group's health checks, to the machines that run as `account` (an e-mail address)."""
    return compute.Firewall(
        name,
        name=f"{settings.prefix}-vm",
        project=settings.project,
        network=network,
        direction="INGRESS",
        source_ranges=[GATEWAY_RANGE, *(HEALTH_CHECK_RANGES if settings.vm_grouped else ())],
        target_service_accounts=[account],
        allows=[{"protocol": "tcp", "ports": [str(ports.VM)]}],
        opts=pulumi.ResourceOptions(parent=parent),
    )
