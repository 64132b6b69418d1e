"""The gateway's Cloud Run service, as the lab starts it.

Owns: reading the containers and the secrets behind them, with the rules that the cloud enforces: grants on secrets,
pinned versions, 64 KiB. Does not own: starting the containers (`run.lab`), Cloud Run's behaviour (`run.cloudrun`).
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from lab.errors import LabError
from lab.read.container import Container, Mount
from lab.read.stack import Resource, Stack

SECRET_VERSION: Final = "gcp:secretmanager/secretVersion:SecretVersion"
SECRET_GRANT: Final = "gcp:secretmanager/secretIamMember:SecretIamMember"
TEMPLATE: Final = {
    "containers", "executionEnvironment", "maxInstanceRequestConcurrency", "scaling", "serviceAccount", "timeout",
    "volumes", "vpcAccess",
}  # fmt: skip
CONTAINER: Final = {
    "args", "commands", "envs", "image", "livenessProbe", "name", "ports", "resources", "startupProbe", "volumeMounts",
    "workingDir",
}  # fmt: skip


@dataclass(frozen=True)
class Gateway:
    """The declared service, with the secrets that its containers get."""

    name: str
    containers: tuple[Container, ...]
    ingress: str
    """Name of the container that gets the requests."""
    port: int
    probe_path: str
    start_limit_s: float
    """How long the startup probe may fail."""
    concurrency: int
    timeout_s: float
    min_instances: int
    identity: str
    """E-mail address of its service account."""
    subject: str
    """Unique id of that account, as Google's tokens name it."""


def _require_known(where: str, declared: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(declared) - set(known))
    if unknown:
        raise LabError(f"{where}: the lab does not understand {', '.join(unknown)}")


def read(stack: Stack, resource: Resource) -> Gateway:
    """The service; raises `LabError` on anything the lab would run otherwise than declared."""
    inputs = resource.inputs
    if not inputs.get("invokerIamDisabled") or inputs.get("ingress") != "INGRESS_TRAFFIC_ALL":
        raise LabError(
            f"{resource.name}: it is not public; Cloud Run would refuse every caller without Google's identity"
        )
    template = cast(dict[str, Any], inputs["template"])
    _require_known(f"{resource.name} template", template, TEMPLATE)
    account = _account(stack, template["serviceAccount"])
    volumes = {volume["name"]: volume for volume in template.get("volumes", ())}
    containers = tuple(_container(stack, resource, item, volumes, account["member"]) for item in template["containers"])
    ingress = [item for item in template["containers"] if item.get("ports")]
    if len(ingress) != 1:
        raise LabError(f"{resource.name}: exactly one container may have a port, {len(ingress)} have")
    probe = ingress[0]["startupProbe"]
    return Gateway(
        name=resource.name,
        containers=containers,
        ingress=ingress[0]["name"],
        port=ingress[0]["ports"]["containerPort"],
        probe_path=probe["httpGet"]["path"],
        start_limit_s=float(probe.get("initialDelaySeconds", 0) + probe["periodSeconds"] * probe["failureThreshold"]),
        concurrency=template["maxInstanceRequestConcurrency"],
        timeout_s=float(template["timeout"].removesuffix("s")),
        min_instances=template["scaling"]["minInstanceCount"],
        identity=template["serviceAccount"],
        subject=account["uniqueId"],
    )


def _container(
    stack: Stack, resource: Resource, item: dict[str, Any], volumes: Mapping[str, dict[str, Any]], member: str
) -> Container:
    _require_known(f"{resource.name} container {item['name']}", item, CONTAINER)
    if item.get("startupProbe") and not item.get("ports"):
        raise LabError(
            f"{resource.name} container {item['name']}: the lab waits for the ingress container's probe only"
        )
    mounts = item.get("volumeMounts", ())
    return Container(
        group=resource.parent,
        name=item["name"],
        image=item["image"],
        command=tuple(item.get("commands", ())),
        args=tuple(item.get("args", ())),
        env={env["name"]: _env_value(stack, env, member) for env in item.get("envs", ())},
        mounts=tuple(
            Mount(
                mount["mountPath"],
                _files(stack, volumes[mount["name"]], member),
                shared=mount["name"] if "emptyDir" in volumes[mount["name"]] else "",
            )
            for mount in mounts
        ),
        working_dir=item.get("workingDir", ""),
        memory_mib=_mib(item["resources"]["limits"]["memory"]),
    )


def _mib(limit: str) -> int:
    """Cloud Run's and Kubernetes' words for memory, as far as they are used."""
    if not limit.endswith("Mi"):
        raise LabError(f"the lab reads memory in Mi, not {limit!r}")
    return int(limit.removesuffix("Mi"))


def _account(stack: Stack, email: str) -> Mapping[str, Any]:
    for account in stack.of_type("gcp:serviceaccount/account:Account"):
        if account.outputs["email"] == email:
            return account.outputs
    raise LabError(f"service account {email} is declared nowhere")


def _env_value(stack: Stack, env: dict[str, Any], member: str) -> str:
    if "valueSource" in env:
        reference = env["valueSource"]["secretKeyRef"]
        content = _secret(stack, reference["secret"], reference["version"], member)
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise LabError(f"{env['name']}: {reference['secret']} is no UTF-8 text; no variable can hold it") from error
    return str(env.get("value", ""))


def _files(stack: Stack, volume: dict[str, Any], member: str) -> dict[str, bytes]:
    if "emptyDir" in volume:
        return {}
    if "secret" not in volume:
        raise LabError(f"volume {volume['name']}: the lab knows secret and emptyDir volumes only")
    source = volume["secret"]
    return {item["path"]: _secret(stack, source["secret"], item["version"], member) for item in source["items"]}


def _secret(stack: Stack, secret: str, version: str, member: str) -> bytes:
    """A secret's content as Secret Manager would give it to `member`: pinned version, declared grant, 64 KiB."""
    if not version.isdigit():
        raise LabError(f"{secret}: version {version!r} is not pinned; a new one would reach callers untested")
    granted = any(
        grant.inputs["secretId"] == secret
        and grant.inputs["member"] == member
        and grant.inputs["role"] == "roles/secretmanager.secretAccessor"
        for grant in stack.of_type(SECRET_GRANT)
    )
    if not granted:
        raise LabError(f"{member} may not read {secret}: no SecretIamMember grants it (Cloud Run would not start)")
    for candidate in stack.of_type(SECRET_VERSION):
        if candidate.inputs["secret"] == secret and candidate.outputs["version"] == version:
            content = _content(secret, candidate)
            if len(content) > 64 * 1024:
                raise LabError(f"{secret} has {len(content)} bytes; Secret Manager takes 64 KiB")
            return content
    raise LabError(f"{secret} has no version {version}")


def _content(secret: str, version: Resource) -> bytes:
    """What a version stores: its text, or the bytes that the text encodes."""
    text: str = version.inputs["secretData"]
    if not version.inputs.get("isSecretDataBase64"):
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise LabError(f"{secret} is declared as base64 and isn't ({error}); Secret Manager would refuse it") from error
