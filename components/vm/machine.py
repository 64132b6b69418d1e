"""The VM lane: an always-on small machine with the same model, so that no caller waits for a cold one.

Owns: machine, weights disk, internal address, its identity, and the one firewall rule; with more than one replica the
machines are a group of their own (`group`). Does not own: the network they stand in (`network`), or when a request is
sent there (`gateway`).
"""

import pulumi
from pulumi_gcp import compute, serviceaccount

from components import ports
from components.network import GATEWAY_RANGE
from components.settings import Settings
from components.settings.vm import VmSettings
from components.vm import boot
from components.vm.group import HEALTH_CHECK_RANGES, ReplicaGroup


class FallbackVm(pulumi.ComponentResource):
    """Container-Optimized OS without an external address: one machine, or a group. `address` is its internal IP."""

    address: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        network: pulumi.Input[str],
        subnet: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pilotlight:gcp:FallbackVm", name, None, opts)
        self._name, self._settings = name, settings
        self._cloud_name = cloud_name = f"{settings.prefix}-vm"
        own = pulumi.ResourceOptions(parent=self)
        account = serviceaccount.Account(
            f"{name}-account",
            account_id=cloud_name,
            project=settings.project,
            display_name="pilotlight fallback VM: no roles, it only serves",
            opts=own,
        )
        # The gateway's subnet, a group's health checks, nobody else: a VPC of its own denies what no rule allows.
        compute.Firewall(
            f"{name}-firewall",
            name=cloud_name,
            project=settings.project,
            network=network,
            direction="INGRESS",
            source_ranges=[GATEWAY_RANGE, *(HEALTH_CHECK_RANGES if settings.vm.grouped else ())],
            target_service_accounts=[account.email],
            allows=[{"protocol": "tcp", "ports": [str(ports.VM)]}],
            opts=own,
        )
        if settings.vm.grouped:
            group = ReplicaGroup(
                f"{name}-group", settings, network=network, subnet=subnet, account=account.email, opts=own
            )
            self.address = group.address
        else:
            self.address = self._machine(account, subnet)
        self.register_outputs({"address": self.address})

    def _machine(self, account: serviceaccount.Account, subnet: pulumi.Input[str]) -> pulumi.Output[str]:
        """The one plain machine; returns its address."""
        name, settings, cloud_name = self._name, self._settings, self._cloud_name
        own = pulumi.ResourceOptions(parent=self)
        address = compute.Address(
            f"{name}-address",
            name=cloud_name,
            project=settings.project,
            region=settings.region,
            subnetwork=subnet,
            address_type="INTERNAL",
            opts=own,
        )
        weights = compute.Disk(
            f"{name}-weights",
            name=f"{cloud_name}-weights",
            project=settings.project,
            zone=settings.zone,
            type="pd-balanced",
            size=settings.vm.disk_gib,
            opts=own,
        )
        compute.Instance(
            f"{name}-machine",
            name=cloud_name,
            project=settings.project,
            zone=settings.zone,
            machine_type=settings.vm.machine_type,
            deletion_protection=False,
            allow_stopping_for_update=True,
            boot_disk={
                "initialize_params": {
                    "image": boot.BOOT_IMAGE,
                    "size": boot.BOOT_GIB,
                    "type": "pd-balanced",
                }
            },
            attached_disks=[{"source": weights.id, "device_name": boot.DEVICE}],
            network_interfaces=[{"subnetwork": subnet, "network_ip": address.address}],
            service_account={"email": account.email, "scopes": ["cloud-platform"]},
            shielded_instance_config={"enable_secure_boot": True, "enable_vtpm": True},
            scheduling=_scheduling(settings.vm),
            metadata=boot.metadata(settings),
            opts=pulumi.ResourceOptions(
                parent=self,
                # User data is read at boot only: without a new machine a changed setting would never arrive. The old
                # one must go first, as the address and the weights disk can belong to one machine at a time.
                replace_on_changes=["metadata"],
                delete_before_replace=True,
            ),
        )
        return address.address


def _scheduling(vm: VmSettings) -> compute.InstanceSchedulingArgsDict:
    if vm.spot:
        return {
            "provisioning_model": "SPOT",
            "preemptible": True,
            "automatic_restart": False,
            "instance_termination_action": "STOP",
        }
    return {"provisioning_model": "STANDARD", "automatic_restart": True, "on_host_maintenance": "MIGRATE"}
