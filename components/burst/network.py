"""The burst lane's way to its weights: a VPC of its own that leads to Google's APIs and nowhere else.

Owns: the network and its subnet. Does not own: the service's interface in it (`service`), how the bucket is mounted
(`container`).

Cloud Run's own way out brings 55 to 110 MB/s from a bucket, Direct VPC egress with Private Google Access about ten
times that (docs/decisions/15-burst-cold-start.md). It is not the network of gateway and VM: the VM's firewall admits a
whole subnet there.
"""

from typing import Final

import pulumi
from pulumi_gcp import compute

from components.settings import Settings

RANGE: Final = "10.80.2.0/26"
"""Direct VPC egress wants a /26 or larger and takes about two addresses per instance (facts: Cloud Run, Direct VPC)."""


class BurstNetwork(pulumi.ComponentResource):
    """Nothing else stands in it, and no firewall rule admits anything."""

    id: pulumi.Output[str]
    subnet: pulumi.Output[str]

    def __init__(self, name: str, settings: Settings, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pilotlight:gcp:BurstNetwork", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        cloud_name = f"{settings.prefix}-burst"
        vpc = compute.Network(
            f"{name}-vpc", name=cloud_name, project=settings.project, auto_create_subnetworks=False, opts=own
        )
        subnet = compute.Subnetwork(
            f"{name}-subnet",
            name=cloud_name,
            project=settings.project,
            region=settings.region,
            network=vpc.id,
            ip_cidr_range=RANGE,
            # Without it, and without NAT, the bucket could not be reached.
            private_ip_google_access=True,
            opts=own,
        )
        self.id, self.subnet = vpc.id, subnet.id
        self.register_outputs({"id": self.id, "subnet": self.subnet})
