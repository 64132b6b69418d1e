"""The VPCs between the lanes, which stand for every choice of `lanes`.

Owns: two networks with their subnets, and Cloud NAT, through which a VM without an external address fetches its image
and weights. Does not own: who may reach the VM (`vm.firewall`), Cloud Run's interfaces in the subnets (`gateway`,
`burst`).

Cloud Run holds addresses in a subnet for one to two hours after its service has left it, and Google deletes no subnet
meanwhile (docs/decisions/23-the-network-stands.md). Left out of `lanes`, a lane would take its subnet along, and `up`
would fail. Networks and subnets cost nothing; NAT does, and goes with the VM.

Burst's subnet is in a network of its own: the VM's firewall admits a whole subnet, and burst needs no way there.
"""

from typing import Final

import pulumi
from pulumi_gcp import compute

from components.settings import Lane, Settings

GATEWAY_RANGE: Final = "10.80.0.0/26"
"""Direct VPC egress wants a /26 or larger and takes about two addresses per instance (facts: Cloud Run, Direct VPC)."""
VM_RANGE: Final = "10.80.1.0/28"
BURST_RANGE: Final = "10.80.2.0/26"
"""As the gateway's."""


class Network(pulumi.ComponentResource):
    """VPCs of their own: nothing else in the project can reach the model, and nothing here reaches it."""

    id: pulumi.Output[str]
    """Of the network of gateway and VM."""
    gateway_subnet: pulumi.Output[str]
    vm_subnet: pulumi.Output[str]
    burst_id: pulumi.Output[str]
    """Of burst's network, which leads to Google's APIs and nowhere else. Cloud Run's own way out brings 55 to 110 MB/s
    from a bucket, this one about ten times that (docs/decisions/15-burst-cold-start.md)."""
    burst_subnet: pulumi.Output[str]

    def __init__(self, name: str, settings: Settings, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pilotlight:gcp:Network", name, None, opts)
        self._name, self._settings = name, settings
        vpc = self._vpc("vpc", settings.prefix)
        gateway_subnet = self._subnet("gateway-subnet", f"{settings.prefix}-gateway", vpc, GATEWAY_RANGE)
        vm_subnet = self._subnet("vm-subnet", f"{settings.prefix}-vm", vpc, VM_RANGE)
        burst_vpc = self._vpc("burst-vpc", f"{settings.prefix}-burst", _once_burst_s("network", "vpc"))
        burst_subnet = self._subnet(
            "burst-subnet", f"{settings.prefix}-burst", burst_vpc, BURST_RANGE, _once_burst_s("subnetwork", "subnet")
        )
        if Lane.VM in settings.lanes:
            # Made after all subnets, it is deleted before them: `destroy` may end at one that is still held.
            self._nat(vpc, vm_subnet, after=[gateway_subnet, burst_subnet])
        self.id, self.burst_id = vpc.id, burst_vpc.id
        self.gateway_subnet, self.vm_subnet, self.burst_subnet = gateway_subnet.id, vm_subnet.id, burst_subnet.id
        self.register_outputs({"id": self.id, "gateway_subnet": self.gateway_subnet, "vm_subnet": self.vm_subnet})

    def _vpc(self, name: str, cloud_name: str, *aliases: str) -> compute.Network:
        return compute.Network(
            f"{self._name}-{name}",
            name=cloud_name,
            project=self._settings.project,
            auto_create_subnetworks=False,
            opts=pulumi.ResourceOptions(parent=self, aliases=aliases),
        )

    def _subnet(
        self, name: str, cloud_name: str, vpc: compute.Network, addresses: str, *aliases: str
    ) -> compute.Subnetwork:
        return compute.Subnetwork(
            f"{self._name}-{name}",
            name=cloud_name,
            project=self._settings.project,
            region=self._settings.region,
            network=vpc.id,
            ip_cidr_range=addresses,
            # Without it, and without NAT, burst's bucket could not be reached.
            private_ip_google_access=True,
            opts=pulumi.ResourceOptions(parent=self, aliases=aliases),
        )

    def _nat(self, vpc: compute.Network, subnet: compute.Subnetwork, *, after: list[pulumi.Resource]) -> None:
        settings = self._settings
        router = compute.Router(
            f"{self._name}-router",
            name=settings.prefix,
            project=settings.project,
            region=settings.region,
            network=vpc.id,
            opts=pulumi.ResourceOptions(parent=self, depends_on=after),
        )
        compute.RouterNat(
            f"{self._name}-nat",
            name=settings.prefix,
            project=settings.project,
            region=settings.region,
            router=router.name,
            nat_ip_allocate_option="AUTO_ONLY",
            source_subnetwork_ip_ranges_to_nat="LIST_OF_SUBNETWORKS",
            subnetworks=[{"name": subnet.id, "source_ip_ranges_to_nats": ["ALL_IP_RANGES"]}],
            opts=pulumi.ResourceOptions(parent=self),
        )


def _once_burst_s(kind: str, name: str) -> str:
    """URN of what belonged to the lane burst once: a stack of then keeps it, for Cloud Run may hold it."""
    stack = f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}"
    lane = f"{stack}::pilotlight:gcp:Burst$pilotlight:gcp:BurstNetwork"
    return f"{lane}$gcp:compute/{kind}:{kind.capitalize()}::burst-network-{name}"
