"""The VPC between the gateway and the VM lane.

Owns: the network, its two subnets, and Cloud NAT, through which a VM without an external address fetches its image and
weights. Does not own: who may reach the VM (`vm.firewall`).
"""

from typing import Final

import pulumi
from pulumi_gcp import compute

from components.settings import Settings

GATEWAY_RANGE: Final = "10.80.0.0/26"
"""Direct VPC egress wants a /26 or larger and takes about two addresses per instance (facts: Cloud Run, Direct VPC)."""
VM_RANGE: Final = "10.80.1.0/28"


class Network(pulumi.ComponentResource):
    """A VPC of its own: nothing else in the project can reach the model, and nothing here reaches it."""

    id: pulumi.Output[str]
    gateway_subnet: pulumi.Output[str]
    vm_subnet: pulumi.Output[str]

    def __init__(self, name: str, settings: Settings, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pilotlight:gcp:Network", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        vpc = compute.Network(
            f"{name}-vpc",
            name=settings.prefix,
            project=settings.project,
            auto_create_subnetworks=False,
            opts=own,
        )
        gateway_subnet = compute.Subnetwork(
            f"{name}-gateway-subnet",
            name=f"{settings.prefix}-gateway",
            project=settings.project,
            region=settings.region,
            network=vpc.id,
            ip_cidr_range=GATEWAY_RANGE,
            private_ip_google_access=True,
            opts=own,
        )
        vm_subnet = compute.Subnetwork(
            f"{name}-vm-subnet",
            name=f"{settings.prefix}-vm",
            project=settings.project,
            region=settings.region,
            network=vpc.id,
            ip_cidr_range=VM_RANGE,
            private_ip_google_access=True,
            opts=own,
        )
        router = compute.Router(
            f"{name}-router",
            name=settings.prefix,
            project=settings.project,
            region=settings.region,
            network=vpc.id,
            opts=own,
        )
        compute.RouterNat(
            f"{name}-nat",
            name=settings.prefix,
            project=settings.project,
            region=settings.region,
            router=router.name,
            nat_ip_allocate_option="AUTO_ONLY",
            source_subnetwork_ip_ranges_to_nat="LIST_OF_SUBNETWORKS",
            subnetworks=[{"name": vm_subnet.id, "source_ip_ranges_to_nats": ["ALL_IP_RANGES"]}],
            opts=own,
        )
        self.id = vpc.id
        self.gateway_subnet = gateway_subnet.id
        self.vm_subnet = vm_subnet.id
        self.register_outputs({"id": self.id, "gateway_subnet": self.gateway_subnet, "vm_subnet": self.vm_subnet})
