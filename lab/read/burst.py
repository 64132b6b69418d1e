"""The burst lane's Cloud Run service, as the lab starts it.

Owns: reading the container, the limits, and who may call the service. Does not own: which service is burst
(`cloud_run`), starting it (`run.burst`), Cloud Run's behaviour (`run.cloudrun`), identities (`run.metadata`).
"""

from dataclasses import dataclass
from typing import Any, Final, cast

from lab.errors import LabError
from lab.read import images, model, pace
from lab.read.container import Container, Mount
from lab.read.pace import Pace
from lab.read.stack import Resource, Stack

INVOKER: Final = "gcp:cloudrunv2/serviceIamMember:ServiceIamMember"
_START: Final = 'exec vllm serve "$@"\n'
"""Last line of the declared start script; what stands before it checks the weights, which are other ones here."""


@dataclass(frozen=True)
class Burst:
    """A declared service that scales to zero and asks for Google's identity."""

    container: Container
    audience: str
    """Its address, which ID tokens must be meant for."""
    callers: frozenset[str]
    """E-mail addresses of the service accounts that may call it."""
    concurrency: int
    timeout_s: float
    min_instances: int
    max_instances: int
    health_path: str
    pace: Pace


def read(stack: Stack, resource: Resource) -> Burst:
    """The service; raises `LabError` where it would behave otherwise than declared."""
    inputs = resource.inputs
    if inputs.get("invokerIamDisabled"):
        raise LabError(f"{resource.name}: anybody may call it, and each call starts a GPU")
    template = cast(dict[str, Any], inputs["template"])
    if len(template["containers"]) != 1:
        raise LabError(f"{resource.name}: the lab starts one container of a GPU service")
    item: dict[str, Any] = template["containers"][0]
    command, args = tuple(item["commands"]), tuple(item["args"])
    if command[:2] != ("/bin/sh", "-c") or not command[2].endswith(_START):
        raise LabError(f"{resource.name}: the lab knows one start script, which ends with {_START!r}")
    container = Container(
        group="burst",
        name=item["name"],
        image=item["image"],
        command=("vllm", "serve"),
        args=args,
        env={env["name"]: env["value"] for env in item.get("envs", ())},
        mounts=tuple(Mount(mount["mountPath"], {}) for mount in item.get("volumeMounts", ())),
    )
    images.understood(container.title, container.image, container.command, container.args)
    members = {
        grant.inputs["member"]
        for grant in stack.of_type(INVOKER)
        if grant.inputs["name"] == inputs["name"] and grant.inputs["role"] == "roles/run.invoker"
    }
    return Burst(
        container=container,
        audience=resource.outputs["uri"],
        callers=frozenset(member.removeprefix("serviceAccount:") for member in members),
        concurrency=template["maxInstanceRequestConcurrency"],
        timeout_s=float(template["timeout"].removesuffix("s")),
        min_instances=template["scaling"]["minInstanceCount"],
        max_instances=template["scaling"]["maxInstanceCount"],
        health_path=item["startupProbe"]["httpGet"]["path"],
        pace=pace.of_card(resource.name, template["nodeSelector"]["accelerator"], model.of_vllm(resource.name, args)),
    )
