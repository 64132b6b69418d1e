"""Which resources a setting changes: it gets another value, and what the program registers then is compared.

Owns: the other values, the comparison, and how a difference is told. Does not own: the table it stands in
(`settings_table`).

The stack compared has every lane, an address for alerts, a budget, a repository that delivers it, and one service
beside the default one, so that each setting has something to change. Whether a provider replaces a resource is no part
of an SDK: `REPLACES` and `IN_PLACE` say it for every input that a setting changes, read in the providers' sources, and
an input in neither is an error.
"""

import functools
import json
import multiprocessing
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import EnumType
from ipaddress import IPv4Address
from typing import Any, Final, cast

from pydantic.fields import FieldInfo

from components.settings.reading import read
from components.settings.section import SettingsError
from lab.read.cloud import Cloud
from lab.read.stack import Resource, Stack, config_of, render
from tests.golden.settings_table import fields

REPLACES: Final[Mapping[str, tuple[str, ...]]] = {
    # terraform-provider-google-beta 7.45, which pulumi-gcp bridges: `ForceNew` in resource_compute_instance.go,
    # resource_compute_disk.go and resource_secret_manager_secret_version.go under google-beta/services.
    "gcp:compute/disk:Disk": ("zone", "type"),
    "gcp:compute/instance:Instance": (
        "zone",
        "bootDisk",
        "scheduling.preemptible",
        "scheduling.provisioningModel",
        "guestAccelerators",
    ),
    # A template never changes; a group's zones are fixed when it is made (resource_compute_instance_template.go.tmpl,
    # resource_compute_region_instance_group_manager.go.tmpl).
    "gcp:compute/instanceTemplate:InstanceTemplate": (
        "disks",
        "guestAccelerators",
        "machineType",
        "metadata",
        "name",
        "scheduling",
    ),
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": ("distributionPolicyZones", "name"),
    "gcp:secretmanager/secretVersion:SecretVersion": ("secretData",),
    # resource_billing_budget.go: `ForceNew`.
    "gcp:billing/budget:Budget": ("billingAccount",),
    # pulumi-kubernetes 4.33, provider/pkg/provider: diff.go (`metadataForceNewProperties`), helm_release.go (`Diff`).
    "kubernetes:core/v1:ConfigMap": ("metadata.namespace",),
    "kubernetes:core/v1:Namespace": ("metadata.name",),
    "kubernetes:helm.sh/v3:Release": ("namespace",),
    # terraform-provider-tailscale, tailscale/resource_tailnet_key.go: `RequiresReplace`.
    "tailscale:index/tailnetKey:TailnetKey": ("expiry",),
}
"""Inputs whose change makes the provider replace the resource, and all below them. What a resource's own
`replaceOnChanges` names comes on top."""
IN_PLACE: Final[Mapping[str, tuple[str, ...]]] = {
    "gcp:billing/budget:Budget": ("amount",),
    "gcp:cloudrunv2/job:Job": ("startExecutionToken", "template"),
    "gcp:cloudrunv2/service:Service": ("template",),
    # Growing only, and it only grows: the provider replaces a disk that shrinks (`ForceNewIfChange` of `size`).
    "gcp:compute/disk:Disk": ("size",),
    "gcp:compute/firewall:Firewall": ("sourceRanges",),
    # The machine stops and starts again (`allowStoppingForUpdate`).
    "gcp:compute/instance:Instance": ("attachedDisks", "machineType", "scheduling"),
    "gcp:compute/regionBackendService:RegionBackendService": ("backends", "connectionDrainingTimeoutSec"),
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": (
        "distributionPolicyTargetShape",
        "instanceLifecyclePolicy",
        "targetSize",
        "updatePolicy",
        "versions",
    ),
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": ("attributeCondition",),
    "gcp:monitoring/alertPolicy:AlertPolicy": ("conditions", "documentation"),
    "gcp:monitoring/dashboard:Dashboard": ("dashboardJson",),
    "gcp:monitoring/notificationChannel:NotificationChannel": ("labels",),
    "kubernetes:core/v1:ConfigMap": ("data",),  # `enable_config_map_mutable`
    "kubernetes:core/v1:Namespace": ("metadata.labels",),
    "kubernetes:helm.cattle.io/v1:HelmChartConfig": ("spec",),
    "kubernetes:helm.sh/v3:Release": ("values",),
    "pulumi:providers:kubernetes": ("kubeconfig",),  # `cluster_identifier`
    "tailscale:index/acl:Acl": ("acl", "resetAclOnDestroy"),
}
"""Inputs whose change updates the resource."""
SECRET_VERSION: Final = "gcp:secretmanager/secretVersion:SecretVersion"
ADDRESS: Final = "gcp:compute/address:Address"
FRESH: Final = {
    SECRET_VERSION: "version",
    ADDRESS: "address",
    "random:index/randomPassword:RandomPassword": "result",
    "tailscale:index/tailnetKey:TailnetKey": "key",
}
"""Outputs that are others for other inputs, and the same for the same: what takes them changes with the resource."""
QUIET: Final = ("gcp:secretmanager/", "gcp:serviceaccount/", "gcp:projects/", "gcp:storage/bucketIAMMember:")
"""Counted and not named: what stands beside another resource and changes with it."""
MOST_NAMED: Final = {"replaces": 9, "changes": 6, "adds": 3, "removes": 3}

BASE: Final[Mapping[str, Any]] = {
    "lanes": ["home", "burst", "vm"],
    "alerts": {"email": "me@example.com"},
    "budget": {"per_month": 100, "billing_account": "012345-6789AB-CDEF01"},
    "delivery": {"repository": "me/pilotlight"},
    "services": [
        {"name": "vllm", "preset": "model"},
        {
            "name": "ears",
            "image": "registry.example/ears:1.2.3",
            "model": "ears",
            "paths": ["/v1/audio/transcriptions"],
            "gpu_memory": "2GiB",
        },
    ],
}
Patch = Mapping[str, Any]
"""Dotted names of settings, with a number for a list's entry -> value."""
_MEASURED: Final[Patch] = {
    "vm.speed": {"prompt": 90, "picture": 80, "answer": 20},
    "vm.machine_type": "t2d-standard-8",
    "vm.spot": True,
}
"""A machine's speed is told with its name."""
_WEIGHTS: Final[Patch] = {
    "model.weights": "Qwen/Other",
    "model.revision": "0" * 40,
    "model.weights_bytes": 8_000_000_000,
}
"""A repository is told with its commit and its size."""
_SOON: Final = f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}"
_OLD_KEY: Final[Patch] = {
    "clients.0.generation": 2,
    "old_keys.0": {"client": "demo", "generation": 1, "until": _SOON},
}
"""With the new key that replaces it."""
_EMBEDS: Final = {
    "name": "embed",
    "preset": "embeddings",
    "weights": "Qwen/Other",
    "weights_bytes": 1_500_000_000,
}
"""The same of a service."""
_GGUF: Final = {"url": "https://weights.example/other.gguf", "sha256": "0" * 64, "bytes": 4_000_000_000}
_SHAPE: Final = {
    "layers": 36,
    "kv_heads": 8,
    "head_size": 128,
    "parameters": 8_000_000_000,
    "vision_parameters": 600_000_000,
    "context_tokens": 32_768,
}
OTHER: Final[Mapping[str, Patch]] = {
    "clients[]": {"clients.1": {"name": "robot"}},
    "clients[].name": {"clients.0.name": "robot"},
    "clients[].key": {"clients.0.key": "sk-of-the-clients-own-0123456789abcdefghijklmn"},
    "clients[].generation": {"clients.0.generation": 2},
    "old_keys[]": _OLD_KEY,
    "old_keys[].client": _OLD_KEY,
    "old_keys[].generation": _OLD_KEY,
    "old_keys[].key": {"old_keys.0": {"client": "demo", "key": "sk-of-before-0123456789abcdefgh", "until": _SOON}},
    "old_keys[].until": _OLD_KEY,
    "clients[].priority": {"clients.0.priority": "high"},
    "clients[].lanes": {"clients.0.lanes": ["home"]},
    "clients[].max_requests": {"clients.0.max_requests": 4},
    "lanes": {"lanes": ["home", "vm"]},
    "burst.memory_gib": {"burst.memory_gib": 24, "burst.cpu": 8},
    "model.preset": {"model.preset": "qwen2.5-vl-3b"},
    "model.name": {"model.name": "some/name"},
    "model.aliases": {"model.aliases": ["gpt-4o"]},
    "model.images_per_prompt": {"model.images_per_prompt": 2, "lanes": ["home", "burst"]},
    "model.context_tokens": {"model.context_tokens": 8192},
    "model.image_max_pixels": {"model.image_max_pixels": 802_816},
    "model.weights": _WEIGHTS,
    "model.revision": {"model.revision": "0" * 40},
    "model.weights_bytes": {"model.weights_bytes": 8_000_000_000},
    "model.gguf": {"model.gguf": _GGUF},
    "model.gguf.url": {"model.gguf": _GGUF},
    "model.gguf.sha256": {"model.gguf": _GGUF},
    "model.gguf.bytes": {"model.gguf": _GGUF},
    "model.projector": {"model.projector": _GGUF},
    "model.projector.url": {"model.projector": _GGUF},
    "model.projector.sha256": {"model.projector": _GGUF},
    "model.projector.bytes": {"model.projector": _GGUF},
    "model.tool_parser": {"model.tool_parser": "xlam"},
    "model.reasoning_parser": {"model.reasoning_parser": "qwen3"},
    "model.chat_template": {"model.chat_template": "{{ messages }}"},
    "model.vision": {"model.vision": False},
    "model.picture_side": {"model.picture_side": 32},
    "model.shape": {"model.shape": _SHAPE},
    "model.shape.layers": {"model.shape": _SHAPE},
    "model.shape.kv_heads": {"model.shape": _SHAPE},
    "model.shape.head_size": {"model.shape": _SHAPE},
    "model.shape.parameters": {"model.shape": _SHAPE},
    "model.shape.vision_parameters": {"model.shape": _SHAPE},
    "model.shape.context_tokens": {"model.shape": _SHAPE | {"context_tokens": 16384}},
    "gateway.wait_s": {"gateway.wait_s": 100},
    "gateway.cors_origins": {"gateway.cors_origins": ["https://app.example.com"]},
    "gateway.short_kib": {"gateway.short_kib": 8},
    "gateway.text_kib": {"gateway.text_kib": 128},
    "vm.zone": {"vm.zone": "us-central1-c"},
    "vm.machine_type": {"vm.machine_type": "t2d-standard-4"},
    "vm.spot": {"vm.spot": False},
    "vm.gpu": {"vm.gpu": "t4", "vm.spot": True},
    "vm.speed": _MEASURED,
    "vm.speed.prompt": _MEASURED,
    "vm.speed.picture": _MEASURED,
    "vm.speed.answer": _MEASURED,
    "vm.image": {"vm.image": "ghcr.io/ggml-org/llama.cpp:server-b11347"},
    "vm.max_replicas": {"vm.max_replicas": 2},
    "home.owner": {"home.owner": False, "kubeconfig": None},
    "home.nic": {"home.nic": "enp5s0"},
    "home.gpu": {"home.gpu": "nvidia-l4"},
    "home.gpu_memory": {"home.gpu_memory": "32GiB"},
    "home.cpus": {"home.cpus": 16},
    "home.memory_gib": {"home.memory_gib": 62},
    "services[]": {"services.2": {"name": "speech", "preset": "tts"}},
    "services[].name": {"services.1.name": "listening"},
    "services[].preset": {"services.1.preset": "image"},
    "services[].image": {"services.1.image": "registry.example/ears:1.2.4"},
    "services[].args": {"services.1.args": ["--quiet"]},
    "services[].env": {"services.1.env": {"QUIET": "1"}},
    "services[].model": {"services.1.model": "other"},
    "services[].weights": {"services.2": _EMBEDS},
    "services[].weights_bytes": {"services.2": _EMBEDS},
    "services[].paths": {"services.1.paths": ["/v1/audio"]},
    "services[].slices": {"services.1.slices": 0, "services.1.gpu_memory": None},
    "services[].gpu_memory": {"services.0.gpu_memory": "13GiB"},
    "services[].cpus": {"services.1.cpus": 2.5},
    "services[].memory_gib": {"services.1.memory_gib": 6},
    "services[].max_requests": {"services.1.max_requests": 3},
    "services[].cache_gib": {"services.1.cache_gib": 30},
    "services[].port": {"services.1.port": 9000},
    "services[].health": {"services.1.health": "/ready"},
    "services[].uid": {"services.1.uid": 1001},
    "tailnet.policy_file": {"tailnet.policy_file": "tests/golden/policy.hujson"},
    "tailnet.owners": {"tailnet.owners": ["me@example.com"]},
    "tailnet.ci_repository": {"tailnet.ci_repository": "me/pilotlight"},
    "tailnet.key_expiry_days": {"tailnet.key_expiry_days": 30},
    "delivery.repository": {"delivery.repository": "me/other"},
    "delivery.repository_id": {"delivery.repository_id": 123456789},
    "delivery.environments": {"delivery.environments": ["dev", "prod"]},
    "alerts.email": {"alerts.email": "you@example.com"},
    "budget.per_month": {"budget.per_month": 200},
    "budget.billing_account": {"budget.billing_account": "012345-6789AB-000000"},
    "kubeconfig": {
        "kubeconfig": Cloud(port=8787, kubernetes_url="http://127.0.0.1:6444").config()["pilotlight:kubeconfig"]
    },
}
"""Another value for the settings whose type alone doesn't give one; of two, the second is what the first demands."""
_CLOUD: Final = Cloud(port=8787, auth_key="tskey-auth-golden")


class UnknownEffectError(AssertionError):
    """A setting whose effect can't be told: the message says what to look up, and where to write it."""


@dataclass(frozen=True)
class Change:
    """What becomes of one resource, as `pulumi preview` would say it."""

    kind: str
    """`replaces`, `changes`, `adds` or `removes`."""
    type: str
    name: str


def effects() -> dict[str, str]:
    """What each setting changes, by name, as the table tells it. Two at a time: it takes half a minute."""
    names = [name for name, _, is_group in fields() if not is_group or name in OTHER]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip(names, pool.map(effect, names, chunksize=8), strict=True))


def effect(name: str) -> str:
    """What one setting changes."""
    before, after = base(), _rendered(other(name))
    outputs = sorted(
        output for output in before.outputs.keys() | after.outputs.keys()
        if before.outputs.get(output) != after.outputs.get(output)
    )  # fmt: skip
    return told(changes(before, after), outputs)


def other(name: str) -> Patch:
    """The setting with another value, one that the rules accept."""
    if name in OTHER:
        return OTHER[name]
    [field] = [field for known, field, _ in fields() if known == name]
    for value in _candidates(field):
        try:
            read(_config({name: value}), stack="dev")
        except SettingsError:
            continue
        return {name: value}
    raise UnknownEffectError(f"{name}: its type gives no other value that the rules accept; add one to `OTHER`")


def _candidates(field: FieldInfo) -> Iterator[Any]:
    default, kind = field.default, field.annotation
    if isinstance(kind, EnumType):
        yield from (member.value for member in cast(Any, kind) if member is not default)
    elif isinstance(default, bool):
        yield not default
    elif isinstance(default, int | float):
        yield from (default + 1, default - 1, 2 * default, default / 2)
    elif isinstance(default, str):
        yield f"{default}-other"


@functools.cache
def base() -> Stack:
    """The stack as it is before any setting changes."""
    return _rendered({})


def _rendered(patch: Patch) -> Stack:
    return render("dev", _config(patch), _computed)


def _computed(token: str, inputs: dict[str, Any], before: Sequence[Resource]) -> dict[str, Any]:
    found = _CLOUD.compute(token, inputs, before)
    if output := FRESH.get(token):
        digest = zlib.crc32(json.dumps(inputs, sort_keys=True).encode())
        found[output] = str(IPv4Address(digest)) if token == ADDRESS else f"{output}-{digest}"
    return found


def _config(patch: Patch) -> dict[str, str]:
    """Pulumi's config of the stack compared, with the patch: None takes a whole key out."""
    own = {f"pilotlight:{key}": json.dumps(value) for key, value in BASE.items()}
    config = {**_CLOUD.config(), **config_of("dev"), **own}
    values = read(config, stack="dev").model_dump(mode="json") if patch else {}
    for name, value in patch.items():
        key, *path = name.split(".")
        whole = values[key] = _put(values[key], path, value)
        if whole is None:
            del config[f"pilotlight:{key}"]
        else:
            config[f"pilotlight:{key}"] = whole if key == "kubeconfig" else json.dumps(whole)
    return config


def _put(tree: Any, path: list[str], value: Any) -> Any:
    """`tree` with the value at the path; a number one past a list's end appends."""
    if not path:
        return value
    first, *rest = path
    if isinstance(tree, list):
        items, number = cast(list[Any], tree), int(first)
        inner = items[number] if number < len(items) else None
        return [*items[:number], _put(inner, rest, value), *items[number + 1 :]]
    mapping = cast(dict[str, Any], tree)
    return mapping | {first: _put(mapping.get(first), rest, value)}


def changes(before: Stack, after: Stack) -> list[Change]:
    """What an update would do to each resource, without the components, which are folders."""
    old, new = _by_key(before), _by_key(after)
    found: list[Change] = []
    for key in sorted(old.keys() | new.keys()):
        if key not in old or key not in new:
            found.append(Change("adds" if key in new else "removes", *key))
        elif kind := _kind(old[key], new[key]):
            found.append(Change(kind, *key))
    return found


def _by_key(stack: Stack) -> dict[tuple[str, str], Resource]:
    return {(resource.type, resource.name): resource for resource in stack.resources
            if not resource.type.startswith("pilotlight:")}  # fmt: skip


def _kind(old: Resource, new: Resource) -> str:
    """`replaces` or `changes`, empty if all is as it was."""
    ignored = tuple(new.options.get("ignoreChanges", ()))
    paths = [path for path in _different(old.inputs, new.inputs) if not _below(path, ignored)]
    kept = {option: value for option, value in old.options.items() if option != "dependsOn"}
    if not paths:
        same = kept == {option: value for option, value in new.options.items() if option != "dependsOn"}
        return "" if same else "changes"
    forced = (*REPLACES.get(new.type, ()), *new.options.get("replaceOnChanges", ()))
    kinds = {"replaces" if _below(path, forced) else _in_place(path, new.type) for path in paths}
    return "replaces" if "replaces" in kinds else "changes"


def _in_place(path: str, token: str) -> str:
    if not _below(path, IN_PLACE.get(token, ())):
        raise UnknownEffectError(
            f"{token} {path}: whether the provider replaces the resource is not known. Look it up in the provider's "
            + f"source and add it to `REPLACES` or `IN_PLACE` in {__file__}"
        )
    return "changes"


def _below(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root}.") for root in roots)


def _different(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Dotted paths where two inputs differ; a list is one value."""
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast(dict[str, Any], old), cast(dict[str, Any], new)
        for key in sorted(before.keys() | after.keys()):
            yield from _different(before.get(key), after.get(key), f"{path}.{key}".lstrip("."))
    elif old != new:
        yield path


def told(found: list[Change], outputs: list[str]) -> str:
    """The changes in the table's words: names as in `pulumi preview`, what only stands beside them as a number."""
    parts: list[str] = []
    for kind, most in MOST_NAMED.items():
        mine = [change for change in found if _word(change) == kind]
        loud = [change for change in mine if not change.type.startswith(QUIET)] or mine
        if mine:
            rest = f" +{len(mine) - most}" if len(loud) > most else f" +{len(mine) - len(loud)}"
            names = ", ".join(f"`{change.name}`" for change in loud[:most])
            parts.append(f"{f'**{kind}**' if kind == 'replaces' else kind} {names}{rest.replace(' +0', '')}")
    if outputs:
        parts.append(f"output{'s' if len(outputs) > 1 else ''} {', '.join(f'`{name}`' for name in outputs)}")
    return "; ".join(parts) or "nothing"


def _word(change: Change) -> str:
    """A secret's new version is how a changed text gets to its reader: nothing that served is gone."""
    return "changes" if change.type == SECRET_VERSION and change.kind == "replaces" else change.kind
