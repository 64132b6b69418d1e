"""The declared VM lane: one machine, or a managed group of them behind an internal load balancer.

Owns: which machine it is, how many there are, the address that the gateway dials, and that every part leads to the
next. Does not own: what a machine does at boot (`user_data`), who reaches it (`firewall`), its speed (`pace`), the
program that stands in for the container's image (`images`), starting it (`run.lab`).
"""

from dataclasses import dataclass
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
class Vm:
    """The lane: one container behind a published port, on one machine or on each of several."""

    container: Container
    address: str
    port: int
    pace: Pace
    machines: int = 1
    """Those that always run; what an autoscaler may add is not counted on."""
    grouped: bool = False
    card: str = ""
    """The machine's graphics card; empty: none."""
    closed: bool = False
    """The container can open no connection, so the server fetches nothing that a caller names."""


def resources(stack: Stack) -> list[Resource]:
    """What stands for a VM lane, a resource for each: instances, and managers of groups."""
    return [resource for token in (INSTANCE, *MANAGERS) for resource in stack.of_type(token)]


def read(stack: Stack, resource: Resource) -> Vm:
    """The lane that an instance or a group's manager stands for; raises `LabError` where nobody could reach it."""
    if resource.type == INSTANCE:
        address = resource.inputs["networkInterfaces"][0]["networkIp"]
        return _of_machine(stack, resource, address, machines=1, grouped=False)
    template = template_of(stack, resource)
    found = _of_machine(stack, template, _address(stack, resource), machines=machines_of(stack, resource), grouped=True)
    _require_served(stack, resource, found.port)
    return found


def _of_machine(stack: Stack, machine: Resource, address: str, *, machines: int, grouped: bool) -> Vm:
    boot = user_data.read(machine.name, machine.inputs["metadata"]["user-data"])
    container = Container(
        group=LANE, name="model", image=boot.image, command=(), args=boot.arguments, env=boot.env, mounts=boot.mounts
    )
    images.understood(container.title, container.image, container.command, container.args)
    row, its_pace = pace.of_machine(machine.name, machine.inputs, model.of_llama_cpp(machine.name, boot.arguments))
    _require_card(machine.name, row.gpu, boot)
    firewall.require_reachable(stack, machine, boot.port, checked=grouped)
    return Vm(container, address, boot.port, its_pace, machines, grouped, row.gpu, boot.closed)


def _require_card(name: str, card: str, boot: user_data.Boot) -> None:
    """A server that finds no card computes on the processors, silently; docker fails at a device that isn't there."""
    if not card:
        if boot.cards:
            raise LabError(f"{name}: docker run hands on a graphics card, and the machine has none")
        return
    missing = {
        "no unit installs the driver (cos-extensions install gpu)": not boot.driver,
        "docker run hands on no device /dev/nvidia0": not boot.cards,
        f"its image {boot.image} is not one for CUDA": "cuda" not in boot.image.rpartition(":")[2],
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


def _require_served(stack: Stack, manager: Resource, port: int) -> None:
    """A balancer sends nothing to another port, or to a machine whose check asks where nobody answers."""
    [rule] = _rules(stack, manager)
    opened = rule.get("allPorts") or str(port) in rule.get("ports", ())
    if rule["loadBalancingScheme"] != "INTERNAL" or not opened:
        raise LabError(f"{manager.name}: its forwarding rule is not an internal one for port {port}")
    checks = {one.outputs["id"]: one.inputs["httpHealthCheck"] for one in stack.of_type(CHECK)}
    [backend] = _backends(stack, manager)
    healing = cast(dict[str, str], manager.inputs.get("autoHealingPolicies") or {}).get("healthCheck")
    for used in (backend.inputs["healthChecks"], *([healing] if healing else [])):
        asked = checks[used]
        if (asked["port"], asked["requestPath"]) != (port, "/health"):
            raise LabError(
                f"{manager.name}: a health check asks {asked['requestPath']} on port {asked['port']}, the server "
                + f"answers /health on {port}; no machine would ever count as healthy"
            )
