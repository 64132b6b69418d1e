"""What the lab makes of the recorded resources: the containers to start as processes.

Owns: reading the Cloud Run service and the secrets behind it, with the rules that a cloud enforces (IAM on secrets,
pinned versions, 64 KiB), and what the lab leaves unproven. Does not own: starting anything (`supervisor`), the VM
(`virtual_machine`), the cluster at home (`cluster`). Pure: resources in, plan out; what it can't read is a `LabError`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from lab.errors import LabError
from lab.read import burst, home, images, vm
from lab.read.burst import INVOKER, Burst
from lab.read.container import Container, Mount
from lab.read.stack import Resource, Stack
from lab.read.vm import FIREWALL, Machine

SERVICE: Final = "gcp:cloudrunv2/service:Service"
INSTANCE: Final = "gcp:compute/instance:Instance"
SECRET_VERSION: Final = "gcp:secretmanager/secretVersion:SecretVersion"
SECRET_GRANT: Final = "gcp:secretmanager/secretIamMember:SecretIamMember"
KEY: Final = "tailscale:index/tailnetKey:TailnetKey"
IDENTITY: Final = "tailscale:index/federatedIdentity:FederatedIdentity"

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
AT_HOME: Final = {home.RELEASE, home.CHART_CONFIG, *home.OTHERS}
"""Types that `cluster` carries out or lists by itself."""
TEMPLATE: Final = {
    "containers", "executionEnvironment", "maxInstanceRequestConcurrency", "scaling", "serviceAccount", "timeout",
    "volumes", "vpcAccess",
}  # fmt: skip
CONTAINER: Final = {
    "args", "commands", "envs", "image", "livenessProbe", "name", "ports", "resources", "startupProbe", "volumeMounts",
    "workingDir",
}  # fmt: skip
T = TypeVar("T")
_PAPER: Final = "all of it: it is registered, and nothing here behaves like it"


@dataclass(frozen=True)
class CloudRun:
    """A declared Cloud Run service."""

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


@dataclass(frozen=True)
class Plan:
    """Everything the lab will start."""

    gateway: CloudRun
    machine: Machine | None
    pods: tuple[home.Pod, ...]
    burst: Burst | None
    identity: str
    """E-mail address of the gateway's service account."""
    subject: str
    """Unique id of that account, as Google's tokens name it."""
    auth_key: str | None
    trusted: Mapping[str, str] | None
    """Whom the tailnet lets in without a key: `client_id`, `issuer`, `subject`, `audience`."""
    home_address: str | None
    """Where the gateway looks for home in the tailnet, `host:port`."""
    unproven: tuple[str, ...]
    not_run: Mapping[str, str]
    """Services at home that nothing answers for here, and why."""


def read(stack: Stack) -> Plan:
    """The plan of a rendered stack; raises `LabError` on anything the lab would run otherwise than declared."""
    services = [service for service in stack.of_type(SERVICE) if service.parent != "burst"]
    if len(services) != 1:
        raise LabError(f"the stack registers {len(services)} gateways, the lab runs exactly one")
    bursts = [_told(r, lambda r: burst.read(stack, r)) for r in stack.of_type(SERVICE) if r.parent == "burst"]
    machines = [_told(resource, lambda r: vm.read(stack, r)) for resource in stack.of_type(INSTANCE)]
    if len(machines) > 1:
        raise LabError(f"the stack registers {len(machines)} VMs, the lab runs at most one")
    gateway = _told(services[0], lambda resource: _cloud_run(stack, resource))
    declared = home.pods(stack.resources)
    pods = tuple(pod for pod in declared if not images.why_not(pod.image))
    for container in (*gateway.containers, *(machine.container for machine in machines)):
        images.understood(container.title, container.image, container.command, container.args)
    for pod in pods:
        images.understood(f"home/{pod.name}", pod.image, pod.command, pod.args)
        listening = images.value_of(pod.args, "--port")
        if listening != str(pod.port):
            raise LabError(f"home/{pod.name}: the Service leads to port {pod.port}, the server is told {listening}")
    return Plan(
        gateway=gateway,
        machine=machines[0] if machines else None,
        pods=pods,
        burst=bursts[0] if bursts else None,
        identity=services[0].inputs["template"]["serviceAccount"],
        subject=_account(stack, services[0].inputs["template"]["serviceAccount"])["uniqueId"],
        auth_key=_tailnet_key(stack),
        trusted=_trusted(stack),
        home_address=_home_address(gateway),
        unproven=tuple(_unproven(stack)),
        not_run={pod.name: reason for pod in declared if (reason := images.why_not(pod.image))},
    )


def _told(resource: Resource, reading: Callable[[Resource], T]) -> T:
    """`reading` of one resource; a shape it does not know is a sentence, not a traceback."""
    try:
        return reading(resource)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise LabError(f"{resource.name}: the lab can't read it: {type(error).__name__} {error}") from error


def _require_known(where: str, declared: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(declared) - set(known))
    if unknown:
        raise LabError(f"{where}: the lab does not understand {', '.join(unknown)}")


def _cloud_run(stack: Stack, resource: Resource) -> CloudRun:
    inputs = resource.inputs
    if not inputs.get("invokerIamDisabled") or inputs.get("ingress") != "INGRESS_TRAFFIC_ALL":
        raise LabError(
            f"{resource.name}: it is not public; Cloud Run would refuse every caller without Google's identity"
        )
    template = cast(dict[str, Any], inputs["template"])
    _require_known(f"{resource.name} template", template, TEMPLATE)
    member = _account(stack, template["serviceAccount"])["member"]
    volumes = {volume["name"]: volume for volume in template.get("volumes", ())}
    containers = tuple(_container(stack, resource, item, volumes, member) for item in template["containers"])
    ingress = [item for item in template["containers"] if item.get("ports")]
    if len(ingress) != 1:
        raise LabError(f"{resource.name}: exactly one container may have a port, {len(ingress)} have")
    probe = ingress[0]["startupProbe"]
    return CloudRun(
        name=resource.name,
        containers=containers,
        ingress=ingress[0]["name"],
        port=ingress[0]["ports"]["containerPort"],
        probe_path=probe["httpGet"]["path"],
        start_limit_s=float(probe.get("initialDelaySeconds", 0) + probe["periodSeconds"] * probe["failureThreshold"]),
        concurrency=template["maxInstanceRequestConcurrency"],
        timeout_s=float(template["timeout"].removesuffix("s")),
        min_instances=template["scaling"]["minInstanceCount"],
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
    )


def _account(stack: Stack, email: str) -> Mapping[str, Any]:
    for account in stack.of_type("gcp:serviceaccount/account:Account"):
        if account.outputs["email"] == email:
            return account.outputs
    raise LabError(f"service account {email} is declared nowhere")


def _env_value(stack: Stack, env: dict[str, Any], member: str) -> str:
    if "valueSource" in env:
        reference = env["valueSource"]["secretKeyRef"]
        return _secret_text(stack, reference["secret"], reference["version"], member)
    return str(env.get("value", ""))


def _files(stack: Stack, volume: dict[str, Any], member: str) -> dict[str, str]:
    if "emptyDir" in volume:
        return {}
    if "secret" not in volume:
        raise LabError(f"volume {volume['name']}: the lab knows secret and emptyDir volumes only")
    source = volume["secret"]
    return {item["path"]: _secret_text(stack, source["secret"], item["version"], member) for item in source["items"]}


def _secret_text(stack: Stack, secret: str, version: str, member: str) -> str:
    """A secret's text as Secret Manager would give it to `member`: pinned version, declared grant, 64 KiB."""
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
            text: str = candidate.inputs["secretData"]
            if len(text.encode()) > 64 * 1024:
                raise LabError(f"{secret} has {len(text.encode())} bytes; Secret Manager takes 64 KiB")
            return text
    raise LabError(f"{secret} has no version {version}")


def _tailnet_key(stack: Stack) -> str | None:
    keys = [key.outputs["key"].strip() for key in stack.of_type(KEY) if key.inputs["ephemeral"]]
    return keys[0] if keys else None


def _trusted(stack: Stack) -> dict[str, str] | None:
    found = [identity.outputs for identity in stack.of_type(IDENTITY) if identity.inputs["tags"] == ["tag:gateway"]]
    if not found:
        return None
    return {"client_id": found[0]["id"], **{name: found[0][name] for name in ("issuer", "subject", "audience")}}


def _home_address(gateway: CloudRun) -> str | None:
    """The tailnet address in the declared Caddy configuration: the one dialled by name, which only the tunnel knows."""
    texts = [text for container in gateway.containers for mount in container.mounts for text in mount.files.values()]
    dialled = [address for text in texts for address in re.findall(r'"dial": ?"([a-z][a-z0-9-]*):(\d+)"', text)]
    # Leading zeros are another spelling of the same port.
    found = {f"{host}:{int(port)}" for host, port in dialled}
    if len(found) > 1:
        raise LabError(f"Caddy dials {', '.join(sorted(found))} by name; the lab's tailnet has one machine, home")
    return found.pop() if found else None


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
