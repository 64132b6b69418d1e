"""The declared VM: the container that its user data starts, and whether the gateway can reach it.

Owns: reading cloud-init and docker's options, and the firewall's verdict. Does not own: the program that stands in for
the container's image (`images`), starting it (`run.lab`).
"""

import ipaddress
import shlex
from dataclasses import dataclass
from typing import Any, Final, cast

import yaml

from lab.errors import LabError
from lab.read import images
from lab.read.cloud_run import SERVICE
from lab.read.container import Container, Mount
from lab.read.stack import Resource, Stack

INSTANCE: Final = "gcp:compute/instance:Instance"
FIREWALL: Final = "gcp:compute/firewall:Firewall"
SUBNETWORK: Final = "gcp:compute/subnetwork:Subnetwork"
_RUN: Final = "ExecStart=/usr/bin/docker run "


@dataclass(frozen=True)
class Vm:
    """The declared VM: one container behind a published port."""

    container: Container
    address: str
    port: int


def read(stack: Stack, resource: Resource) -> Vm:
    """The container that the VM's user data starts, reachable if a firewall rule says so."""
    document = cast(dict[str, Any], yaml.safe_load(resource.inputs["metadata"]["user-data"]))
    run = [
        line.partition("=")[2]
        for file in document["write_files"]
        if file["path"].endswith(".service")
        for line in file["content"].splitlines()
        if line.startswith(_RUN)
    ]
    if len(run) != 1:
        raise LabError(f"{resource.name}: {len(run)} units start a container, the lab runs exactly one")
    words = shlex.split(run[0])[2:]
    published, mounts = list[str](), list[Mount]()
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "--rm":
            continue
        value = words.pop(0) if words else ""
        match option:
            case "--name":
                pass
            case "--publish":
                published.append(value)
            case "--volume":
                mounts.append(Mount(value.split(":")[1], {}))
            case _:
                raise LabError(f"{resource.name}: the lab does not understand docker run {option}")
    if not words:
        raise LabError(f"{resource.name}: docker run names no image")
    image, *arguments = words
    port = _port(resource.name, published, arguments)
    _require_reachable(stack, resource, port)
    container = Container(
        group=resource.parent,
        name="model",
        image=image,
        command=(),
        args=tuple(arguments),
        env={},
        mounts=tuple(mounts),
    )
    return Vm(container, resource.inputs["networkInterfaces"][0]["networkIp"], port)


def _port(vm: str, published: list[str], arguments: list[str]) -> int:
    """The VM's port that docker opens, if it leads to what the server listens on inside the container."""
    if len(published) != 1:
        raise LabError(f"{vm}: docker publishes {len(published)} ports, the lab needs exactly one")
    outer, _, inner = published[0].rpartition(":")
    if not outer.isdigit() or not inner.isdigit():
        raise LabError(f"{vm}: the lab understands --publish PORT:PORT, not {published[0]}")
    listening = images.value_of(arguments, "--host") or "127.0.0.1", images.value_of(arguments, "--port") or "8080"
    if listening != ("0.0.0.0", inner):
        raise LabError(
            f"{vm}: docker publishes port {inner} of the container, but the server listens on "
            + f"{':'.join(listening)} in it; nobody could reach it"
        )
    return int(outer)


def _require_reachable(stack: Stack, vm: Resource, port: int) -> None:
    """Raises unless a firewall rule lets the gateway's own subnet reach the VM's published port."""
    subnets = {subnet.outputs["id"]: subnet.inputs for subnet in stack.of_type(SUBNETWORK)}
    access = [service.inputs["template"].get("vpcAccess") for service in stack.of_type(SERVICE)]
    used = [subnets.get(one["networkInterfaces"][0]["subnetwork"]) for one in access if one]
    network = subnets[vm.inputs["networkInterfaces"][0]["subnetwork"]]["network"]
    ranges = [ipaddress.ip_network(one["ipCidrRange"]) for one in used if one and one["network"] == network]
    if not ranges:
        raise LabError(f"{vm.name}: no Cloud Run service has an interface in the VPC, so nobody can reach it")
    account = vm.inputs["serviceAccount"]["email"]
    for rule in stack.of_type(FIREWALL):
        admitted = [ipaddress.ip_network(source) for source in rule.inputs.get("sourceRanges", ())]
        if (
            rule.inputs["network"] == network
            and rule.inputs.get("direction", "INGRESS") == "INGRESS"
            and account in rule.inputs.get("targetServiceAccounts", ())
            and any(_allows(allow, port) for allow in rule.inputs.get("allows", ()))
            and all(any(cast(Any, inner).subnet_of(outer) for outer in admitted) for inner in ranges)
        ):
            return
    raise LabError(f"{vm.name}: no firewall rule lets the gateway's subnet reach its port {port}")


def _allows(allow: dict[str, Any], port: int) -> bool:
    """Whether one `allows` entry admits TCP to `port`; without ports it admits all."""
    if allow["protocol"] not in ("tcp", "all"):
        return False
    bounds = [entry.split("-") for entry in allow.get("ports") or ["0-65535"]]
    return any(int(ends[0]) <= port <= int(ends[-1]) for ends in bounds)
