"""More than one VM: a group behind one internal address; and with one, nothing of all that."""

import json
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from components.machines.speeds import MACHINES
from components.network import GATEWAY_RANGE, VM_RANGE
from components.settings import Settings
from components.settings.section import SettingsError
from components.settings.vm import VM_MOST
from components.vm import boot as at_boot
from components.vm import group
from lab.read.cloud import VM_ADDRESS
from lab.read.stack import Resource, Stack
from tests.kit import unpacked

Make = Callable[..., Settings]
Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
Check = Callable[[Stack], None]
MODES = pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
ONE: dict[str, Any] = {"spot": False}
THREE: dict[str, Any] = {"spot": False, "replicas": 3, "max_replicas": 5}


@pytest.fixture(scope="module")
def three(stack_of: Render) -> Stack:
    """The whole program with three machines."""
    return stack_of(lanes=["vm"], vm=THREE)


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource


def of_the_vm(stack: Stack) -> dict[str, tuple[str, str]]:
    return {
        r.name: (r.type.rsplit(":", 1)[-1], r.parent)
        for r in stack.resources
        if r.name == "vm" or r.name.startswith("vm-")
    }


PLAIN = {
    "vm": ("Vm", "pilotlight-dev"),
    "vm-account": ("Account", "vm"),
    "vm-address": ("Address", "vm"),
    "vm-weights": ("Disk", "vm"),
    "vm-firewall": ("Firewall", "vm"),
    "vm-machine": ("Instance", "vm"),
}


@MODES
@pytest.mark.parametrize("vm", [ONE, ONE | {"replicas": 1}, {"machine_type": "t2d-standard-8"}], ids=json.dumps)
def test_one_machine_is_one_plain_machine(stack_of: Render, preview: bool, vm: dict[str, Any]) -> None:
    assert of_the_vm(stack_of(preview=preview, lanes=["vm"], vm=vm)) == PLAIN


@MODES
@pytest.mark.parametrize(
    ("vm", "scaled"),
    [
        ({}, False),
        ({"gpu": "t4", "spot": True}, False),
        (THREE, True),
        (ONE | {"replicas": 2}, False),
        (ONE | {"max_replicas": 2}, True),
    ],
    ids=str,
)
def test_spot_or_more_machines_are_a_group(stack_of: Render, preview: bool, vm: dict[str, Any], scaled: bool) -> None:
    """With an autoscaler only where there is something to scale."""
    expected = {
        "vm": ("Vm", "pilotlight-dev"),
        "vm-account": ("Account", "vm"),
        "vm-firewall": ("Firewall", "vm"),
        "vm-group": ("ReplicaGroup", "vm"),
        "vm-group-address": ("Address", "vm-group"),
        "vm-group-template": ("InstanceTemplate", "vm-group"),
        "vm-group-healing": ("RegionHealthCheck", "vm-group"),
        "vm-group-serving": ("RegionHealthCheck", "vm-group"),
        "vm-group-manager": ("RegionInstanceGroupManager", "vm-group"),
        "vm-group-backend": ("RegionBackendService", "vm-group"),
        "vm-group-rule": ("ForwardingRule", "vm-group"),
    }
    if scaled:
        expected["vm-group-autoscaler"] = ("RegionAutoscaler", "vm-group")
    assert of_the_vm(stack_of(preview=preview, lanes=["vm"], vm=vm)) == expected


def test_the_gateway_sees_one_internal_address(three: Stack) -> None:
    rule = named(three, "vm-group-rule").inputs
    assert rule["ipAddress"] == VM_ADDRESS == named(three, "vm-group-address").outputs["address"]
    assert rule["ports"] == ["9931"]
    assert f"{VM_ADDRESS}:9931" in unpacked(named(three, "gateway-caddy-config-version").inputs["secretData"])


def test_a_change_to_a_group_takes_no_name_that_is_still_in_use(stack_of: Render, three: Stack) -> None:
    """Pulumi makes the new before it deletes the old, so address and machine names must differ meanwhile."""
    one = stack_of(lanes=["vm"], vm=ONE)
    addresses = [{r.inputs["name"] for r in s.of_type("gcp:compute/address:Address")} for s in (one, three)]
    assert addresses == [{"pilotlight-dev-vm"}, {"pilotlight-dev-vm-group"}]
    assert named(one, "vm-address").urn != named(three, "vm-group-address").urn


def test_the_chain_from_the_address_to_the_machines(three: Stack) -> None:
    backend = named(three, "vm-group-backend")
    manager = named(three, "vm-group-manager")
    assert named(three, "vm-group-rule").inputs["backendService"] == backend.outputs["id"]
    assert backend.inputs["backends"] == [{"group": manager.outputs["instanceGroup"], "balancingMode": "CONNECTION"}]
    assert backend.inputs["healthChecks"] == named(three, "vm-group-serving").outputs["id"]
    assert backend.inputs["connectionDrainingTimeoutSec"] == 300
    assert manager.inputs["versions"] == [
        {"name": "current", "instanceTemplate": named(three, "vm-group-template").outputs["selfLinkUnique"]}
    ]
    assert named(three, "vm-group-autoscaler").inputs["target"] == manager.outputs["id"]
    for check in ("vm-group-serving", "vm-group-healing"):
        assert named(three, check).inputs["httpHealthCheck"] == {"port": 9931, "requestPath": "/health"}


def test_each_machine_starts_as_the_single_one_does(stack_of: Render, three: Stack) -> None:
    one = named(stack_of(lanes=["vm"], vm=ONE), "vm-machine").inputs
    template = named(three, "vm-group-template").inputs
    for key in ("machineType", "metadata", "serviceAccount", "shieldedInstanceConfig", "scheduling"):
        assert template[key] == one[key], key
    boot, weights = template["disks"]
    assert boot["sourceImage"] == one["bootDisk"]["initializeParams"]["image"]
    assert weights["deviceName"] == one["attachedDisks"][0]["deviceName"] == at_boot.DEVICE
    assert weights["diskSizeGb"] == 20


# --- safety rules, each run on the true stack and on one that breaks it -----------------------------------------------


def check_no_external_address(stack: Stack) -> None:
    for interface in named(stack, "vm-group-template").inputs["networkInterfaces"]:
        assert set(interface) == {"subnetwork"}
    assert named(stack, "vm-group-rule").inputs["loadBalancingScheme"] == "INTERNAL"
    assert named(stack, "vm-group-backend").inputs["loadBalancingScheme"] == "INTERNAL"
    assert named(stack, "vm-group-address").inputs["addressType"] == "INTERNAL"
    assert "allowGlobalAccess" not in named(stack, "vm-group-rule").inputs


def check_only_gateway_and_health_checks_get_in(stack: Stack) -> None:
    [rule] = stack.of_type("gcp:compute/firewall:Firewall")
    assert rule.inputs["sourceRanges"] == [GATEWAY_RANGE, "35.191.0.0/16", "130.211.0.0/22"]
    assert rule.inputs["allows"] == [{"protocol": "tcp", "ports": ["9931"]}]
    account = named(stack, "vm-account").outputs["email"]
    assert rule.inputs["targetServiceAccounts"] == [account]
    assert named(stack, "vm-group-template").inputs["serviceAccount"]["email"] == account


def check_the_autoscaler_alone_sets_the_size(stack: Stack) -> None:
    assert "targetSize" not in named(stack, "vm-group-manager").inputs
    policy = named(stack, "vm-group-autoscaler").inputs["autoscalingPolicy"]
    assert (policy["minReplicas"], policy["maxReplicas"], policy["mode"]) == (3, 5, "ON")
    # Google doesn't autoscale a group whose disks stay.
    assert not [key for key in named(stack, "vm-group-manager").inputs if key.startswith("stateful")]


def check_an_update_never_lowers_the_capacity(stack: Stack) -> None:
    policy = named(stack, "vm-group-manager").inputs["updatePolicy"]
    assert policy == {
        "type": "PROACTIVE",
        "minimalAction": "REPLACE",
        "maxSurgeFixed": 3,
        "maxUnavailableFixed": 0,
        "instanceRedistributionType": "PROACTIVE",
    }


def check_a_machine_has_time_to_fetch_its_weights(stack: Stack) -> None:
    manager = named(stack, "vm-group-manager").inputs
    assert manager["autoHealingPolicies"]["initialDelaySec"] >= 1800
    assert manager["autoHealingPolicies"]["healthCheck"] == named(stack, "vm-group-healing").outputs["id"]
    healing = named(stack, "vm-group-healing").inputs
    assert healing["checkIntervalSec"] * healing["unhealthyThreshold"] >= 300
    assert manager["waitForInstances"] is False


def check_disks_go_with_their_machine(stack: Stack) -> None:
    assert [disk["autoDelete"] for disk in named(stack, "vm-group-template").inputs["disks"]] == [True, True]


def check_a_repair_wants_no_template_but_the_groups(stack: Stack) -> None:
    """A machine's own goes when the group has another, while machines are still rolled."""
    assert named(stack, "vm-group-manager").inputs["instanceLifecyclePolicy"]["forceUpdateOnRepair"] == "YES"


SAFETY: list[tuple[Check, str, str, Any]] = [
    (
        check_a_repair_wants_no_template_but_the_groups,
        "vm-group-manager",
        "inputs.instanceLifecyclePolicy.forceUpdateOnRepair",
        "NO",
    ),
    (
        check_no_external_address,
        "vm-group-template",
        "inputs.networkInterfaces",
        [{"subnetwork": "s", "accessConfigs": [{}]}],
    ),
    (check_no_external_address, "vm-group-rule", "inputs.loadBalancingScheme", "EXTERNAL"),
    (check_no_external_address, "vm-group-address", "inputs.addressType", "EXTERNAL"),
    (check_no_external_address, "vm-group-rule", "inputs.allowGlobalAccess", True),
    (check_only_gateway_and_health_checks_get_in, "vm-firewall", "inputs.sourceRanges", ["0.0.0.0/0"]),
    (check_only_gateway_and_health_checks_get_in, "vm-firewall", "inputs.sourceRanges", [GATEWAY_RANGE]),
    (check_only_gateway_and_health_checks_get_in, "vm-group-template", "inputs.serviceAccount.email", "default"),
    (check_the_autoscaler_alone_sets_the_size, "vm-group-manager", "inputs.targetSize", 3),
    (check_the_autoscaler_alone_sets_the_size, "vm-group-manager", "inputs.statefulDisks", [{"deviceName": "w"}]),
    (check_the_autoscaler_alone_sets_the_size, "vm-group-autoscaler", "inputs.autoscalingPolicy.minReplicas", 1),
    (check_an_update_never_lowers_the_capacity, "vm-group-manager", "inputs.updatePolicy.maxUnavailableFixed", 1),
    (
        check_a_machine_has_time_to_fetch_its_weights,
        "vm-group-manager",
        "inputs.autoHealingPolicies.initialDelaySec",
        60,
    ),
    (check_a_machine_has_time_to_fetch_its_weights, "vm-group-manager", "inputs.waitForInstances", True),
    (check_disks_go_with_their_machine, "vm-group-template", "inputs.disks.1.autoDelete", False),
]


@pytest.mark.parametrize("check", dict.fromkeys(row[0] for row in SAFETY), ids=lambda check: check.__name__)
def test_the_group_is_safe(three: Stack, check: Check) -> None:
    check(three)


@pytest.mark.parametrize(("check", "name", "path", "value"), SAFETY)
def test_an_unsafe_group_is_seen(three: Stack, planted: Plant, check: Check, name: str, path: str, value: Any) -> None:
    broken = planted(three, name, path, value)
    with pytest.raises(AssertionError):
        check(broken)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vm", "capacity", "grouped"),
    [
        ({}, 2, True),
        (ONE, 2, False),
        (ONE | {"max_requests": 3}, 3, False),
        ({"replicas": 3}, 6, True),
        # Machines that may or may not run take nothing the gateway can count on.
        (ONE | {"replicas": 1, "max_replicas": 4}, 2, True),
        ({"replicas": 2, "max_replicas": 8, "max_requests": 4}, 8, True),
    ],
)
def test_the_gateway_counts_on_the_machines_that_always_run(
    settings_of: Make, vm: dict[str, Any], capacity: int, grouped: bool
) -> None:
    settings = settings_of(vm=vm)
    assert (settings.vm.capacity, settings.vm_grouped) == (capacity, grouped)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"vm": {"replicas": 0}}, ("vm.replicas: is refused", "always run")),
        ({"vm": {"replicas": 9}}, ("vm.replicas: is refused", "8")),
        ({"vm": {"max_replicas": 9}}, ("vm.max_replicas: is refused", "8")),
        (
            {"vm": {"replicas": 3, "max_replicas": 2}},
            ("vm.max_replicas: at least replicas (3)", "could not hold", "leave it out"),
        ),
    ],
)
def test_a_bad_value_is_refused_by_name_rule_consequence_and_fix(
    settings_of: Make, changes: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError, match=".*".join(map(re.escape, parts))) as caught:
        settings_of(**changes)
    for problem in caught.value.problems:
        assert re.fullmatch(r"[a-z][\w.]*: .+\. Consequence: .+\. Fix: .+\.", problem), problem


def test_the_largest_group_fits_its_subnet() -> None:
    """Google keeps four addresses of a subnet, the balancer has one, and an update adds machines."""
    assert ip_network(VM_RANGE).num_addresses - 4 >= VM_MOST + group.SURGE + 1


def test_another_boot_is_another_template_and_nothing_else_is(stack_of: Render, three: Stack) -> None:
    name = named(three, "vm-group-template").inputs["name"]
    assert re.fullmatch(r"pilotlight-dev-vm-[0-9a-f]{8}", name)
    same = stack_of(lanes=["vm"], vm=ONE | {"replicas": 2}, gateway={"wait_s": 100})
    assert named(same, "vm-group-template").inputs["name"] == name
    for change in (
        {"spot": True},
        {"max_requests": 3},
        {"disk_gib": 30},
        {"machine_type": "e2-highmem-4"},
        {"gpu": "t4"},
    ):
        other = stack_of(lanes=["vm"], vm=THREE | change)
        assert named(other, "vm-group-template").inputs["name"] != name, change


def test_spot_machines_may_be_stopped(stack_of: Render) -> None:
    scheduling = named(stack_of(lanes=["vm"], vm=THREE | {"spot": True}), "vm-group-template").inputs["scheduling"]
    assert scheduling == {
        "provisioningModel": "SPOT",
        "preemptible": True,
        "automaticRestart": False,
        "onHostMaintenance": "TERMINATE",
        "instanceTerminationAction": "STOP",
    }


@MODES
def test_spot_capacity_is_made_again_wherever_there_is_some(stack_of: Render, preview: bool) -> None:
    manager = named(stack_of(preview=preview, lanes=["vm"]), "vm-group-manager").inputs
    assert manager["targetSize"] == 1
    assert manager["distributionPolicyTargetShape"] == "ANY"
    # Google's condition for a shape other than EVEN.
    assert manager["updatePolicy"]["instanceRedistributionType"] == "NONE"
    # Else a machine is made again in the zone that has just run out of capacity.
    assert manager["instanceLifecyclePolicy"] == {
        "forceUpdateOnRepair": "YES",
        "onRepair": {"allowChangingZone": "YES"},
    }
    assert "distributionPolicyZones" not in manager, "which zones have a CPU machine is not known here"


def test_what_is_scaled_is_spread_evenly(three: Stack) -> None:
    """Google doesn't autoscale a group of the shape ANY."""
    manager = named(three, "vm-group-manager").inputs
    assert manager["distributionPolicyTargetShape"] == "EVEN"
    assert "targetSize" not in manager


@pytest.mark.parametrize("vm", [{}, {"zone": "us-central1-f"}, {"gpu": "t4", "spot": True}, THREE], ids=str)
def test_nothing_is_left_out_that_would_stay_as_it_was(stack_of: Render, vm: dict[str, Any]) -> None:
    """The provider takes what Google has for what is left out: a group that is scaled later would keep its shape."""
    manager = named(stack_of(lanes=["vm"], vm=vm), "vm-group-manager").inputs
    assert {"distributionPolicyTargetShape", "instanceLifecyclePolicy", "updatePolicy"} <= manager.keys()
    assert "instanceRedistributionType" in manager["updatePolicy"]
    assert manager["instanceLifecyclePolicy"]["onRepair"]["allowChangingZone"] in ("YES", "NO")


@pytest.mark.parametrize(
    ("vm", "zones", "name", "more", "fewer"),
    [
        ({"gpu": "t4", "spot": True}, "abcf", "pilotlight-dev-vm-abcf", 0, 4),
        ({"gpu": "l4", "spot": True}, "abc", "pilotlight-dev-vm-abc", 0, 3),
        ({"zone": "us-central1-f"}, "f", "pilotlight-dev-vm-f", 1, 0),
        ({}, "", "pilotlight-dev-vm", 3, 0),
    ],
    ids=str,
)
def test_a_group_stands_in_zones_that_have_the_machine(
    stack_of: Render, vm: dict[str, Any], zones: str, name: str, more: int, fewer: int
) -> None:
    """Quota is often for one card: the old machine goes first there. Fixed numbers are 0, or one a zone at least."""
    manager = named(stack_of(lanes=["vm"], vm=vm), "vm-group-manager").inputs
    assert manager.get("distributionPolicyZones", []) == [f"us-central1-{letter}" for letter in zones]
    # Other zones are another group, which stands beside the old one for a while, each with an autoscaler of its own.
    assert manager["name"] == name
    scaled = stack_of(lanes=["vm"], vm=vm | {"max_replicas": 2})
    assert named(scaled, "vm-group-autoscaler").inputs["name"] == name
    policy = manager["updatePolicy"]
    assert (policy["maxSurgeFixed"], policy["maxUnavailableFixed"]) == (more, fewer)
    allowed = manager["instanceLifecyclePolicy"]["onRepair"]["allowChangingZone"]
    assert allowed == ("NO" if len(zones) == 1 else "YES")


@pytest.mark.parametrize(
    ("vm", "share"),
    [
        ({"machine_type": "t2d-standard-8"}, 0.6),
        ({"machine_type": "e2-highmem-2"}, 0.3),
        ({"machine_type": "n2d-standard-8"}, 0.3),
        # One thread waits for the card, and spins.
        ({"gpu": "t4"}, 0.3),
        ({"gpu": "l4"}, 0.15),
    ],
    ids=str,
)
def test_the_autoscaler_adds_machines_below_what_the_server_can_keep_busy(
    stack_of: Render, vm: dict[str, Any], share: float
) -> None:
    stack = stack_of(lanes=["vm"], vm=vm | {"max_replicas": 2})
    policy = named(stack, "vm-group-autoscaler").inputs["autoscalingPolicy"]
    assert policy["cpuUtilization"] == {"target": share}
    template = named(stack, "vm-group-template").inputs["metadata"]["user-data"]
    [threads] = re.findall(r"--threads (\d+)", template)
    [vcpus] = {row.vcpus for row in MACHINES if (row.name, row.gpu) == (machine_of(stack), vm.get("gpu", ""))}
    assert share < int(threads) / vcpus, "no load would ever reach it"


def machine_of(stack: Stack) -> str:
    return named(stack, "vm-group-template").inputs["machineType"]
