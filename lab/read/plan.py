"""The plan: all that the lab will start, put together from the recorded resources.

Owns: how many of each thing the lab runs, that the lab understands their arguments, and what the lab leaves unproven.
Does not own: reading one thing (`gateway`, `burst`, `vm`, `home`, `tailnet`), starting anything (`run.lab`). Pure:
resources in, plan out; a resource that the lab can't read is a `LabError`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from lab.errors import LabError
from lab.read import burst, gateway, home, images, tailnet, vm
from lab.read.burst import INVOKER, Burst
from lab.read.cloud_run import SERVICE, has_gpu
from lab.read.gateway import SECRET_GRANT, SECRET_VERSION, Gateway
from lab.read.stack import Resource, Stack
from lab.read.tailnet import IDENTITY, KEY, Tailnet
from lab.read.traefik import CHART_CONFIG
from lab.read.vm import FIREWALL, INSTANCE, Vm

LANES: Final = ("home", "burst", "vm")
"""Every lane, in the order in which the gateway tries them."""
UNPROVEN: Final = {
    SERVICE: "TLS, Google's front end, more than one instance, CPU and memory limits, liveness probes, the VPC",
    INSTANCE: "booting Container-Optimized OS, cloud-init, docker, the machine's speed, spot stops",
    SECRET_VERSION: "storage and replication; reading it is simulated, with the declared grants enforced",
    SECRET_GRANT: "Google's IAM; the lab enforces the declared grants in its own way",
    KEY: "joining a tailnet: a SOCKS5 hop stands in for the tunnel and checks only that the key is this one",
    IDENTITY: "joining a tailnet: a SOCKS5 hop stands in for the tunnel and checks subject and audience only",
    INVOKER: "Google's IAM; the lab checks tokens of its own against the declared grant",
    "gcp:cloudrunv2/job:Job": "filling the bucket: the lab's weights are another, smaller model",
    "gcp:storage/bucket:Bucket": "the bucket: the lab's weights are another, smaller model",
    FIREWALL: "filtering packets; the lab checks that the rule admits the gateway's subnet and the port",
    "gcp:compute/disk:Disk": "the disk: the weights are another, smaller model",
    "tailscale:index/acl:Acl": "the policy: nothing is filtered here",
    "random:index/randomPassword:RandomPassword": "the provider; the lab draws a key as declared, another each time",
}
"""What stays unproven of a resource, by type; a type that isn't listed is only read (`_PAPER`)."""
AT_HOME: Final = {home.RELEASE, CHART_CONFIG, *home.OTHERS}
"""Types that `home` carries out or lists by itself."""
T = TypeVar("T")
_PAPER: Final = "all of it: it is registered, and nothing here behaves like it"


@dataclass(frozen=True)
class Plan:
    """Everything the lab will start."""

    gateway: Gateway
    vm: Vm | None
    pods: tuple[home.Pod, ...]
    burst: Burst | None
    tailnet: Tailnet
    unproven: tuple[str, ...]
    not_run: Mapping[str, str]
    """Services at home that nothing answers for here, and why."""

    @property
    def lanes(self) -> tuple[str, ...]:
        """The declared lanes, in the order in which the gateway tries them."""
        declared = {"home": self.tailnet.home, "burst": self.burst, "vm": self.vm}
        return tuple(lane for lane in LANES if declared[lane])


def read(stack: Stack) -> Plan:
    """The plan of a rendered stack; raises `LabError` on anything the lab would run otherwise than declared."""
    services = [service for service in stack.of_type(SERVICE) if not has_gpu(service.inputs)]
    if len(services) != 1:
        raise LabError(f"the stack registers {len(services)} gateways, the lab runs exactly one")
    bursts = [_told(r, lambda r: burst.read(stack, r)) for r in stack.of_type(SERVICE) if has_gpu(r.inputs)]
    vms = [_told(resource, lambda r: vm.read(stack, r)) for resource in stack.of_type(INSTANCE)]
    if len(vms) > 1:
        raise LabError(f"the stack registers {len(vms)} VMs, the lab runs at most one")
    found = _told(services[0], lambda resource: gateway.read(stack, resource))
    declared = home.pods(stack.resources)
    pods = tuple(pod for pod in declared if not images.why_not(pod.image))
    for container in (*found.containers, *(one.container for one in vms)):
        images.understood(container.title, container.image, container.command, container.args)
    for pod in pods:
        images.understood(f"home/{pod.name}", pod.image, pod.command, pod.args)
        listening = images.value_of(pod.args, "--port")
        if listening != str(pod.port):
            raise LabError(f"home/{pod.name}: the Service leads to port {pod.port}, the server is told {listening}")
    return Plan(
        gateway=found,
        vm=vms[0] if vms else None,
        pods=pods,
        burst=bursts[0] if bursts else None,
        tailnet=tailnet.read(stack, found),
        unproven=tuple(_unproven(stack)),
        not_run={pod.name: reason for pod in declared if (reason := images.why_not(pod.image))},
    )


def _told(resource: Resource, reading: Callable[[Resource], T]) -> T:
    """`reading` of one resource; a shape it does not know is a sentence, not a traceback."""
    try:
        return reading(resource)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise LabError(f"{resource.name}: the lab can't read it: {type(error).__name__} {error}") from error


def _unproven(stack: Stack) -> list[str]:
    lines = [
        f"{resource.name} ({resource.type.rsplit(':', 1)[-1]}): {UNPROVEN.get(resource.type, _PAPER)}"
        for resource in stack.resources
        if not resource.type.startswith("pilotlight:") and resource.type not in AT_HOME
    ]
    absent = [
        f"home/{pod.name} ({pod.image}): not run, {reason}"
        for pod in home.pods(stack.resources)
        if (reason := images.why_not(pod.image))
    ]
    return [*lines, *home.not_run(stack.resources), *absent]
