"""The VM lane: an always-on small machine with the same model, so that no caller waits for a cold one.

Owns: machine, weights disk, internal address, its identity, and the one firewall rule. Does not own: the network it
stands in (`network`), or when a request is sent to it (`gateway`).
"""

import pulumi
from pulumi_gcp import compute, serviceaccount

from components.fallback_vm import cloud_init
from components.network import GATEWAY_RANGE
from components.settings import Settings, VmSettings


class FallbackVm(pulumi.ComponentResource):
    """One Container-Optimized OS machine without an external address. `address` is its internal IP."""

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
        own = pulumi.ResourceOptions(parent=self)
        cloud_name = f"{settings.prefix}-vm"
        account = serviceaccount.Account(
            f"{name}-account",
            account_id=cloud_name,
            project=settings.project,
            display_name="pilotlight fallback VM: no roles, it only serves",
            opts=own,
        )
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
        # The gateway's subnet and nobody else: a VPC of its own denies what no rule allows.
        compute.Firewall(
            f"{name}-firewall",
            name=cloud_name,
            project=settings.project,
            network=network,
            direction="INGRESS",
            source_ranges=[GATEWAY_RANGE],
            target_service_accounts=[account.email],
            allows=[{"protocol": "tcp", "ports": [str(cloud_init.PORT)]}],
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
            boot_disk={"initialize_params": {"image": "cos-cloud/cos-stable", "size": 20, "type": "pd-balanced"}},
            attached_disks=[{"source": weights.id, "device_name": cloud_init.DEVICE}],
            network_interfaces=[{"subnetwork": subnet, "network_ip": address.address}],
            service_account={"email": account.email, "scopes": ["cloud-platform"]},
            shielded_instance_config={"enable_secure_boot": True, "enable_vtpm": True},
            scheduling=_scheduling(settings.vm),
            metadata={
                "user-data": cloud_init.user_data(settings),
                # COS patches itself: it downloads the new release beside the running one and boots it next time.
                "cos-update-strategy": "update_enabled",
                "block-project-ssh-keys": "true",
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                # User data is read at boot only: without a new machine a changed setting would never arrive. The old
                # one must go first, as the address and the weights disk can belong to one machine at a time.
                replace_on_changes=["metadata"],
                delete_before_replace=True,
            ),
        )
        self.address = address.address
        self.register_outputs({"address": self.address})


def _scheduling(vm: VmSettings) -> compute.InstanceSchedulingArgsDict:
    if vm.spot:
        return {
            "provisioning_model": "SPOT",
            "preemptible": True,
            "automatic_restart": False,
            "instance_termination_action": "STOP",
        }
    return {"provisioning_model": "STANDARD", "automatic_restart": True, "on_host_maintenance": "MIGRATE"}
