"""The VM lane: an always-on machine with the same model, so that no caller waits for a cold one.

Owns: machine, weights disk, internal address and identity; spot capacity or more than one replica is a group of its own
(`group`). Does not own: which machine it is (`machines.choice`), who may reach it (`firewall`), what it does at boot
(`boot`), the network that it stands in (`network`), when a request is sent there (`gateway`).
"""

import pulumi
from pulumi_gcp import compute, serviceaccount

from components.machines.names import PD
from components.settings import Settings
from components.vm import boot, hardware, slow
from components.vm.firewall import firewall
from components.vm.group import ReplicaGroup
from components.vm.server import machine_of


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
        for told in slow.too_slow(settings):
            pulumi.log.warn(told, self)
        account = serviceaccount.Account(
            f"{name}-account",
            account_id=cloud_name,
            project=settings.project,
            display_name="pilotlight VM: no roles, it only serves",
            opts=own,
        )
        self.account = account
        firewall(f"{name}-firewall", settings, network=network, account=account.email, parent=self)
        if settings.vm_grouped:
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
        machine = machine_of(settings)
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
            # Another kind or size is another disk, made before the old one goes with its machine. A disk that the
            # provider made again under the same name would be taken from a machine that never gets the new one; one
            # that grew would have a file system that didn't.
            name=f"{cloud_name}-weights{'' if machine.disk == PD else '-hyperdisk'}-{settings.vm.disk_gib}",
            project=settings.project,
            zone=settings.zone,
            type=machine.disk,
            size=settings.vm.disk_gib,
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=False),
        )
        compute.Instance(
            f"{name}-machine",
            name=cloud_name,
            project=settings.project,
            zone=settings.zone,
            machine_type=machine.name,
            guest_accelerators=hardware.accelerators(machine),
            deletion_protection=False,
            allow_stopping_for_update=True,
            boot_disk={
                "initialize_params": {
                    "image": boot.BOOT_IMAGE,
                    "size": boot.BOOT_GIB,
                    "type": machine.disk,
                }
            },
            attached_disks=[{"source": weights.id, "device_name": boot.DEVICE}],
            network_interfaces=[{"subnetwork": subnet, "network_ip": address.address}],
            service_account={"email": account.email, "scopes": ["cloud-platform"]},
            shielded_instance_config={"enable_secure_boot": True, "enable_vtpm": True},
            scheduling=hardware.scheduling(machine, spot=False),
            metadata=boot.metadata(settings),
            opts=pulumi.ResourceOptions(
                parent=self,
                # User data is read, and a disk made ready, at boot only: without a new machine a changed setting would
                # never arrive. The old one must go first, as the address can belong to one machine at a time.
                replace_on_changes=["metadata", "attachedDisks"],
                delete_before_replace=True,
            ),
        )
        return address.address
