"""What the lab leaves unproven, resource by resource and in a few lines.

Owns: which part of a resource no run on this machine can prove, the group it belongs to, and the wording. Does not own:
carrying a resource out (`plan`, `home`). Pure. A type that nobody has classified gets a group of its own, and a test
names it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lab.read import home, images, vm
from lab.read.cloud_run import SERVICE, has_gpu
from lab.read.model import Served
from lab.read.stack import Resource
from lab.read.traefik import CHART_CONFIG


class Group(StrEnum):
    """What is missing here; the lines of the summary, in this order."""

    GOOGLE = "Google's own services and IAM"
    PACKETS = "packets (firewall, NAT, tailnet policy, NetworkPolicy)"
    TAILNET = "joining the real tailnet"
    GPU = "the GPU, its plugin and real vLLM"
    MACHINES = "disks, weights, answers' quality, machines' speed"
    K3S = "K3s itself"
    PULUMI = "Pulumi's engine and providers"
    UNCLASSIFIED = "types that nobody has classified yet"


@dataclass(frozen=True)
class Unproven:
    """The unproven part of one resource, or of one object that a chart declares."""

    group: Group
    name: str
    missing: str


Row = tuple[Group, str]
_PAPER: Final = "all of it: it is registered, and nothing here behaves like it"
_SOCKS: Final = "joining a tailnet: a SOCKS5 hop stands in for the tunnel and checks"

BY_TYPE: Final[dict[str, Row]] = {
    "gcp:cloudrunv2/job:Job": (Group.MACHINES, "filling the bucket: the lab's weights are another, smaller model"),
    SERVICE: (
        Group.GOOGLE,
        "TLS, Google's front end, an old revision beside the new one, CPU and memory limits, liveness probes, the VPC",
    ),
    "gcp:cloudrunv2/serviceIamMember:ServiceIamMember": (
        Group.GOOGLE,
        "Google's IAM; the lab checks tokens of its own against the declared grant",
    ),
    "gcp:compute/address:Address": (Group.PACKETS, _PAPER),
    "gcp:compute/disk:Disk": (Group.MACHINES, "the disk: the weights are another, smaller model"),
    "gcp:compute/firewall:Firewall": (
        Group.PACKETS,
        "filtering packets; the lab checks that the rule admits the gateway's subnet and the port",
    ),
    "gcp:compute/instance:Instance": (
        Group.MACHINES,
        "booting Container-Optimized OS, cloud-init, docker, its closed way out, the machine's speed, spot stops",
    ),
    "gcp:compute/instanceTemplate:InstanceTemplate": (
        Group.MACHINES,
        "booting Container-Optimized OS, cloud-init, docker, its closed way out, a card's driver, the machine's speed, "
        "spot stops",
    ),
    vm.MANAGERS[0]: (Group.GOOGLE, "making, healing and replacing machines"),
    vm.AUTOSCALERS[0]: (
        Group.GOOGLE,
        "measuring processors: scripted models tell how busy they are, and small real ones never grow",
    ),
    vm.CHECK: (Group.GOOGLE, "asking from Google's addresses, and healing; the lab's own balancer asks as often"),
    vm.BACKEND: (Group.PACKETS, "handing packets on: a process that stands between spreads the connections"),
    vm.RULE: (Group.PACKETS, "the balancer's address and its packets"),
    "gcp:billing/budget:Budget": (Group.GOOGLE, _PAPER),
    "gcp:compute/network:Network": (Group.PACKETS, _PAPER),
    "gcp:compute/router:Router": (Group.PACKETS, _PAPER),
    "gcp:compute/routerNat:RouterNat": (Group.PACKETS, _PAPER),
    "gcp:compute/subnetwork:Subnetwork": (Group.PACKETS, _PAPER),
    "gcp:logging/metric:Metric": (
        Group.GOOGLE,
        "storing points; tests evaluate the filter and the extractors on the lab's own log lines",
    ),
    "gcp:logging/savedQuery:SavedQuery": (Group.GOOGLE, _PAPER),
    "gcp:iam/workloadIdentityPool:WorkloadIdentityPool": (Group.GOOGLE, _PAPER),
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": (Group.GOOGLE, _PAPER),
    "gcp:kms/cryptoKey:CryptoKey": (Group.GOOGLE, _PAPER),
    "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember": (Group.GOOGLE, _PAPER),
    "gcp:kms/keyRing:KeyRing": (Group.GOOGLE, _PAPER),
    "gcp:monitoring/alertPolicy:AlertPolicy": (Group.GOOGLE, _PAPER),
    "gcp:monitoring/dashboard:Dashboard": (
        Group.GOOGLE,
        "drawing; tests evaluate its queries on the lab's own log lines",
    ),
    "gcp:monitoring/notificationChannel:NotificationChannel": (Group.GOOGLE, _PAPER),
    "gcp:monitoring/uptimeCheckConfig:UptimeCheckConfig": (Group.GOOGLE, _PAPER),
    "gcp:projects/iAMMember:IAMMember": (Group.GOOGLE, _PAPER),
    "gcp:projects/service:Service": (Group.GOOGLE, _PAPER),
    "gcp:secretmanager/secret:Secret": (Group.GOOGLE, _PAPER),
    "gcp:secretmanager/secretIamMember:SecretIamMember": (
        Group.GOOGLE,
        "Google's IAM; the lab enforces the declared grants in its own way",
    ),
    "gcp:secretmanager/secretVersion:SecretVersion": (
        Group.GOOGLE,
        "storage and replication; reading it is simulated, with the declared grants enforced",
    ),
    "gcp:serviceaccount/account:Account": (Group.GOOGLE, _PAPER),
    "gcp:serviceaccount/iAMMember:IAMMember": (Group.GOOGLE, _PAPER),
    "gcp:storage/bucket:Bucket": (Group.MACHINES, "the bucket: the lab's weights are another, smaller model"),
    "gcp:storage/bucketIAMMember:BucketIAMMember": (Group.GOOGLE, _PAPER),
    "kubernetes:core/v1:ConfigMap": (Group.GPU, "the device plugin alone reads it, and does not run here"),
    "kubernetes:core/v1:Namespace": (Group.K3S, "names only: all pods are processes of this machine"),
    CHART_CONFIG: (Group.K3S, "K3s' own Helm controller; the lab starts Traefik with the flags it would get"),
    home.RELEASE: (Group.GPU, "the image itself: table 1 of `lab plan` says what answers in its place"),
    "pulumi:providers:gcp": (Group.PULUMI, "asking the billing account's API in the project's name"),
    "pulumi:providers:kubernetes": (Group.PULUMI, "reaching the cluster: the lab renders the charts itself"),
    "random:index/randomPassword:RandomPassword": (
        Group.PULUMI,
        "the provider; the lab draws a key as declared, another each time",
    ),
    "pulumi:index:Stash": (
        Group.PULUMI,
        "what the state remembers of the first `up`: the policy before, project and region",
    ),
    "tailscale:index/acl:Acl": (Group.PACKETS, "the policy: nothing is filtered here"),
    "tailscale:index/federatedIdentity:FederatedIdentity": (Group.TAILNET, f"{_SOCKS} subject and audience only"),
    "tailscale:index/tailnetKey:TailnetKey": (Group.TAILNET, f"{_SOCKS} only that the key is this one"),
}
"""By the exact type token. A component (`pilotlight:…`) has no row: it is its children."""
BURST: Final[Row] = (
    Group.GPU,
    "the GPU, vLLM and a real cold start; Google's front end, when it adds an instance, limits and liveness probes",
)
BY_KIND: Final[dict[str, Row]] = {
    "Deployment": (Group.K3S, "what it keeps of memory and processors, its limit, and on which machine it runs"),
    "NetworkPolicy": (Group.PACKETS, "not enforced: the lab's processes share one loopback"),
    "PersistentVolumeClaim": (Group.MACHINES, "a folder of the lab, without a size limit"),
}
"""Kinds of objects in the declared charts that are more than what their release says."""
CARRIED_OUT: Final = {"Ingress", "IngressClass", "Service"}
"""Kinds of which nothing else is left to say."""


def read(resources: Sequence[Resource]) -> Iterator[Unproven]:
    """The full list: every recorded resource once, then what the declared charts bring along."""
    for resource in resources:
        if not resource.type.startswith("pilotlight:"):
            yield _unproven(f"{resource.name} ({resource.type.rsplit(':', 1)[-1]})", _row(resource))
    objects = home.objects(resources)
    for item in objects:
        if item["kind"] not in CARRIED_OUT:
            yield _unproven(f"{item['metadata']['name']} ({item['kind']})", BY_KIND.get(item["kind"]))
    for pod in home.pods_of(objects):
        if reason := images.why_not(pod.image):
            yield _unproven(f"home/{pod.name} ({pod.image})", (Group.GPU, f"not run, {reason}"))


def of_models(models: Mapping[str, Served]) -> Iterator[Unproven]:
    """What no lane shows of its model here."""
    for lane, served in models.items():
        name = f"{lane}/{served.preset or served.weights}"
        yield Unproven(
            Group.MACHINES, name, "its weights, the quality of its answers, and that it fits: a smaller model answers"
        )


def _unproven(name: str, row: Row | None) -> Unproven:
    group, missing = row or (Group.UNCLASSIFIED, _PAPER)
    return Unproven(group, name, missing)


def _row(resource: Resource) -> Row | None:
    if resource.type == SERVICE:
        return (
            BURST if has_gpu(resource.inputs) else _gateway(resource.inputs["template"]["scaling"]["maxInstanceCount"])
        )
    if resource.type == home.RELEASE and home.is_remote(resource):
        return Group.GPU, f"chart {resource.inputs['chart']} is downloaded, and needs a GPU node"
    return BY_TYPE.get(resource.type)


def _gateway(instances: int) -> Row:
    group, missing = BY_TYPE[SERVICE]
    one_of = f", any but the first of up to {instances} instances: the lab runs one, with its share of every lane"
    return group, missing + (one_of if instances > 1 else "")


def summary(found: Sequence[Unproven]) -> list[str]:
    """At most ten lines: each group with its count and an example."""
    lines = ["not proven on this machine:"]
    for group, members in _grouped(found):
        # The one with the most to say.
        example = max(members, key=lambda one: (one.missing != _PAPER, len(one.missing)))
        lines.append(f"{len(members):4} {group}, e.g. {example.name.partition(' ')[0]}")
    return [*lines, "the full list: `python -m lab plan`"]


def full(found: Sequence[Unproven]) -> list[str]:
    """Every entry on a line of its own, under its group."""
    lines = ["not proven here, resource by resource:"]
    for group, members in _grouped(found):
        lines += ["", f"{len(members)} {group}", *(f"   {one.name}: {one.missing}" for one in members)]
    return lines


def _grouped(found: Sequence[Unproven]) -> Iterator[tuple[Group, list[Unproven]]]:
    for group in Group:
        if members := [one for one in found if one.group is group]:
            yield group, members
