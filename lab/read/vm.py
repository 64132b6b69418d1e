"""The declared VM lane: one machine, or a managed group of them behind an internal load balancer.

Owns: which machine it is, how many there are, the address that the gateway dials, and that every part leads to the
next. Does not own: what a machine does at boot (`user_data`), who reaches it (`firewall`), its speed (`pace`), the
program that stands in for the container's image (`images`), starting it (`run.lab`).
"""

from dataclasses import dataclass, replace
from typing import Any, Final, cast

from lab.errors import LabError
from lab.read import firewall, images, model, pace, user_data
from lab.read.container import Container
from lab.read.pace import Pace
from lab.read.stack import Resource, Stack

LANE: Final = "vm"
INSTANCE: Final = "gcp:compute/instance:Instance"
TEMPLATE: Final = "gcp:compute/instanceTemplate:InstanceTemplate"
MANAGERS: Final = (
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager",
    "gcp:compute/instanceGroupManager:InstanceGroupManager",
)
AUTOSCALERS: Final = ("gcp:compute/regionAutoscaler:RegionAutoscaler", "gcp:compute/autoscaler:Autoscaler")
BACKEND: Final = "gcp:compute/regionBackendService:RegionBackendService"
RULE: Final = "gcp:compute/forwardingRule:ForwardingRule"
CHECK: Final = "gcp:compute/regionHealthCheck:RegionHealthCheck"


@dataclass(frozen=True)
class Scaling:
    """When an autoscaler adds machines."""

    most: int
    busy: float
    """Share of the machines' processors that it keeps."""
    start_s: float
    """What a new machine is given until it serves."""


@dataclass(frozen=True)
class Balancing:
    """How the balancer finds out that a machine serves, and what it leaves to one that goes."""

    check_s: float
    failures: int
    draining_s: float


@dataclass(frozen=True)
class Vm:
    """The lane: one container behind a published port, on one machine or on each of several."""

    container: Container
    address: str
    port: int
    pace: Pace
    working: float
    """Share of a machine's processors that its server keeps busy while it works."""
    machines: int = 1
    """Those that always run."""
    balancing: Balancing | None = None
    """Of a group."""
    scaling: Scaling | None = None
    """None: the group has a size of its own, or it is no group."""
    card: str = ""
    """The machine's graphics card; empty: none."""
    closed: bool = False
    """The container can open no connection, so the server fetches nothing that a caller names."""

    @property
    def most(self) -> int:
        """Machines at their maximum."""
        return self.scaling.most if self.scaling else self.machines


def resources(stack: Stack) -> list[Resource]:
    """What stands for a VM lane, a resource for each: instances, and managers of groups."""
    return [resource for token in (INSTANCE, *MANAGERS) for resource in stack.of_type(token)]


def read(stack: Stack, resource: Resource) -> Vm:
    """The lane that an instance or a group's manager stands for; raises `LabError` where nobody could reach it."""
    if resource.type == INSTANCE:
        address = resource.inputs["networkInterfaces"][0]["networkIp"]
        return _of_machine(stack, resource, address, grouped=False)
    found = _of_machine(stack, template_of(stack, resource), _address(stack, resource), grouped=True)
    balancing = _balancing(stack, resource, found.port)
    machines, scaling = machines_of(stack, resource), _scaling(stack, resource)
    return replace(found, machines=machines, balancing=balancing, scaling=scaling)


def _of_machine(stack: Stack, machine: Resource, address: str, *, grouped: bool) -> Vm:
    boot = user_data.read(machine.name, machine.inputs["metadata"]["user-data"])
    container = Container(
        group=LANE, name="model", image=boot.image, command=(), args=boot.arguments, env=boot.env, mounts=boot.mounts
    )
    images.understood(container.title, container.image, container.command, container.args)
    row, its_pace = pace.of_machine(machine.name, machine.inputs, model.of_llama_cpp(machine.name, boot.arguments))
    _require_card(machine.name, row.gpu, boot)
    firewall.require_reachable(stack, machine, boot.port, checked=grouped)
    threads = int(images.value_of(boot.arguments, "--threads") or row.cores)
    working = min(1.0, threads / row.vcpus)
    return Vm(container, address, boot.port, its_pace, working, card=row.gpu, closed=boot.closed)


def _require_card(name: str, card: str, boot: user_data.Boot) -> None:
    """A server that finds no card computes on the processors, silently; docker fails at a device that isn't there."""
    if not card:
        if boot.cards:
            raise LabError(f"{name}: docker run hands on a graphics card, and the machine has none")
        return
    missing = {
        "no unit installs the driver (cos-extensions install gpu)": not boot.driver,
        "docker run hands on no device /dev/nvidia0": not boot.cards,
        f"its image {boot.image} is not one for CUDA": "cuda" not in boot.image.partition("@")[0].rpartition(":")[2],
    }
    if found := [what for what, is_so in missing.items() if is_so]:
        raise LabError(f"{name}: the machine has a card ({card}), but {'; '.join(found)}: the model would not use it")


# --- a group ---------------------------------------------------------------------------------------------------------


def template_of(stack: Stack, manager: Resource) -> Resource:
    """Of the group's machines."""
    wanted = [version["instanceTemplate"] for version in manager.inputs["versions"]]
    found = [one for one in stack.of_type(TEMPLATE) if [one.outputs["selfLinkUnique"]] == wanted]
    if len(found) != 1:
        raise LabError(f"{manager.name}: the lab needs one version, of a template that the stack registers")
    return found[0]


def scalers_of(stack: Stack, manager: Resource) -> list[Resource]:
    """The group's autoscaler; none where its size is its own."""
    found = [one for token in AUTOSCALERS for one in stack.of_type(token)]
    return [one for one in found if one.inputs["target"] == manager.outputs["id"]]


def machines_of(stack: Stack, manager: Resource) -> int:
    """Machines that always run: the autoscaler's least, or else the group's own size."""
    least = [one.inputs["autoscalingPolicy"]["minReplicas"] for one in scalers_of(stack, manager)]
    found = least[0] if least else manager.inputs.get("targetSize")
    if not found:
        raise LabError(f"{manager.name}: neither an autoscaler nor a target size says that a machine runs")
    return int(found)


def _scaling(stack: Stack, manager: Resource) -> Scaling | None:
    for scaler in scalers_of(stack, manager):
        policy = cast(dict[str, Any], scaler.inputs["autoscalingPolicy"])
        known = {"mode", "minReplicas", "maxReplicas", "cooldownPeriod", "cpuUtilization"}
        if policy["mode"] != "ON" or policy.keys() - known or policy["cpuUtilization"].keys() != {"target"}:
            raise LabError(f"{scaler.name}: the lab knows an autoscaler that is on, and goes by the processors alone")
        return Scaling(policy["maxReplicas"], policy["cpuUtilization"]["target"], float(policy["cooldownPeriod"]))
    return None


def _backends(stack: Stack, manager: Resource) -> list[Resource]:
    group = manager.outputs["instanceGroup"]
    return [one for one in stack.of_type(BACKEND) if group in (backend["group"] for backend in one.inputs["backends"])]


def _rules(stack: Stack, manager: Resource) -> list[dict[str, Any]]:
    services = {one.outputs["id"] for one in _backends(stack, manager)}
    return [one.inputs for one in stack.of_type(RULE) if one.inputs["backendService"] in services]


def _address(stack: Stack, manager: Resource) -> str:
    rules = _rules(stack, manager)
    if len(rules) != 1:
        raise LabError(f"{manager.name}: {len(rules)} forwarding rules lead to the group, the lab needs exactly one")
    return cast(str, rules[0]["ipAddress"])


def _balancing(stack: Stack, manager: Resource, port: int) -> Balancing:
    """A balancer sends nothing to another port, or to a machine whose check asks where nobody answers."""
    [rule] = _rules(stack, manager)
    opened = rule.get("allPorts") or str(port) in rule.get("ports", ())
    if rule["loadBalancingScheme"] != "INTERNAL" or not opened:
        raise LabError(f"{manager.name}: its forwarding rule is not an internal one for port {port}")
    checks = {one.outputs["id"]: one.inputs for one in stack.of_type(CHECK)}
    [backend] = _backends(stack, manager)
    healing = cast(dict[str, str], manager.inputs.get("autoHealingPolicies") or {}).get("healthCheck")
    for used in (backend.inputs["healthChecks"], *([healing] if healing else [])):
        asked = checks[used]["httpHealthCheck"]
        if (asked["port"], asked["requestPath"]) != (port, "/health"):
            raise LabError(
                f"{manager.name}: a health check asks {asked['requestPath']} on port {asked['port']}, the server "
                + f"answers /health on {port}; no machine would ever count as healthy"
            )
    serving = checks[backend.inputs["healthChecks"]]
    draining_s = float(backend.inputs["connectionDrainingTimeoutSec"])
    return Balancing(float(serving["checkIntervalSec"]), serving["unhealthyThreshold"], draining_s)
