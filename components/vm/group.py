"""The VM lane as a managed group behind one internal address, which the gateway sees as one VM.

Owns: template, group, autoscaler, and the internal load balancer with its address. Does not own: identity
(`machine`), who may reach them (`firewall`), what a machine does at boot (`boot`).

Spot capacity is a group even of one: Google may stop the machine, and the group makes it again as soon as there is
capacity, in whichever of its zones that is.

Every machine fetches the weights once, onto a disk of its own that is made with it and goes with it. A disk that stays
would make the group stateful, and Google doesn't autoscale stateful groups; one disk for all would have to be filled by
somebody else first. So a new machine needs minutes, and gets no request before its model answers.

What a group has once been told stays unless it is told otherwise (`Computed` in the provider), so nothing is left out
where the default will do.

The balancer hands out connections, not requests: one machine may hold two requests while another idles. What a machine
has no slot for waits in its own queue, so the gateway sends no more in all than the machines can take that always run,
and those that its pilot sees beside them (`boot.NAMED`).
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

import pulumi
from pulumi_gcp import compute

from components import ports
from components.machines.speeds import Machine
from components.settings import Settings
from components.vm import boot, hardware, server

HEALTH: Final = "/health"
"""llama.cpp: 503 while the model loads."""
FIRST_START_S: Final = 1800
"""Longest a new machine may take for image, weights and model before the group takes it for broken."""
SCALING_START_S: Final = 600
"""A machine that fetches weights is busy without serving: that load tells the autoscaler nothing."""
BUSY: Final = 0.6
"""Share of the server's threads above which machines are added: one that always writes answers uses all of them."""
SURGE: Final = 3
"""Machines a rolling update adds; Google wants one for each of the group's zones, and chooses three itself."""


def busy_share(machine: Machine) -> float:
    """Share of the CPU for the autoscaler. It counts vCPUs, and the server's threads keep no more than theirs busy.

    That is half where two vCPUs are one core; with a card it is one, for a thread that waits for the card spins.
    """
    return round(BUSY * server.threads(machine) / machine.vcpus, 2)


class ReplicaGroup(pulumi.ComponentResource):
    """`address` is the balancer's internal IP, another than the single VM's: that one is in use while they change."""

    address: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        network: pulumi.Input[str],
        subnet: pulumi.Input[str],
        account: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pilotlight:gcp:ReplicaGroup", name, None, opts)
        self._name, self._settings = name, settings
        self._machine = server.machine_of(settings)
        self._cloud_name = f"{settings.prefix}-vm"
        # A group's zones are fixed when it is made: other zones are another group, which needs a name of its own.
        letters = "".join(zone[-1] for zone in sorted(settings.vm_zones))
        self._group_name = f"{self._cloud_name}-{letters}" if letters else self._cloud_name
        self._own = pulumi.ResourceOptions(parent=self)
        address = compute.Address(
            f"{name}-address",
            name=f"{self._cloud_name}-group",
            project=settings.project,
            region=settings.region,
            subnetwork=subnet,
            address_type="INTERNAL",
            opts=self._own,
        )
        group = self._group(self._template(subnet, account))
        if settings.vm.most_replicas > settings.vm.replicas:
            self._autoscaler(group)
        self._balancer(group, address, network, subnet)
        self.address = address.address
        self.register_outputs({"address": self.address})

    def _template(self, subnet: pulumi.Input[str], account: pulumi.Input[str]) -> compute.InstanceTemplate:
        settings = self._settings
        machine = self._machine
        scheduling = hardware.scheduling(machine, spot=settings.vm_spot)
        accelerators = hardware.accelerators(machine)
        metadata = boot.metadata(settings)
        disks: Sequence[compute.InstanceTemplateDiskArgsDict] = [
            {
                "boot": True,
                "auto_delete": True,
                "source_image": boot.BOOT_IMAGE,
                "disk_size_gb": boot.BOOT_GIB,
                "disk_type": machine.disk,
            },
            {
                "boot": False,
                "auto_delete": True,
                "device_name": boot.DEVICE,
                "disk_size_gb": settings.vm.disk_gib,
                "disk_type": machine.disk,
            },
        ]
        # A template never changes: another content is another template, and the old one goes when the group left it.
        content = json.dumps([machine.name, accelerators, disks, scheduling, metadata])
        return compute.InstanceTemplate(
            f"{self._name}-template",
            name=f"{self._cloud_name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}",
            project=settings.project,
            machine_type=machine.name,
            guest_accelerators=accelerators,
            disks=disks,
            network_interfaces=[{"subnetwork": subnet}],
            service_account={"email": account, "scopes": ["cloud-platform"]},
            shielded_instance_config={"enable_secure_boot": True, "enable_vtpm": True},
            scheduling=scheduling,
            metadata=metadata,
            opts=self._own,
        )

    def _group(self, template: compute.InstanceTemplate) -> compute.RegionInstanceGroupManager:
        settings, zones = self._settings, sorted(self._settings.vm_zones)
        # Slower to judge than the balancer's check: that one only sends requests elsewhere, this one ends a machine.
        healing = self._health_check("healing", interval_s=30, failures=10)
        scaled = self._settings.vm.most_replicas > settings.vm.replicas
        return compute.RegionInstanceGroupManager(
            f"{self._name}-manager",
            name=self._group_name,
            project=settings.project,
            region=settings.region,
            base_instance_name=self._cloud_name,
            versions=[{"name": "current", "instance_template": template.self_link_unique}],
            # Without a size it is the autoscaler's.
            target_size=None if scaled else settings.vm.replicas,
            distribution_policy_zones=zones or None,
            # Wherever there is capacity. Google autoscales groups of an even distribution only (and BALANCED, as a
            # preview), and wants no proactive redistribution where a zone may lack the machine.
            distribution_policy_target_shape="EVEN" if scaled else "ANY",
            auto_healing_policies={"health_check": healing.id, "initial_delay_sec": FIRST_START_S},
            update_policy=self._update(len(zones) or SURGE, scaled=scaled),
            instance_lifecycle_policy={
                # From the group's template and not from the machine's own, which goes while machines are still rolled.
                "force_update_on_repair": "YES",
                # Where it was made it may wait for capacity.
                "on_repair": {"allow_changing_zone": "YES" if not scaled and len(zones) != 1 else "NO"},
            },
            wait_for_instances=False,
            # One of other zones stands beside it until the balancer has moved.
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=False),
        )

    def _update(self, zones: int, *, scaled: bool) -> compute.RegionInstanceGroupManagerUpdatePolicyArgsDict:
        """How machines are replaced. Google takes no fixed number below that of the group's zones, but 0."""
        # New machines answer before old ones go. But quota is often for one card, and a second one would be waited for
        # without an end: there the old machine goes first.
        more, fewer = (0, zones) if self._machine.gpu else (zones, 0)
        policy: compute.RegionInstanceGroupManagerUpdatePolicyArgsDict = {
            "type": "PROACTIVE",
            "minimal_action": "REPLACE",
            "max_surge_fixed": more,
            "max_unavailable_fixed": fewer,
            "instance_redistribution_type": "PROACTIVE" if scaled else "NONE",
        }
        return policy

    def _autoscaler(self, group: compute.RegionInstanceGroupManager) -> None:
        vm = self._settings.vm
        compute.RegionAutoscaler(
            f"{self._name}-autoscaler",
            # Each group has one of its own.
            name=self._group_name,
            project=self._settings.project,
            region=self._settings.region,
            target=group.id,
            autoscaling_policy={
                "mode": "ON",
                "min_replicas": vm.replicas,
                "max_replicas": vm.most_replicas,
                "cooldown_period": SCALING_START_S,
                "cpu_utilization": {"target": busy_share(self._machine)},
            },
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=False),
        )

    def _balancer(
        self,
        group: compute.RegionInstanceGroupManager,
        address: compute.Address,
        network: pulumi.Input[str],
        subnet: pulumi.Input[str],
    ) -> None:
        settings = self._settings
        check = self._health_check("serving", interval_s=5, failures=2)
        service = compute.RegionBackendService(
            f"{self._name}-backend",
            name=self._cloud_name,
            project=settings.project,
            region=settings.region,
            protocol="TCP",
            load_balancing_scheme="INTERNAL",
            health_checks=check.id,
            backends=[{"group": group.instance_group, "balancing_mode": "CONNECTION"}],
            session_affinity="NONE",
            # A machine that goes finishes what it began.
            connection_draining_timeout_sec=settings.gateway.timeout_s,
            opts=self._own,
        )
        compute.ForwardingRule(
            f"{self._name}-rule",
            name=self._cloud_name,
            project=settings.project,
            region=settings.region,
            load_balancing_scheme="INTERNAL",
            ip_protocol="TCP",
            ip_address=address.address,
            ports=[str(ports.VM)],
            backend_service=service.id,
            network=network,
            subnetwork=subnet,
            opts=self._own,
        )

    def _health_check(self, purpose: str, *, interval_s: int, failures: int) -> compute.RegionHealthCheck:
        return compute.RegionHealthCheck(
            f"{self._name}-{purpose}",
            name=f"{self._cloud_name}-{purpose}",
            project=self._settings.project,
            region=self._settings.region,
            check_interval_sec=interval_s,
            timeout_sec=min(interval_s, 5),
            healthy_threshold=1,
            unhealthy_threshold=failures,
            http_health_check={"port": ports.VM, "request_path": HEALTH},
            opts=self._own,
        )
