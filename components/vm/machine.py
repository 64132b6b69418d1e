"""The VM lane: an always-on machine with the same model, so that no caller waits for a cold one.

Owns: machine, weights disk, internal address and identity; with more than one replica the machines are a group of their
own (`group`). Does not own: who may reach it (`firewall`), what it does at boot (`boot`), the network that it stands in
(`network`), when a request is sent there (`gateway`).
"""

import pulumi
from pulumi_gcp import compute, serviceaccount

from components.settings import Settings
from components.settings.vm import VmSettings
from components.vm import boot
from components.vm.firewall import firewall
from components.vm.group import ReplicaGroup


class Vm(pulumi.ComponentResource):
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
        super().__init__("pilotlight:gcp:Vm", name, None, opts)
        self._name, self._settings = name, settings
        self._cloud_name = cloud_name = f"{settings.prefix}-vm"
        own = pulumi.ResourceOptions(parent=self)
        account = serviceaccount.Account(
            f"{name}-account",
            account_id=cloud_name,
            project=settings.project,
            display_name="pilotlight VM: no roles, it only serves",
            opts=own,
        )
        firewall(f"{name}-firewall", settings, network=network, account=account.email, parent=self)
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
