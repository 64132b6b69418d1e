"""Pods at home are what their namespace takes: each rendered chart against the Pod Security Standards."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from components.settings.presets import PRESETS
from lab.read import home
from lab.read.stack import Stack
from tests.unit.security.pods import Object, faults
from tests.unit.security.rules import named

Render = Callable[..., Stack]
LABEL = "pod-security.kubernetes.io/"
OWN = {"name": "own", "image": "docker.io/somebody/server:1.2.3", "model": "own", "paths": ["/v1/own"], "slices": 0}
AS_ROOT = {**OWN, "uid": 0}
MODEL = {"name": "vllm", "preset": "model"}


def deployments(stack: Stack) -> dict[str, tuple[str, Object]]:
    """Name of a service -> its namespace, its pod's spec."""
    found = [item for item in home.objects(stack.resources) if item["kind"] == "Deployment"]
    return {
        item["metadata"]["name"]: (item["metadata"]["namespace"], item["spec"]["template"]["spec"]) for item in found
    }


def levels(stack: Stack) -> dict[str, str]:
    """Namespace -> what it enforces."""
    found = stack.of_type("kubernetes:core/v1:Namespace")
    return {one.inputs["metadata"]["name"]: one.inputs["metadata"]["labels"][f"{LABEL}enforce"] for one in found}


@pytest.mark.parametrize(
    ("services", "level"),
    [
        ([MODEL], "restricted"),
        *(
            ([{"name": name, "preset": name}], "baseline" if PRESETS[name].uid == 0 else "restricted")
            for name in PRESETS
        ),
        ([MODEL, OWN], "restricted"),
        ([MODEL, AS_ROOT], "baseline"),
    ],
    ids=str,
)
def test_each_service_is_what_its_namespace_takes(stack_of: Render, services: list[dict[str, Any]], level: str) -> None:
    entries = services if any(one.get("preset") == "model" for one in services) else [MODEL, *services]
    stack = stack_of(services=entries)
    assert levels(stack) == {"pilotlight": level, "pilotlight-gpu": "privileged"}
    found = deployments(stack)
    assert found.keys() == {one["name"] for one in entries}
    for name, (namespace, pod) in found.items():
        assert faults(pod, levels(stack)[namespace]) == [], name
        assert pod["automountServiceAccountToken"] is False, name


def test_root_is_all_that_baseline_is_for(stack_of: Render) -> None:
    """The one preset that runs as root breaks nothing else of `restricted`."""
    assert [name for name in PRESETS if PRESETS[name].uid == 0] == ["image"]
    _, pod = deployments(stack_of(services=[MODEL, {"name": "image", "preset": "image"}]))["image"]
    assert faults(pod, "restricted") == ["the pod runs as root", "image: runAsNonRoot is not set"]


def test_what_restricted_would_refuse_is_warned_of_and_the_rules_keep_their_version(stack_of: Render) -> None:
    labels = named(stack_of(services=[MODEL, AS_ROOT]), "home-namespace").inputs["metadata"]["labels"]
    assert labels == {
        f"{LABEL}enforce": "baseline",
        f"{LABEL}enforce-version": "v1.36",
        f"{LABEL}warn": "restricted",
        f"{LABEL}warn-version": "v1.36",
    }


def test_only_nvidia_s_plugin_is_where_everything_is_taken(stack_of: Render) -> None:
    """Of its own chart: no capability, and no privilege (both are said, or it would add SYS_ADMIN)."""
    stack = stack_of()
    releases = [one for one in stack.of_type(home.RELEASE) if one.inputs["namespace"] == "pilotlight-gpu"]
    assert [one.name for one in releases] == ["home-device-plugin"]
    values = releases[0].inputs["values"]
    assert (values["migStrategy"], values["deviceListStrategy"]) == ("none", "envvar")
    assert values["gfd"] == {"enabled": False}
    assert not {"compatWithCPUManager", "securityContext"} & set(values)


CONTAINER = "containers.0.securityContext"
PLANTED: list[tuple[str, str, Any, str]] = [
    ("baseline", "hostNetwork", True, "hostNetwork is on"),
    ("baseline", "hostPID", True, "hostPID is on"),
    ("baseline", "volumes.0", {"name": "root", "hostPath": {"path": "/"}}, "volume root is a folder of the machine"),
    ("baseline", f"{CONTAINER}.privileged", True, "vllm: privileged"),
    ("baseline", f"{CONTAINER}.capabilities.add", ["SYS_ADMIN"], "vllm: adds SYS_ADMIN"),
    ("baseline", "securityContext.seccompProfile.type", "Unconfined", "the pod: seccomp is off"),
    ("baseline", f"{CONTAINER}.procMount", "Unmasked", "vllm: /proc is not masked"),
    ("baseline", "securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}], "sysctl kernel.msgmax"),
    ("baseline", "containers.0.ports.0.hostPort", 8000, "vllm: port 8000 of the machine"),
    ("baseline", "initContainers", [{"name": "a", "securityContext": {"privileged": True}}], "a: privileged"),
    ("restricted", "volumes.0", {"name": "share", "nfs": {"path": "/"}}, "volume share is a nfs"),
    ("restricted", "securityContext.runAsUser", 0, "the pod runs as root"),
    ("restricted", "securityContext.runAsNonRoot", False, "vllm: runAsNonRoot is not set"),
    ("restricted", "securityContext.seccompProfile", {}, "vllm: no seccomp profile"),
    ("restricted", f"{CONTAINER}.runAsUser", 0, "vllm: runs as root"),
    ("restricted", f"{CONTAINER}.allowPrivilegeEscalation", True, "vllm: may gain rights (allowPrivilegeEscalation)"),
    ("restricted", f"{CONTAINER}.capabilities.drop", ["NET_RAW"], "vllm: keeps capabilities"),
    ("restricted", f"{CONTAINER}.capabilities.add", ["CHOWN"], "vllm: adds capabilities"),
]


@pytest.mark.parametrize(("level", "path", "value", "told"), PLANTED, ids=[f"{row[1]}={row[2]}" for row in PLANTED])
def test_a_pod_that_a_level_refuses_is_seen(stack_of: Render, level: str, path: str, value: Any, told: str) -> None:
    pod = copy.deepcopy(deployments(stack_of())["vllm"][1])
    *way, last = path.split(".")
    place: Any = pod
    for key in way:
        place = place[int(key) if key.isdigit() else key]
    place[int(last) if last.isdigit() else last] = value
    assert told in faults(pod, level)
    if level == "restricted":
        assert told not in faults(pod, "baseline")
