"""The burst lane: what is declared, its container's start, and the weights job's script, run for real on loopback."""

import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import pulumi
import pytest
from pulumi.runtime import set_mocks
from pulumi.runtime import stack as pulumi_stack
from pulumi.runtime.settings import set_root_resource

from components import google_apis, next_steps
from components.burst import container as server
from components.burst import fetch_weights, weights
from components.burst.service import Burst
from components.models.catalogue import STANDARD
from components.network import Network
from components.settings import Lane, Settings, rules
from components.settings.section import SettingsError
from lab.read.cloud import Cloud
from lab.read.stack import Resource, Stack, _NoMocks, _RecordingMonitor  # pyright: ignore[reportPrivateUsage]
from tests.unit.own_model import VISION, own_model

Make = Callable[..., Settings]
Plant = Callable[[Stack, str, str, Any], Stack]
Extra = Callable[..., Stack]
Check = Callable[[Stack], None]
MODES = pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
CALLER = "serviceAccount:pilotlight-dev-gateway@some-project.iam.gserviceaccount.com"
BUCKET_IAM = "gcp:storage/bucketIAMMember:BucketIAMMember"
SERVICE_IAM = "gcp:cloudrunv2/serviceIamMember:ServiceIamMember"
REVISION = STANDARD.model.revision
SETTINGS = Settings(stack="dev", project="some-project", region="us-central1", lanes=tuple(Lane))
OTHER = "b" * 40


def declared(settings: Settings, *, preview: bool = False) -> Stack:
    """What the component registers in its network, with one caller let in."""
    monitor = _RecordingMonitor(Cloud(port=8787).compute, preview=preview)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    set_mocks(_NoMocks(), project="pilotlight", stack="dev", preview=preview, monitor=monitor)
    set_root_resource(cast(Any, None))

    def program() -> None:
        network = Network("network", settings)
        burst = Burst("burst", settings, network=network.burst_id, subnet=network.burst_subnet)
        burst.allow(CALLER)
        pulumi.export("url", burst.url)

    try:
        loop.run_until_complete(pulumi_stack.run_in_stack(program))
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    return Stack("dev", monitor.recorded, monitor.stack_outputs)


@pytest.fixture(scope="module")
def burst(settings_of: Make) -> Stack:
    """The default burst lane."""
    return declared(settings_of(lanes=["burst", "vm"]))


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource


def service(stack: Stack) -> dict[str, Any]:
    return named(stack, "burst-service").inputs


def container(stack: Stack) -> dict[str, Any]:
    [only] = service(stack)["template"]["containers"]
    return only


def job(stack: Stack) -> dict[str, Any]:
    return named(stack, "burst-weights-job").inputs


# --- what is declared -------------------------------------------------------------------------------------------------


@MODES
def test_exactly_these_resources_are_registered(settings_of: Make, preview: bool) -> None:
    stack = declared(settings_of(lanes=["burst", "vm"]), preview=preview)
    assert {(r.name, r.type, r.parent) for r in stack.resources if not r.name.startswith("network")} == {
        ("burst", "pilotlight:gcp:Burst", "pilotlight-dev"),
        ("burst-account", "gcp:serviceaccount/account:Account", "burst"),
        ("burst-service", "gcp:cloudrunv2/service:Service", "burst"),
        ("burst-invoker", SERVICE_IAM, "burst"),
        ("burst-weights", "pilotlight:gcp:WeightStore", "burst"),
        ("burst-weights-bucket", "gcp:storage/bucket:Bucket", "burst-weights"),
        ("burst-weights-account", "gcp:serviceaccount/account:Account", "burst-weights"),
        ("burst-weights-reader", BUCKET_IAM, "burst-weights"),
        ("burst-weights-writer", BUCKET_IAM, "burst-weights"),
        ("burst-weights-script", "gcp:secretmanager/secret:Secret", "burst-weights"),
        ("burst-weights-script-version", "gcp:secretmanager/secretVersion:SecretVersion", "burst-weights"),
        ("burst-weights-script-reader", "gcp:secretmanager/secretIamMember:SecretIamMember", "burst-weights"),
        ("burst-weights-job", "gcp:cloudrunv2/job:Job", "burst-weights"),
    }


def test_the_url_is_the_services_own(burst: Stack) -> None:
    assert burst.outputs["url"] == "http://127.0.0.1:8788"
    component = named(burst, "burst")
    assert component.type == "pilotlight:gcp:Burst"


def test_a_stack_without_the_lane_has_nothing_of_it(stack_of: Callable[..., Stack], settings_of: Make) -> None:
    stack = stack_of()
    found = {r.name for r in stack.resources if "burst" in r.name.lower() or "bucket" in r.type or "job" in r.type}
    assert found == {"network-burst-vpc", "network-burst-subnet"}, "the network alone stands for every choice"
    assert "storage" not in google_apis.needed(settings_of())
    assert {"compute", "storage"} <= set(google_apis.needed(settings_of(lanes=["burst"])))
    both = google_apis.needed(settings_of(lanes=["burst", "vm"]))
    assert len(both) == len(set(both))


def test_the_longest_names_fit(settings_of: Make) -> None:
    """Google: 30 characters for an account, 63 for a bucket, 62 for a job and its execution's suffix."""
    longest = settings_of(lanes=["burst"]).model_dump() | {"stack": "a" * 11, "project": "p" * 30}
    stack = declared(Settings.model_validate(longest))
    for resource in stack.of_type("gcp:serviceaccount/account:Account"):
        assert len(resource.inputs["accountId"]) <= 30
    assert len(named(stack, "burst-weights-bucket").inputs["name"]) <= 63
    assert len(job(stack)["name"]) + len(job(stack)["startExecutionToken"]) < 63


# --- safety rules: each is run on the true stack and on one that breaks it --------------------------------------------


def check_only_the_caller_gets_in(stack: Stack) -> None:
    assert service(stack)["invokerIamDisabled"] is False
    grants = [(r.inputs["role"], r.inputs["member"]) for r in stack.of_type(SERVICE_IAM)]
    assert grants == [("roles/run.invoker", CALLER)]
    assert {r.type for r in stack.resources if "iam" in r.type.lower()} == {
        SERVICE_IAM,
        BUCKET_IAM,
        "gcp:secretmanager/secretIamMember:SecretIamMember",
    }
    for resource in stack.resources:
        assert resource.inputs.get("member") not in ("allUsers", "allAuthenticatedUsers"), resource.name


def check_weights_are_read_by_the_one_and_written_by_the_other(stack: Stack) -> None:
    reader, writer = (named(stack, name).outputs for name in ("burst-account", "burst-weights-account"))
    bucket = named(stack, "burst-weights-bucket").inputs
    grants = {(r.inputs["bucket"], r.inputs["role"], r.inputs["member"]) for r in stack.of_type(BUCKET_IAM)}
    assert grants == {
        (bucket["name"], "roles/storage.objectViewer", reader["member"]),
        (bucket["name"], "roles/storage.objectUser", writer["member"]),
    }
    assert service(stack)["template"]["serviceAccount"] == reader["email"]
    assert job(stack)["template"]["template"]["serviceAccount"] == writer["email"]
    [volume] = service(stack)["template"]["volumes"]
    assert volume["gcs"]["bucket"] == bucket["name"]
    assert volume["gcs"]["readOnly"] is True


def check_the_bucket_is_private(stack: Stack) -> None:
    bucket = named(stack, "burst-weights-bucket").inputs
    assert bucket["publicAccessPrevention"] == "enforced"
    assert bucket["uniformBucketLevelAccess"] is True


def check_the_bucket_keeps_nothing_twice(stack: Stack) -> None:
    bucket = named(stack, "burst-weights-bucket").inputs
    assert bucket["versioning"] == {"enabled": False}
    assert bucket["softDeletePolicy"] == {"retentionDurationSeconds": 0}
    assert bucket["location"] == "US-CENTRAL1"


def check_destroy_removes_all(stack: Stack) -> None:
    assert service(stack)["deletionProtection"] is False
    assert job(stack)["deletionProtection"] is False
    assert named(stack, "burst-weights-bucket").inputs["forceDestroy"] is True


def check_costs_nothing_idle(stack: Stack) -> None:
    template = service(stack)["template"]
    assert template["scaling"] == {"minInstanceCount": 0, "maxInstanceCount": 1}
    assert template["gpuZonalRedundancyDisabled"] is True
    assert "livenessProbe" not in container(stack)


def check_a_gpu_as_cloud_run_gives_it(stack: Stack) -> None:
    template = service(stack)["template"]
    assert template["executionEnvironment"] == "EXECUTION_ENVIRONMENT_GEN2"
    assert template["nodeSelector"] == {"accelerator": "nvidia-l4"}
    resources = container(stack)["resources"]
    assert resources["limits"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
    assert resources["cpuIdle"] is False


def check_no_request_is_cut_or_queued_inside(stack: Stack) -> None:
    template = service(stack)["template"]
    assert template["timeout"] == "300s"
    arguments = container(stack)["args"]
    assert int(arguments[arguments.index("--max-num-seqs") + 1]) == 16
    assert template["maxInstanceRequestConcurrency"] == 16 + 1, "the pilot's look beside the callers' requests"


def check_a_deployment_waits_for_no_weights(stack: Stack) -> None:
    """Neither for the job, nor for an instance, which can't start before the job is through."""
    assert service(stack)["template"]["healthCheckDisabled"] is True
    assert job(stack)["startExecutionToken"]
    assert "runExecutionToken" not in job(stack)
    assert "burst-weights-job" not in named(stack, "burst-service").options["dependsOn"]


def check_the_engine_reaches_google_alone(stack: Stack) -> None:
    """All that leaves goes into a VPC with Private Google Access, which nothing leads out of and nothing else is in."""
    vpc, subnet = (named(stack, f"network-burst-{name}") for name in ("vpc", "subnet"))
    access = service(stack)["template"]["vpcAccess"]
    assert access["egress"] == "ALL_TRAFFIC"
    assert access["networkInterfaces"] == [{"network": vpc.outputs["id"], "subnetwork": subnet.outputs["id"]}]
    assert subnet.inputs["network"] == vpc.outputs["id"]
    assert subnet.inputs["region"] == service(stack)["location"]
    assert subnet.inputs["privateIpGoogleAccess"] is True
    assert vpc.inputs["autoCreateSubnetworks"] is False
    assert [r.name for r in stack.resources if r.inputs.get("network") == vpc.outputs["id"]] == [subnet.name]


def check_what_is_read_ahead_is_what_is_asked_next(stack: Stack) -> None:
    """Read-ahead fetches in vain for whoever jumps: others' mapped files loaded half as fast with it."""
    [volume] = service(stack)["template"]["volumes"]
    assert "enable-buffered-read=true" in volume["gcs"]["mountOptions"]
    arguments = container(stack)["args"]
    assert arguments[arguments.index("--safetensors-load-strategy") + 1] == "eager"


def check_grants_come_first(stack: Stack) -> None:
    assert "burst-weights-reader" in named(stack, "burst-service").options["dependsOn"]
    first = set(named(stack, "burst-weights-job").options["dependsOn"])
    assert first >= {"burst-weights-writer", "burst-weights-script-reader"}


def check_no_key(stack: Stack) -> None:
    """vLLM has no key of its own: IAM stands before it, and a key in its environment could be read."""
    assert {env["name"] for env in container(stack)["envs"]} == set(server.environment(SETTINGS))
    assert "--api-key" not in container(stack)["args"]
    for env in container(stack)["envs"]:
        assert "valueSource" not in env


SAFETY: list[tuple[Check, str, str, Any]] = [
    (check_only_the_caller_gets_in, "burst-service", "inputs.invokerIamDisabled", True),
    (check_only_the_caller_gets_in, "burst-invoker", "inputs.member", "allUsers"),
    (check_only_the_caller_gets_in, "burst-invoker", "inputs.role", "roles/run.admin"),
    (check_weights_are_read_by_the_one_and_written_by_the_other, "burst-weights-reader", "inputs.role", "roles/owner"),
    (
        check_weights_are_read_by_the_one_and_written_by_the_other,
        "burst-weights-reader",
        "inputs.member",
        "serviceAccount:pilotlight-dev-weights@some-project.iam.gserviceaccount.com",
    ),
    (
        check_weights_are_read_by_the_one_and_written_by_the_other,
        "burst-service",
        "inputs.template.volumes.0.gcs.readOnly",
        False,
    ),
    (
        check_weights_are_read_by_the_one_and_written_by_the_other,
        "burst-service",
        "inputs.template.serviceAccount",
        "pilotlight-dev-weights@some-project.iam.gserviceaccount.com",
    ),
    (check_the_bucket_is_private, "burst-weights-bucket", "inputs.publicAccessPrevention", "inherited"),
    (check_the_bucket_is_private, "burst-weights-bucket", "inputs.uniformBucketLevelAccess", False),
    (check_the_bucket_keeps_nothing_twice, "burst-weights-bucket", "inputs.softDeletePolicy", ...),
    (check_destroy_removes_all, "burst-service", "inputs.deletionProtection", ...),
    (check_destroy_removes_all, "burst-weights-job", "inputs.deletionProtection", ...),
    (check_destroy_removes_all, "burst-weights-bucket", "inputs.forceDestroy", False),
    (check_costs_nothing_idle, "burst-service", "inputs.template.scaling.minInstanceCount", 1),
    (check_costs_nothing_idle, "burst-service", "inputs.template.gpuZonalRedundancyDisabled", ...),
    (check_a_gpu_as_cloud_run_gives_it, "burst-service", "inputs.template.executionEnvironment", ...),
    (check_a_gpu_as_cloud_run_gives_it, "burst-service", "inputs.template.containers.0.resources.cpuIdle", True),
    (check_a_gpu_as_cloud_run_gives_it, "burst-service", "inputs.template.containers.0.resources.limits.cpu", "2"),
    (check_no_request_is_cut_or_queued_inside, "burst-service", "inputs.template.timeout", "60s"),
    (check_no_request_is_cut_or_queued_inside, "burst-service", "inputs.template.maxInstanceRequestConcurrency", 80),
    (check_a_deployment_waits_for_no_weights, "burst-service", "inputs.template.healthCheckDisabled", ...),
    (check_a_deployment_waits_for_no_weights, "burst-weights-job", "inputs.startExecutionToken", ""),
    (check_the_engine_reaches_google_alone, "burst-service", "inputs.template.vpcAccess", ...),
    (check_the_engine_reaches_google_alone, "burst-service", "inputs.template.vpcAccess.egress", "PRIVATE_RANGES_ONLY"),
    (
        check_the_engine_reaches_google_alone,
        "burst-service",
        "inputs.template.vpcAccess.networkInterfaces.0.subnetwork",
        "projects/some-project/regions/us-central1/subnetworks/pilotlight-dev-gateway",
    ),
    (check_the_engine_reaches_google_alone, "network-burst-subnet", "inputs.privateIpGoogleAccess", False),
    (check_the_engine_reaches_google_alone, "network-burst-vpc", "inputs.autoCreateSubnetworks", True),
    (check_what_is_read_ahead_is_what_is_asked_next, "burst-service", "inputs.template.volumes.0.gcs.mountOptions", []),
    (
        check_what_is_read_ahead_is_what_is_asked_next,
        "burst-service",
        "inputs.template.containers.0.args",
        ["--safetensors-load-strategy", "lazy"],
    ),
    (check_grants_come_first, "burst-service", "options.dependsOn", []),
    (check_grants_come_first, "burst-weights-job", "options.dependsOn", ["burst-weights-writer"]),
    (check_no_key, "burst-service", "inputs.template.containers.0.args.1", "--api-key"),
    (check_no_key, "burst-service", "inputs.template.containers.0.envs.0.name", "VLLM_API_KEY"),
]


@pytest.mark.parametrize("check", dict.fromkeys(row[0] for row in SAFETY), ids=lambda check: check.__name__)
def test_the_declaration_is_safe(burst: Stack, check: Check) -> None:
    check(burst)


def test_a_preview_of_a_new_stack_is_as_safe(settings_of: Make) -> None:
    """No id is known then, so neither grants nor networks can be compared; all else can."""
    stack = declared(settings_of(lanes=["burst", "vm"]), preview=True)
    unknown = {check_weights_are_read_by_the_one_and_written_by_the_other, check_the_engine_reaches_google_alone}
    for check in {row[0] for row in SAFETY} - unknown:
        check(stack)


@pytest.mark.parametrize(("check", "name", "path", "value"), SAFETY)
def test_an_unsafe_burst_lane_is_seen(
    burst: Stack, planted: Plant, check: Check, name: str, path: str, value: Any
) -> None:
    with pytest.raises((AssertionError, KeyError)):
        check(planted(burst, name, path, value))


def test_a_second_grant_is_seen(burst: Stack, with_extra: Extra) -> None:
    with pytest.raises(AssertionError):
        check_only_the_caller_gets_in(
            with_extra(burst, SERVICE_IAM, "more", role="roles/run.invoker", member="user:a@b")
        )
    project_wide = "gcp:projects/iAMMember:IAMMember"
    with pytest.raises(AssertionError):
        check_only_the_caller_gets_in(
            with_extra(burst, project_wide, "more", role="roles/run.invoker", member="user:a@b")
        )


def test_a_network_that_was_the_lane_s_own_is_kept(burst: Stack) -> None:
    """Tried with the real engine on a stack of the last commit before: nothing changed in the cloud."""
    lane = "urn:pulumi:dev::pilotlight::pilotlight:gcp:Burst$pilotlight:gcp:BurstNetwork"
    vpc, subnet = (named(burst, f"network-burst-{name}") for name in ("vpc", "subnet"))
    assert vpc.options["aliases"] == [f"{lane}$gcp:compute/network:Network::burst-network-vpc"]
    assert subnet.options["aliases"] == [f"{lane}$gcp:compute/subnetwork:Subnetwork::burst-network-subnet"]


def test_a_way_out_of_the_engine_s_network_is_seen(burst: Stack, with_extra: Extra) -> None:
    vpc = named(burst, "network-burst-vpc").outputs["id"]
    with pytest.raises(AssertionError):
        check_the_engine_reaches_google_alone(
            with_extra(burst, "gcp:compute/router:Router", "more", network=vpc, region="us-central1")
        )


# --- the container ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deadline", "delay", "threshold"), [(10, 0, 5), (240, 0, 120), (241, 1, 120), (270, 30, 120), (480, 240, 120)]
)
def test_an_instance_may_start_as_long_as_the_pilot_waits(
    settings_of: Make, deadline: int, delay: int, threshold: int
) -> None:
    """Cloud Run: period x threshold at most 240 s, after at most 240 s, and a timeout below the period."""
    settings = settings_of(lanes=["burst"], burst={"wake_deadline_s": deadline, "idle_s": 900})
    probe = container(declared(settings))["startupProbe"]
    assert probe == {
        "httpGet": {"path": "/health", "port": 8000},
        "initialDelaySeconds": delay,
        "periodSeconds": 2,
        "timeoutSeconds": 1,
        "failureThreshold": threshold,
    }
    assert delay + probe["periodSeconds"] * threshold == deadline


def test_vllm_gets_exactly_these_arguments(settings_of: Make) -> None:
    settings = settings_of(
        model=own_model(name="served/as", revision=OTHER, context_tokens=2048, **VISION), burst={"max_requests": 5}
    )
    assert server.arguments(settings) == [
        f"/weights/a/b/{OTHER}",
        "--host", "0.0.0.0",
        "--port", "8000",
        "--served-model-name", "served/as",
        "--gpu-memory-utilization", "0.9",
        "--max-num-seqs", "5",
        "--allowed-media-domains", "images-are-sent-inline.invalid",
        "--shutdown-timeout", "9",
        "--disable-access-log-for-endpoints", "/health,/metrics",
        "--max-model-len", "2048",
        "--limit-mm-per-prompt", '{"image":256,"video":0}',
        "--mm-processor-kwargs", '{"size":{"shortest_edge":6272,"longest_edge":589568}}',
        "--enable-auto-tool-choice",
        "--tool-call-parser", "hermes",
        "--compilation-config", '{"mode":0,"cudagraph_mode":"FULL_DECODE_ONLY"}',
        "--safetensors-load-strategy", "eager",
    ]  # fmt: skip


def test_the_job_fills_what_the_service_reads(burst: Stack) -> None:
    template = job(burst)["template"]["template"]
    [fetch] = template["containers"]
    assert fetch["args"] == [
        "/etc/pilotlight/weights/fetch_weights.py",
        "Qwen/Qwen2.5-VL-7B-Instruct-AWQ",
        REVISION,
        "/weights",
    ]
    _, repository, revision, folder = fetch["args"]
    assert container(burst)["args"][0] == f"{folder}/{repository}/{revision}"
    mounts = {mount["name"]: mount["mountPath"] for mount in fetch["volumeMounts"]}
    assert mounts == {"script": "/etc/pilotlight/weights", "weights": folder}
    volumes = {volume["name"]: volume for volume in template["volumes"]}
    assert volumes["weights"]["gcs"]["readOnly"] is False
    version = named(burst, "burst-weights-script-version")
    assert volumes["script"]["secret"]["items"] == [{"path": "fetch_weights.py", "version": "1"}]
    assert version.inputs["secretData"] == Path(fetch_weights.__file__).read_text()
    assert len(version.inputs["secretData"].encode()) < 64 * 1024


def test_a_changed_model_starts_the_job_again_and_nothing_else_does(settings_of: Make) -> None:
    token = weights.token(settings_of())
    assert re.fullmatch(r"[0-9a-f]{12}", token)
    assert weights.token(settings_of(burst={"max_requests": 3, "cpu": 8}, vm={"replicas": 2})) == token
    assert weights.token(settings_of(model={"revision": OTHER})) != token
    assert weights.token(settings_of(model=own_model(revision=REVISION))) != token
    assert weights.token(settings_of(burst={"fetch_image": "docker.io/library/python:3.13.15-slim"})) != token


def test_a_changed_script_starts_the_job_again(settings_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    token = weights.token(settings_of())
    monkeypatch.setattr(weights, "script", lambda: "another")
    assert weights.token(settings_of()) != token


def started(command: list[str], arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the container's command with a `vllm` that says what it was given."""
    program = folder / "bin" / "vllm"
    program.parent.mkdir(exist_ok=True)
    program.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    program.chmod(0o755)
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin"}
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=10)


def test_the_container_starts_only_on_weights_with_a_manifest(settings_of: Make, tmp_path: Path) -> None:
    settings = settings_of()
    shell, option, script, manifest = server.command(settings)
    assert manifest == f"/weights/{settings.contract.model.weights}/{REVISION}/pilotlight.json"
    here = tmp_path / "pilotlight.json"
    refused = started([shell, option, script, str(here)], server.arguments(settings), tmp_path)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "the weights are not whole yet" in refused.stderr
    here.write_text("{}")
    accepted = started([shell, option, script, str(here)], server.arguments(settings), tmp_path)
    assert accepted.returncode == 0
    assert accepted.stdout.splitlines() == ["serve", *server.arguments(settings)]


def test_the_weights_are_read_while_the_engine_starts(settings_of: Make, tmp_path: Path) -> None:
    """A pipe in place of a shard: it opens for writing only if somebody reads it, and vLLM does not."""
    (tmp_path / "pilotlight.json").write_text("{}")
    shard = tmp_path / "model 00001-of-00001.safetensors"
    os.mkfifo(shard)
    read = threading.Event()

    def feed() -> None:
        with shard.open("wb") as pipe:
            pipe.write(b"weights")
        read.set()

    threading.Thread(target=feed, daemon=True).start()
    shell, option, script, _ = server.command(settings_of())
    result = started([shell, option, script, str(tmp_path / "pilotlight.json")], ["/weights"], tmp_path)
    assert result.stdout.splitlines() == ["serve", "/weights"]
    assert read.wait(timeout=10)


def test_cloud_run_expands_nothing_in_the_command(settings_of: Make) -> None:
    """`$(NAME)` in a command is replaced by Cloud Run."""
    assert "$(" not in "".join(server.command(settings_of()))


# --- settings ---------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"lanes": ["brust"]}, ("lanes.0: is refused", "'home', 'burst' or 'vm'")),
    ({"burst": {"idle_s": 270}}, ("burst.idle_s: above wake_deadline_s (270)", "cold again", "raise idle_s")),
    ({"burst": {"wake_deadline_s": 481, "idle_s": 900}}, ("burst.wake_deadline_s: is refused", "480")),
    ({"burst": {"wake_deadline_s": 9}}, ("burst.wake_deadline_s: is refused", "Cloud Run allows 480")),
    ({"burst": {"recovered_s": 5}}, ("burst.recovered_s: below slow_s (5)", "change with every request", "lower")),
    ({"burst": {"slow_s": 1.5}}, ("burst.recovered_s: below slow_s (1.5)",)),
    ({"burst": {"slow_s": 0}}, ("burst.slow_s: is refused",)),
    ({"burst": {"max_requests": 0}}, ("burst.max_requests: is refused", "concurrency")),
    ({"burst": {"max_instances": 0}}, ("burst.max_instances: is refused", "quota")),
    ({"burst": {"min_instances": 2}}, ("burst.min_instances: at most max_instances (1)", "refuses", "lower")),
    ({"burst": {"image": "docker.io/vllm/vllm-openai:latest"}}, ("burst.image: a full image name",)),
    ({"burst": {"fetch_image": "docker.io/library/python:3.13-slim"}}, ("burst.fetch_image: a full image name",)),
    ({"burst": {"cpu": 2}}, ("burst.cpu: is refused", "4, 6 or 8")),
    ({"burst": {"memory_gib": 17}}, ("burst.memory_gib: at most 4 for each of the 4 CPUs", "refuses", "raise cpu")),
    ({"burst": {"memory_gib": 15}}, ("burst.memory_gib: is refused", "16")),
    ({"burst": {"gpu_memory_utilization": 1}}, ("burst.gpu_memory_utilization: is refused",)),
    ({"burst": {"wake": "always"}}, ("burst.wake: is refused", "'first-fallback', 'pressure' or 'never'")),
    ({"burst": {"idle": 5}}, ("burst.idle: is no setting",)),
]


@pytest.mark.parametrize(("changes", "parts"), REFUSED, ids=[json.dumps(changes)[:60] for changes, _ in REFUSED])
def test_a_bad_value_is_refused_by_name_rule_consequence_and_fix(
    settings_of: Make, changes: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError, match=".*".join(map(re.escape, parts))) as caught:
        settings_of(**changes)
    for problem in caught.value.problems:
        assert re.fullmatch(r"[a-z][\w.]*: .+\. Consequence: .+\. Fix: .+\.", problem), problem


@pytest.mark.parametrize(
    "changes",
    [
        {"lanes": ["home", "burst", "vm"]},
        {"burst": {"idle_s": 271}},
        {"burst": {"cpu": 8, "memory_gib": 32}},
        {"burst": {"wake": "never", "min_instances": 1}},
        {"burst": {"recovered_s": 4.9}},
    ],
)
def test_a_good_value_is_not_refused(settings_of: Make, changes: dict[str, Any]) -> None:
    settings_of(**changes)


@pytest.mark.parametrize("region", ["us-east1", "europe-west3"])
def test_a_region_without_l4_is_refused_only_with_the_lane(settings_of: Make, region: str) -> None:
    elsewhere = settings_of().model_copy(update={"region": region})
    assert rules.broken(elsewhere) == []
    [found] = rules.broken(elsewhere.model_copy(update={"lanes": (Lane.BURST,)}))
    assert re.search(rf"gcp:region: one with L4 GPUs .*us-central1.*{region} has none.*leave burst out", found)


@pytest.mark.parametrize("region", rules.L4_REGIONS)
def test_regions_with_l4_pass(settings_of: Make, region: str) -> None:
    assert rules.broken(settings_of().model_copy(update={"region": region, "lanes": (Lane.BURST,)})) == []


@pytest.mark.parametrize("region", rules.L4_REGIONS)
def test_a_region_by_invitation_is_named_before_the_deployment_fails_there(settings_of: Make, region: str) -> None:
    settings = settings_of(lanes=["burst"]).model_copy(update={"region": region})
    [told] = [line for line in next_steps.lines(settings) if "quota" in line]
    assert ("europe-west1 and europe-west4 give it" in told) is (region in rules.L4_BY_INVITATION)
    assert set(rules.L4_BY_INVITATION) < set(rules.L4_REGIONS)


def nothing(_: Settings) -> list[str]:
    """A group of rules that refuses nothing."""
    return []


@pytest.mark.parametrize(
    ("rule", "value", "changes"),
    [
        ("_burst", nothing, {"burst": {"recovered_s": 5}}),
        ("_burst_machine", nothing, {"burst": {"min_instances": 2}}),
        ("CPU_MOST_GIB", 8, {"burst": {"memory_gib": 17}}),
        ("EXACT_IMAGE", re.compile(".*"), {"burst": {"image": "docker.io/vllm/vllm-openai:latest"}}),
    ],
)
def test_each_refusal_comes_from_its_rule(
    settings_of: Make, monkeypatch: pytest.MonkeyPatch, rule: str, value: object, changes: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError):
        settings_of(**changes)
    monkeypatch.setattr(rules, rule, value)
    settings_of(**changes)


def test_next_steps_name_the_quota_and_the_job(settings_of: Make) -> None:
    lines = "\n".join(next_steps.lines(settings_of(lanes=["burst"])))
    assert "NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion" in lines
    assert "us-central1" in lines
    assert "gcloud run jobs execute pilotlight-dev-weights --region=us-central1 --project=some-project" in lines
    assert "L4" not in "\n".join(next_steps.lines(settings_of(lanes=["vm"])))


# --- the job's script, run for real -----------------------------------------------------------------------------------


@dataclass
class Hub:
    """Hugging Face as the script sees it: the tree of each commit, and its files; with faults."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    """Commit -> path -> content; `.safetensors` are in LFS."""
    lies: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """Path -> what is sent in place of the content."""
    cuts: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """Path -> after how many bytes each of the next answers breaks off."""
    failures: list[int] = field(default_factory=list[int])
    """Status codes of the next answers."""
    stall: threading.Event | None = None
    """Large files stop half-way until it is set."""
    ranges: bool = True
    page: int = 100
    asked: list[str] = field(default_factory=list[str])
    ranges_asked: list[str] = field(default_factory=list[str])
    """Range headers that the large first file was asked with."""
    url: str = ""

    def tree(self, revision: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "folder"}]
        for path, content in self.files[revision].items():
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict[str, Any] = {"type": "file", "oid": git, "size": len(content), "path": path}
            if path.endswith(".safetensors"):
                entry["oid"] = "1" * 40
                entry["lfs"] = {
                    "oid": hashlib.sha256(content).hexdigest(),
                    "size": len(content),
                    "pointerSize": 135,
                }
            entries.append(entry)
        return entries


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.hub
        hub.asked.append(self.path)
        if hub.failures:
            self.send_error(hub.failures.pop(0))
            return
        url = urlsplit(self.path)
        parts = unquote(url.path).strip("/").split("/")
        if parts[0] == "api":
            self._tree(parts, url.query)
        elif parts[0] == "cdn":
            self._file(parts[1], "/".join(parts[2:]))
        elif parts[3] not in hub.files or "/".join(parts[4:]) not in hub.files[parts[3]]:
            self.send_error(404)
        elif parts[-1].endswith(".safetensors"):
            # Large files come from elsewhere.
            self.send_response(302)
            self.send_header("Location", f"{hub.url}/cdn/{parts[3]}/{'/'.join(parts[4:])}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._file(parts[3], "/".join(parts[4:]))

    def _tree(self, parts: list[str], query: str) -> None:
        hub, revision = self.hub, parts[-1]
        if revision not in hub.files or parts[:-1] != ["api", "models", "org", "model", "tree"]:
            self.send_error(404)
            return
        start = int(query.partition("cursor=")[2] or 0)
        entries = hub.tree(revision)
        body = json.dumps(entries[start : start + hub.page]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if start + hub.page < len(entries):
            following = f"{hub.url}/api/models/org/model/tree/{revision}?recursive=True&cursor={start + hub.page}"
            self.send_header("Link", f'<{following}>; rel="next"')
        self.end_headers()
        self.wfile.write(body)

    def _file(self, revision: str, path: str) -> None:
        hub = self.hub
        content = hub.lies.get(path, hub.files[revision][path])
        if "00001" in path:
            hub.ranges_asked.append(self.headers.get("Range", ""))
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and hub.ranges else 0
        cuts = hub.cuts.get(path)
        end = cuts.pop(0) if cuts else len(content)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if hub.stall and path.endswith(".safetensors"):
            self.wfile.write(content[start : start + len(content) // 2])
            self.wfile.flush()
            hub.stall.wait(20)
            return
        self.wfile.write(content[start:end])
        if end < len(content):
            self.close_connection = True


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {
        "config.json": b'{"model_type": "small"}\n',
        "merges.txt": b"",
        "model-00001-of-00002.safetensors": os.urandom(200_000),
        "folder/model-00002-of-00002.safetensors": os.urandom(100_000),
        "README.md": b"# not served\n",
        "modeling.py": b"raise SystemExit('never run')\n",
    }
    found = Hub(files={REVISION: files})
    server_ = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": found}))
    server_.daemon_threads = True
    found.url = f"http://127.0.0.1:{server_.server_address[1]}"
    thread = threading.Thread(target=server_.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        server_.shutdown()
        thread.join()
        server_.server_close()


@pytest.fixture
def pauses(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The job in this process: its pauses are noted, not waited for."""
    found: list[float] = []
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr(fetch_weights.time, "sleep", found.append)
    return found


def command(revision: str, folder: Path) -> list[str]:
    # -I -S: the standard library and nothing else, as in the job's image.
    return [sys.executable, "-I", "-S", fetch_weights.__file__, "org/model", revision, str(folder)]


def run(hub: Hub, folder: Path, revision: str = REVISION) -> subprocess.CompletedProcess[str]:
    hub.asked.clear()
    return subprocess.run(
        command(revision, folder), env={"HF_ENDPOINT": hub.url}, capture_output=True, text=True, timeout=60
    )


def kept(folder: Path, revision: str = REVISION) -> dict[str, bytes]:
    """All files of the commit's folder but the manifest."""
    target = folder / "org" / "model" / revision
    files = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    files.pop("pilotlight.json", None)
    return files


def manifest(folder: Path, revision: str = REVISION) -> Path:
    return folder / "org" / "model" / revision / "pilotlight.json"


def served(hub: Hub, revision: str = REVISION) -> dict[str, bytes]:
    return {path: data for path, data in hub.files[revision].items() if not path.endswith((".md", ".py"))}


def test_good_weights_arrive_with_a_manifest_and_a_second_run_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    first = run(hub, tmp_path)
    assert first.returncode == 0, first.stderr
    assert kept(tmp_path) == served(hub)
    document = json.loads(manifest(tmp_path).read_text())
    assert (document["repository"], document["revision"]) == ("org/model", REVISION)
    sums = {file["path"]: (file["algorithm"], file["digest"], file["size"]) for file in document["files"]}
    assert set(sums) == set(served(hub))
    shard = hub.files[REVISION]["model-00001-of-00002.safetensors"]
    assert sums["model-00001-of-00002.safetensors"] == ("sha256", hashlib.sha256(shard).hexdigest(), 200_000)
    assert sums["merges.txt"] == ("git", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", 0)
    written = manifest(tmp_path).stat().st_mtime_ns
    second = run(hub, tmp_path)
    assert second.returncode == 0
    assert "nothing to do" in second.stdout
    assert hub.asked == []
    assert manifest(tmp_path).stat().st_mtime_ns == written


def test_a_tree_of_many_pages_is_read_to_its_end(hub: Hub, tmp_path: Path) -> None:
    hub.page = 2
    assert run(hub, tmp_path).returncode == 0
    assert kept(tmp_path) == served(hub)


def test_a_tree_that_goes_on_elsewhere_is_refused(hub: Hub, tmp_path: Path) -> None:
    true, hub.page = hub.url, 2
    hub.url = "http://127.0.0.1:9"
    done = subprocess.run(
        command(REVISION, tmp_path), env={"HF_ENDPOINT": true}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "which is not" in done.stderr


@pytest.mark.parametrize("path", ["model-00001-of-00002.safetensors", "config.json"])
@pytest.mark.parametrize("same_size", [True, False], ids=["same size", "longer"])
def test_a_wrong_sum_is_deleted_and_leaves_no_manifest(hub: Hub, tmp_path: Path, path: str, same_size: bool) -> None:
    content = hub.files[REVISION][path]
    hub.lies[path] = content[:-1] + bytes([content[-1] ^ 1]) if same_size else b"x" + content
    done = run(hub, tmp_path)
    assert done.returncode == 1
    assert re.search(rf"{path}: has (sha256|git) [0-9a-f]+, the commit says [0-9a-f]+; not served", done.stderr)
    assert not manifest(tmp_path).exists()
    assert path not in kept(tmp_path)
    hub.lies.clear()
    assert run(hub, tmp_path).returncode == 0
    assert kept(tmp_path) == served(hub)


def test_a_manifest_is_withdrawn_before_weights_are_fetched_again(hub: Hub, tmp_path: Path) -> None:
    assert run(hub, tmp_path).returncode == 0
    shard = manifest(tmp_path).parent / "model-00001-of-00002.safetensors"
    shard.write_bytes(b"short")
    hub.lies[shard.name] = os.urandom(200_000)
    done = run(hub, tmp_path)
    assert done.returncode == 1
    assert not manifest(tmp_path).exists()


def test_what_an_earlier_run_left_is_kept_only_if_it_is_right(hub: Hub, tmp_path: Path) -> None:
    target = manifest(tmp_path).parent
    target.mkdir(parents=True)
    wrong = target / "model-00001-of-00002.safetensors"
    wrong.write_bytes(bytes(200_000))
    (target / "config.json").write_bytes(hub.files[REVISION]["config.json"])
    assert run(hub, tmp_path).returncode == 0
    assert kept(tmp_path) == served(hub)
    assert not any(path.endswith("config.json") for path in hub.asked)


def test_a_broken_connection_is_taken_up_where_it_ended(hub: Hub, tmp_path: Path) -> None:
    hub.cuts["model-00001-of-00002.safetensors"] = [70_000, 150_000]
    done = run(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert kept(tmp_path) == served(hub)
    assert hub.ranges_asked == ["", "bytes=70000-", "bytes=150000-"]


def test_a_server_that_cant_go_on_is_asked_from_the_start(hub: Hub, tmp_path: Path) -> None:
    hub.ranges = False
    hub.cuts["model-00001-of-00002.safetensors"] = [70_000]
    done = run(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "from the start again" in done.stdout
    assert kept(tmp_path) == served(hub)


def test_a_busy_hub_is_asked_again(hub: Hub, tmp_path: Path, pauses: list[float]) -> None:
    hub.failures = [503]
    fetch_weights.main("org/model", REVISION, str(tmp_path))
    assert pauses == [2]
    assert kept(tmp_path) == served(hub)


def test_a_killed_run_leaves_no_manifest_and_the_next_one_fetches_the_rest(hub: Hub, tmp_path: Path) -> None:
    hub.stall = threading.Event()
    process = subprocess.Popen(command(REVISION, tmp_path), env={"HF_ENDPOINT": hub.url}, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not any("cdn" in path for path in hub.asked):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        hub.stall.set()
    assert not manifest(tmp_path).exists()
    assert kept(tmp_path)["config.json"] == hub.files[REVISION]["config.json"]
    hub.stall = None
    done = run(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "config.json: is here from an earlier run, and right" in done.stdout
    assert not any(path.endswith("config.json") for path in hub.asked)
    assert kept(tmp_path) == served(hub)


def test_another_commit_is_fetched_and_the_old_one_goes(hub: Hub, tmp_path: Path) -> None:
    assert run(hub, tmp_path).returncode == 0
    stranger = tmp_path / "org" / "model" / "notes"
    stranger.mkdir()
    hub.files[OTHER] = {"config.json": b"{}", "model.safetensors": os.urandom(1000)}
    done = run(hub, tmp_path, OTHER)
    assert done.returncode == 0, done.stderr
    assert kept(tmp_path, OTHER) == hub.files[OTHER]
    assert manifest(tmp_path, OTHER).exists()
    assert not manifest(tmp_path).parent.exists()
    assert stranger.exists(), "only folders of commits are the job's"


def test_another_commit_that_fails_leaves_the_old_one(hub: Hub, tmp_path: Path) -> None:
    assert run(hub, tmp_path).returncode == 0
    done = run(hub, tmp_path, OTHER)
    assert done.returncode == 1
    assert "HTTP 404; is model.revision a commit of model.weights?" in done.stderr
    assert kept(tmp_path) == served(hub)
    assert manifest(tmp_path).exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": b"{}"}, "has no .safetensors file"),
        ({"../../evil.json": b"{}", "a.safetensors": b"x"}, "which could stand anywhere"),
        ({"/etc/evil.json": b"{}", "a.safetensors": b"x"}, "which could stand anywhere"),
    ],
)
def test_a_strange_repository_is_refused(hub: Hub, tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    hub.files[REVISION] = files
    done = run(hub, tmp_path / "bucket")
    assert done.returncode == 1
    assert message in done.stderr
    assert not list(tmp_path.rglob("*.json"))


def test_a_branch_is_refused(hub: Hub, tmp_path: Path) -> None:
    done = run(hub, tmp_path, "main")
    assert done.returncode == 1
    assert "'main' is no commit" in done.stderr
    assert hub.asked == []


def test_a_hub_that_sends_nothing_is_given_up(hub: Hub, tmp_path: Path, pauses: list[float]) -> None:
    hub.cuts["model-00001-of-00002.safetensors"] = [0] * 50
    with pytest.raises(
        fetch_weights.Refused, match=r"0 of 200000 bytes came, then nothing in 6 tries; start the job again"
    ):
        fetch_weights.main("org/model", REVISION, str(tmp_path))
    assert pauses == [2, 4, 8, 16, 32]
    assert not manifest(tmp_path).exists()
    assert "model-00001-of-00002.safetensors" not in kept(tmp_path)
