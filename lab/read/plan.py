"""The plan: all that the lab will start, put together from the recorded resources.

Owns: how many of each thing the lab runs, and that the lab understands their arguments. Does not own: reading one thing
(`gateway`, `burst`, `vm`, `home`, `tailnet`), what stays unproven (`unproven`), starting anything (`run.lab`). Pure:
resources in, plan out; a resource that the lab can't read is a `LabError`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from lab.errors import LabError
from lab.read import burst, gateway, home, images, model, pace, tailnet, unproven, vm
from lab.read.burst import Burst
from lab.read.cloud_run import SERVICE, has_gpu
from lab.read.gateway import Gateway
from lab.read.model import Served
from lab.read.pace import Pace
from lab.read.stack import Resource, Stack
from lab.read.tailnet import Tailnet
from lab.read.unproven import Unproven
from lab.read.vm import Vm

LANES: Final = ("home", "burst", "vm")
"""Every lane, in the order in which the gateway tries them."""
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """Everything the lab will start."""

    gateway: Gateway
    vm: Vm | None
    pods: tuple[home.Pod, ...]
    burst: Burst | None
    tailnet: Tailnet
    unproven: tuple[Unproven, ...]
    not_run: Mapping[str, str]
    """Services at home that nothing answers for here, and why."""
    paces: Mapping[str, Pace]
    """How fast each model server's machine is, by the container's title."""

    @property
    def lanes(self) -> tuple[str, ...]:
        """The declared lanes, in the order in which the gateway tries them."""
        declared = {"home": self.tailnet.home, "burst": self.burst, "vm": self.vm}
        return tuple(lane for lane in LANES if declared[lane])

    @property
    def models(self) -> dict[str, Served]:
        """The model of each lane that answers here."""
        home_pod = next((f"home/{pod.name}" for pod in self.pods if home.COMPLETIONS in pod.paths), "")
        titles = {"home": home_pod, **{lane: one.container.title for lane, one in self._cloud().items()}}
        return {lane: self.paces[title].served for lane, title in titles.items() if title}

    def _cloud(self) -> dict[str, Burst | Vm]:
        return {lane: one for lane, one in (("burst", self.burst), ("vm", self.vm)) if one}


def read(stack: Stack) -> Plan:
    """The plan of a rendered stack; raises `LabError` on anything the lab would run otherwise than declared."""
    services = [service for service in stack.of_type(SERVICE) if not has_gpu(service.inputs)]
    if len(services) != 1:
        raise LabError(f"the stack registers {len(services)} gateways, the lab runs exactly one")
    bursts = [_told(r, lambda r: burst.read(stack, r)) for r in stack.of_type(SERVICE) if has_gpu(r.inputs)]
    vms = [_told(resource, lambda r: vm.read(stack, r)) for resource in vm.resources(stack)]
    if len(vms) > 1:
        raise LabError(f"the stack registers {len(vms)} VMs or groups of them, the lab runs at most one")
    found = _told(services[0], lambda resource: gateway.read(stack, resource))
    declared = home.pods(stack.resources)
    pods = tuple(pod for pod in declared if not images.why_not(pod.image))
    for container in found.containers:
        images.understood(container.title, container.image, container.command, container.args)
    for pod in pods:
        images.understood(f"home/{pod.name}", pod.image, pod.command, pod.args)
        if pod.liveness.command:
            images.probe_command(f"home/{pod.name}", pod.image, pod.liveness.command)
        listening = images.value_of(pod.args, "--port")
        if listening != str(pod.port):
            raise LabError(f"home/{pod.name}: the Service leads to port {pod.port}, the server is told {listening}")
    paces = {f"home/{pod.name}": pace.of_card(f"home/{pod.name}", pod.card, _served(pod)) for pod in pods}
    paces |= {one.container.title: one.pace for one in (*bursts, *vms)}
    plan = Plan(
        gateway=found,
        vm=vms[0] if vms else None,
        pods=pods,
        burst=bursts[0] if bursts else None,
        tailnet=tailnet.read(stack, found),
        unproven=tuple(unproven.read(stack.resources)),
        not_run={pod.name: reason for pod in declared if (reason := images.why_not(pod.image))},
        paces=paces,
    )
    return replace(plan, unproven=(*plan.unproven, *unproven.of_models(plan.models)))


def _served(pod: home.Pod) -> Served:
    """A pod's model: that of every lane, or another service's."""
    title = f"home/{pod.name}"
    if home.COMPLETIONS not in pod.paths:
        return model.other(title, pod.args)
    is_vllm = images.value_of(pod.args, "--served-model-name")
    return (model.of_vllm if is_vllm else model.of_llama_cpp)(title, pod.args)


def _told(resource: Resource, reading: Callable[[Resource], T]) -> T:
    """`reading` of one resource; a shape it does not know is a sentence, not a traceback."""
    try:
        return reading(resource)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise LabError(f"{resource.name}: the lab can't read it: {type(error).__name__} {error}") from error
