"""The cluster at home: the pods that the declared Helm releases would run.

Owns: rendering the releases with Helm itself, and reading the pods in them. Does not own: Traefik (`traefik`), starting
processes (`run.lab`), the Kubernetes API that Traefik reads (`run.kubernetes_api`).

Anything that it doesn't know stops the lab by name; `unproven` lists what it leaves out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import helm_python
import yaml

from lab.errors import LabError
from lab.read.stack import ROOT, Resource

RELEASE: Final = "kubernetes:helm.sh/v3:Release"

UNDERSTOOD: Final = {"chart", "name", "namespace", "values"}
"""Inputs of a release that the lab carries out."""
NO_EFFECT: Final = {"atomic", "compat", "description", "repositoryOpts", "skipAwait", "timeout", "version"}
"""Inputs of a release that say how it is installed, not what is."""
KINDS: Final = {"Deployment", "Ingress", "NetworkPolicy", "PersistentVolumeClaim", "Service"}
"""Kinds of objects that the lab knows; `unproven` says what it does not do about them."""
CARD: Final = "pilotlight/gpu"
"""The annotation of a pod that names the machine's card."""
COMPLETIONS: Final = "/v1/completions"
"""A path of the service with the model of every lane, and of no other."""
INGRESS_CLASS: Final = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "traefik", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
    "spec": {"controller": "traefik.io/ingress-controller"},
}
"""The one object K3s' Traefik brings along that its routing needs."""

Object = dict[str, Any]


@dataclass(frozen=True)
class VolumeMount:
    """A folder inside the container, and the kind of volume behind it."""

    path: str
    volume: str
    kind: str
    """`emptyDir`, `memory` or `persistentVolumeClaim`."""


@dataclass(frozen=True)
class Probe:
    """A probe of the kubelet: an HTTP path, or a command inside the container."""

    path: str
    command: tuple[str, ...]
    period_s: int
    timeout_s: int
    failures: int
    grace_s: int
    """Seconds between SIGTERM and SIGKILL after the last failure; 0: the pod's own."""

    @property
    def allowed_s(self) -> int:
        """How long the probe may fail before the kubelet acts, seconds."""
        return self.period_s * self.failures


@dataclass(frozen=True)
class Pod:
    """One declared pod: what to start, and the Service whose endpoint it is."""

    namespace: str
    name: str
    service: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    port: int
    paths: tuple[str, ...]
    """Paths that Traefik leads here, whatever the host."""
    apart: bool
    """Whether it goes to a machine without another pod of its Service only."""
    slices: int
    """Time slices of the GPU that it asks for."""
    card: str
    """The GPU, as the pod's annotation names it; empty: it doesn't."""
    mounts: tuple[VolumeMount, ...]
    startup: Probe
    readiness: Probe
    liveness: Probe
    grace_s: int
    """Seconds between SIGTERM and SIGKILL, less the pause before SIGTERM."""


def objects(resources: Iterable[Resource]) -> list[Object]:
    """Every Kubernetes object the declared local charts render to, in order, and K3s' IngressClass."""
    found: list[Object] = [INGRESS_CLASS]
    for release in _releases(resources):
        if not is_remote(release):
            found += _rendered(release)
    return found


def pods(resources: Iterable[Resource]) -> list[Pod]:
    """The declared pods of the local charts."""
    return pods_of(objects(resources))


def pods_of(found: Sequence[Object]) -> list[Pod]:
    """The pods among rendered objects."""
    return [_pod(item, found) for item in found if item["kind"] == "Deployment"]


def is_remote(release: Resource) -> bool:
    """Whether the chart is downloaded, not one of this repository's own."""
    options = cast(Object, release.inputs.get("repositoryOpts") or {})
    return bool(options.get("repo")) or "://" in release.inputs["chart"]


def _releases(resources: Iterable[Resource]) -> list[Resource]:
    return [resource for resource in resources if resource.type == RELEASE]


def _rendered(release: Resource) -> list[Object]:
    """The objects of one release, rendered by Helm with the release's own values."""
    unknown = sorted({key for key, value in release.inputs.items() if value is not None} - UNDERSTOOD - NO_EFFECT)
    if unknown:
        raise LabError(f"{release.name}: the lab does not know the release input {', '.join(unknown)}")
    inputs = release.inputs
    try:
        with helm_python.Chart.load(ROOT / inputs["chart"]) as chart:
            manifests = chart.render(inputs.get("values") or {}, name=inputs["name"], namespace=inputs["namespace"])
    except helm_python.HelmError as error:
        raise LabError(f"{release.name}: Helm refuses the release: {error}") from error
    found: list[Object] = []
    for path, text in sorted(manifests.items()):
        if path.endswith("NOTES.txt"):
            continue
        # libyaml's parser: PyYAML's own, in Python, takes most of the time that a stack with many services is read in.
        for item in cast(Iterable[Object | None], yaml.load_all(text, yaml.CSafeLoader)):
            if item is None:
                continue
            if item["kind"] not in KINDS:
                raise LabError(f"{release.name}: the lab does not know the kind {item['kind']} ({path})")
            found.append(item)
    return found


def _pod(deployment: Object, rendered: Sequence[Object]) -> Pod:
    name = deployment["metadata"]["name"]
    namespace = deployment["metadata"]["namespace"]
    template = deployment["spec"]["template"]
    spec = template["spec"]
    if len(spec["containers"]) != 1 or deployment["spec"]["replicas"] != 1:
        raise LabError(f"Deployment {name}: the lab starts one process per Deployment")
    container: Object = spec["containers"][0]
    labels = template["metadata"]["labels"]
    fronting = [
        service
        for service in rendered
        if service["kind"] == "Service"
        and service["metadata"]["namespace"] == namespace
        and service["spec"]["selector"].items() <= labels.items()
    ]
    if len(fronting) != 1:
        raise LabError(f"Deployment {name}: {len(fronting)} Services select its pod, the lab needs exactly one")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    target = fronting[0]["spec"]["ports"][0]["targetPort"]
    if target not in (*ports, *ports.values()):
        raise LabError(f"Service {fronting[0]['metadata']['name']}: port {target!r} is not open in the pod of {name}")
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    pause_s: int = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    return Pod(
        namespace=namespace,
        name=name,
        service=fronting[0]["metadata"]["name"],
        image=container["image"],
        command=tuple(container.get("command", ())),
        args=tuple(container.get("args", ())),
        env={item["name"]: item["value"] for item in container.get("env", ())},
        port=ports.get(target, target),
        paths=_paths(fronting[0], rendered),
        apart=_apart(name, spec.get("affinity") or {}, fronting[0]["spec"]["selector"]),
        slices=int(container["resources"]["limits"].get("nvidia.com/gpu", 0)),
        card=template["metadata"].get("annotations", {}).get(CARD, ""),
        mounts=tuple(
            VolumeMount(mount["mountPath"], mount["name"], _volume_kind(name, volumes[mount["name"]]))
            for mount in container["volumeMounts"]
        ),
        startup=_probe(container["startupProbe"], pause_s),
        readiness=_probe(container["readinessProbe"], pause_s),
        liveness=_probe(container["livenessProbe"], pause_s),
        grace_s=spec["terminationGracePeriodSeconds"] - pause_s,
    )


def _apart(pod: str, affinity: Object, service: Mapping[str, str]) -> bool:
    """Whether the pod must be kept from all others behind the Service; the lab knows no other affinity."""
    wanted: list[Object] = [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": service}}]
    if affinity and affinity != {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": wanted}}:
        raise LabError(f"Deployment {pod}: the lab does not know the affinity {affinity}")
    return bool(affinity)


def _paths(service: Object, rendered: Sequence[Object]) -> tuple[str, ...]:
    """Paths of the Ingresses' rules without a host that lead to this Service."""
    here = service["metadata"]
    return tuple(
        path["path"]
        for ingress in rendered
        if ingress["kind"] == "Ingress" and ingress["metadata"]["namespace"] == here["namespace"]
        for rule in ingress["spec"]["rules"]
        if "host" not in rule
        for path in rule["http"]["paths"]
        if path["backend"]["service"]["name"] == here["name"]
    )


def _volume_kind(pod: str, volume: Object) -> str:
    if "persistentVolumeClaim" in volume:
        return "persistentVolumeClaim"
    if "emptyDir" in volume:
        return "memory" if volume["emptyDir"].get("medium") == "Memory" else "emptyDir"
    raise LabError(f"Deployment {pod}: the lab does not know the volume {', '.join(sorted(set(volume) - {'name'}))}")


def _probe(probe: Object, pause_s: int) -> Probe:
    """`pause_s` is the pause before SIGTERM."""
    return Probe(
        path=probe["httpGet"]["path"] if "httpGet" in probe else "",
        command=tuple(probe["exec"]["command"]) if "exec" in probe else (),
        period_s=probe["periodSeconds"],
        timeout_s=probe["timeoutSeconds"],
        failures=probe["failureThreshold"],
        grace_s=max(0, probe.get("terminationGracePeriodSeconds", 0) - pause_s),
    )
