"""The home component: services as releases, time-slicing, Traefik's timeouts, what is registered in both modes."""

import ast
import asyncio
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import helm_python
import jsonschema
import pulumi
import pytest
import yaml
from google.protobuf import json_format
from pulumi.runtime import mocks, rpc, set_mocks

from components import vllm
from components.home import Home, gpu, traefik
from components.home.chart import values
from components.home.home import SERVICE_CHART, chart_digest
from components.models.catalogue import STANDARD
from components.paths import ANSWERS
from components.settings import Settings
from components.settings.declared_services import declared
from components.settings.reading import read
from tests import certificates
from tests.unit.own_model import REVISION, own_model

ROOT = Path(__file__).parents[3]
GCP = {"gcp:project": "some-project", "gcp:region": "us-central1"}
RELEASE = "kubernetes:helm.sh/v3:Release"
NOW = datetime(2031, 3, 1, 12, tzinfo=UTC)


def settings_of(**changes: Any) -> Settings:
    """Default settings with some changed."""
    return read({**GCP, **{f"pilotlight:{key}": json.dumps(value) for key, value in changes.items()}}, stack="dev")


class Recorder(mocks.MockMonitor):
    """Answers every registration with its inputs, and keeps the requests as they go over the wire."""

    def __init__(self) -> None:
        super().__init__(NoCalls())
        self.requests: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:
        if request.type != "pulumi:pulumi:Stack":
            assert request.name not in self.requests, f"{request.name} is registered twice"
            self.requests[request.name] = request
        return super().RegisterResource(request)  # pyright: ignore[reportUnknownMemberType]


class NoCalls(pulumi.runtime.Mocks):
    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        return f"{args.name}-id", cast(dict[Any, Any], args.inputs)

    def call(self, args: mocks.MockCallArgs) -> Any:
        raise AssertionError(f"home asks for {args.token}")


class Registered:
    """One registration: its type, its inputs as sent (secrets and unknowns marked) and its options."""

    def __init__(self, request: Any) -> None:
        self.type: str = request.type
        self.inputs: dict[str, Any] = json_format.MessageToDict(request.object)
        self.request = request


def run(
    preview: bool,
    kubeconfig: Callable[[], pulumi.Input[str]] = lambda: "kubeconfig: text",
    opts: Callable[[], pulumi.ResourceOptions | None] = lambda: None,
    after: Callable[[], pulumi.Output[Any]] = lambda: pulumi.Output.from_input("https://gateway.test"),
    check: Callable[[Home], object] = lambda _: None,
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Registered]:
    """Registers Home under mocks and waits for all of it, `check` included."""
    recorder = Recorder()
    set_mocks(NoCalls(), project="pilotlight", stack="dev", preview=preview, monitor=recorder)

    @pulumi.runtime.test  # pyright: ignore[reportUnknownMemberType]
    def program() -> object:
        given = settings_of(**changes, **settings or {})
        return check(Home("home", given, kubeconfig=kubeconfig(), after=after(), now=NOW, opts=opts()))

    program()
    return {name: Registered(request) for name, request in recorder.requests.items()}


MODES = pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])


@MODES
def test_home_registers_exactly_its_resources(preview: bool) -> None:
    assert {name: resource.type for name, resource in run(preview).items()} == {
        "home": "pilotlight:home:Home",
        "home-provider": "pulumi:providers:kubernetes",
        "home-namespace": "kubernetes:core/v1:Namespace",
        "home-gpu-namespace": "kubernetes:core/v1:Namespace",
        "home-traefik": "kubernetes:helm.cattle.io/v1:HelmChartConfig",
        "home-time-slicing": "kubernetes:core/v1:ConfigMap",
        "home-device-plugin": RELEASE,
        "home-vllm": RELEASE,
    }


def unknown() -> pulumi.Output[str]:
    """A value the engine can't know yet."""
    future: asyncio.Future[Any] = asyncio.Future()
    future.set_result(None)
    known: asyncio.Future[bool] = asyncio.Future()
    known.set_result(False)
    return pulumi.Output[str](set(), future, known)


@MODES
@pytest.mark.parametrize(
    ("begins_days", "ends_days", "skipped", "told"),
    [
        (-1, 364, "true", ""),
        (-306, 59, "true", "its certificate ends at 2031-04-29T12:00:00Z"),
        (-366, -1, "false", "its certificate ended at 2031-02-28T12:00:00Z"),
        (1, 366, "false", "its certificate is good from 2031-03-02T12:00:00Z on"),
    ],
    ids=["good", "ends soon", "ended", "not yet good"],
)
def test_a_home_that_refuses_the_certificate_is_not_merely_off(
    monkeypatch: pytest.MonkeyPatch, preview: bool, begins_days: int, ends_days: int, skipped: str, told: str
) -> None:
    """Skipped, a change would wait for ever while every update succeeds."""
    lines: list[str] = []

    def warn(line: str, resource: pulumi.Resource) -> None:
        assert isinstance(resource, Home)
        lines.append(line)

    monkeypatch.setattr(pulumi.log, "warn", warn)
    client = certificates.pem(NOW + timedelta(days=begins_days), NOW + timedelta(days=ends_days))
    resources = run(preview, settings={"kubeconfig": yaml.safe_load(certificates.kubeconfig(client))})
    assert resources["home-provider"].inputs["skipUpdateUnreachable"] == skipped
    assert [line for line in lines if told in line] == lines
    assert bool(lines) == bool(told)


def test_an_unknown_kubeconfig_is_no_obstacle_to_a_preview() -> None:
    resources = run(True, kubeconfig=unknown)
    assert set(resources) == set(run(True))
    assert "text" not in str(resources["home-provider"].inputs)


@MODES
def test_the_kubeconfig_is_a_secret_whoever_passes_it(preview: bool) -> None:
    sent = run(preview)["home-provider"].inputs["kubeconfig"]
    assert sent == {rpc._special_sig_key: rpc._special_secret_sig, "value": "kubeconfig: text"}  # pyright: ignore[reportPrivateUsage]


@MODES
def test_a_home_that_is_off_is_skipped_and_never_forgotten(preview: bool) -> None:
    provider = run(preview)["home-provider"].inputs
    assert provider["skipUpdateUnreachable"] == "true"
    assert "deleteUnreachable" not in provider
    assert json.loads(provider["kubeClientSettings"])["timeout"] <= 10
    assert provider["clusterIdentifier"] == "home"
    assert provider["enableConfigMapMutable"] == "true"


@MODES
@pytest.mark.parametrize("name", ["home-vllm", "home-device-plugin"])
def test_no_deployment_waits_for_a_model_download(preview: bool, name: str) -> None:
    release = run(preview)[name].inputs
    assert release["skipAwait"] is True
    assert release["atomic"] is False
    assert release["timeout"] <= 600


@MODES
def test_the_namespace_is_created_before_what_is_in_it(preview: bool) -> None:
    resources = run(preview, home={"namespace": "ai"})
    assert resources["home-namespace"].inputs["metadata"]["name"] == "ai"
    assert resources["home-gpu-namespace"].inputs["metadata"]["name"] == "ai-gpu"
    assert resources["home-time-slicing"].inputs["metadata"]["namespace"] == "ai-gpu"
    assert resources["home-device-plugin"].inputs["namespace"] == "ai-gpu"
    assert resources["home-vllm"].inputs["namespace"] == "ai"


def test_the_namespace_output_is_real() -> None:
    found: list[Any] = []
    run(
        False,
        check=lambda home: pulumi.Output.all(home.namespace, home.services).apply(found.append),
        home={"namespace": "ai"},
    )
    assert found == [["ai", ["vllm"]]]


@MODES
def test_options_of_the_caller_stay_with_the_component(preview: bool) -> None:
    old = pulumi.Alias(name="old-home")
    resources = run(preview, opts=lambda: pulumi.ResourceOptions(aliases=[old], retain_on_delete=True))
    component = resources.pop("home").request
    assert component.retainOnDelete
    assert len(component.aliases) == 1
    for name, resource in resources.items():
        assert resource.request.parent.endswith("::home"), name
        assert not resource.request.retainOnDelete, name
        assert "old-home" not in str(resource.request.ignoreChanges), name


@MODES
def test_everything_goes_to_the_home_cluster(preview: bool) -> None:
    for name, resource in run(preview).items():
        if resource.type.startswith("kubernetes:"):
            assert "::home-provider::" in resource.request.provider, name


# --- GPU sharing ------------------------------------------------------------------------------------------------------


PLUGIN_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "sharing"],
    "properties": {
        "version": {"const": "v1"},
        "sharing": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "timeSlicing": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["resources"],
                    "properties": {
                        "renameByDefault": {"type": "boolean"},
                        "failRequestsGreaterThanOne": {"type": "boolean"},
                        "resources": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["name", "replicas"],
                                "properties": {
                                    "name": {"type": "string", "pattern": r"^nvidia\.com/"},
                                    "rename": {"type": "string"},
                                    "replicas": {"type": "integer", "minimum": 2},
                                },
                            },
                        },
                    },
                }
            },
        },
    },
}
"""What NVIDIA/k8s-device-plugin documents (README, "Shared Access to GPUs with CUDA Time-Slicing") and reads
(api/config/v1 at v0.20.0: config.go, sharing.go, replicas.go), of the parts in use. The plugin itself ignores keys it
doesn't know, so a misspelt one would be silent."""


def schema_errors(text: str) -> list[str]:
    checker = jsonschema.Draft202012Validator(PLUGIN_SCHEMA)
    return [error.message for error in checker.iter_errors(yaml.safe_load(text))]  # pyright: ignore[reportUnknownMemberType]


def test_time_slicing_is_of_nvidias_schema() -> None:
    text = gpu.time_slicing(10)
    assert schema_errors(text) == []
    slicing = yaml.safe_load(text)["sharing"]["timeSlicing"]
    assert slicing == {
        "renameByDefault": False,
        "failRequestsGreaterThanOne": True,
        "resources": [{"name": "nvidia.com/gpu", "replicas": 10}],
    }


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("failRequestsGreaterThanOne", "failRequestGreaterThanOne"),
        ("timeSlicing", "timeslicing"),
        ("replicas: 10", "replica: 10"),
        ("replicas: 10", "replicas: 1"),
        ("replicas: 10", "replicas: '10'"),
        ("version: v1", "version: 1"),
        ("nvidia.com/gpu", "gpu"),
    ],
)
def test_a_near_miss_of_nvidias_schema_is_seen(right: str, wrong: str) -> None:
    text = gpu.time_slicing(10)
    assert right in text
    assert schema_errors(text.replace(right, wrong))


@MODES
def test_the_device_plugin_reads_the_declared_time_slicing(preview: bool) -> None:
    resources = run(preview, home={"gpu_slices": 7})
    config = resources["home-time-slicing"].inputs
    plugin = resources["home-device-plugin"].inputs
    assert plugin["chart"] == "nvidia-device-plugin"
    assert plugin["version"] == "0.20.0"
    assert plugin["repositoryOpts"] == {"repo": "https://nvidia.github.io/k8s-device-plugin"}
    values = plugin["values"]
    assert values["config"]["name"] == config["metadata"]["name"]
    assert list(config["data"]) == [values["config"]["default"]]
    assert yaml.safe_load(config["data"]["time-slicing"])["sharing"]["timeSlicing"]["resources"][0]["replicas"] == 7
    assert values["runtimeClassName"] == "nvidia"


def test_the_device_plugin_finds_its_nodes_without_a_privileged_pod() -> None:
    values = gpu.device_plugin_values("c", "text")
    assert values["nfd"]["enabled"] is True
    assert values["gfd"] == {"enabled": False}
    assert (values["migStrategy"], values["deviceListStrategy"]) == ("none", "envvar")


def test_another_slice_count_restarts_the_device_plugin() -> None:
    ten, five = (gpu.device_plugin_values("c", gpu.time_slicing(n))["podAnnotations"] for n in (10, 5))
    assert ten != five


# --- Traefik ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("longest", [10, 300, 3600])
def test_traefik_never_cuts_a_request_before_the_gateway_does(longest: int) -> None:
    timeouts = yaml.safe_load(traefik.traefik_values(longest))["ports"]["web"]["transport"]["respondingTimeouts"]
    assert set(timeouts) == {"readTimeout", "writeTimeout", "idleTimeout"}
    for key, value in timeouts.items():
        seconds = int(value.removesuffix("s"))
        assert seconds == 0 or seconds > longest, key


def test_traefik_stays_beside_the_address_that_is_called_and_waits_for_no_machine_that_is_gone() -> None:
    alone, beside = (yaml.safe_load(traefik.traefik_values(300, nodes=nodes)) for nodes in (1, 2))
    assert alone == yaml.safe_load(traefik.traefik_values(300))
    assert list(alone) == ["ports"]
    assert beside == alone | {
        "nodeSelector": {"node-role.kubernetes.io/control-plane": "true"},
        "additionalArguments": ["--serversTransport.forwardingTimeouts.dialTimeout=2s"],
    }


@pytest.mark.parametrize("nodes", [1, 3])
def test_the_model_alone_is_replicated(nodes: int) -> None:
    services = [{"name": "vllm", "preset": "model"}, {"name": "tts", "preset": "tts"}]
    chosen = settings_of(home={"nodes": nodes}, services=services)
    found = [values(service, chosen).get("replicas", 1) for service in declared(chosen)]
    assert found == [nodes, 1]


@MODES
def test_the_one_traefik_of_k3s_is_configured(preview: bool) -> None:
    config = run(preview)["home-traefik"].inputs
    assert config["metadata"] == {"name": "traefik", "namespace": "kube-system"}
    assert config["spec"] == {"valuesContent": traefik.traefik_values(300)}


# --- the services as releases -----------------------------------------------------------------------------------------

ALL = [
    {"name": "vllm", "preset": "model"},
    {"name": "tts", "preset": "tts"},
    {"name": "pictures", "preset": "image"},
    {"name": "embed", "preset": "embeddings"},
]
ARGUMENTS = [
    "some/weights",
    "--host", "0.0.0.0",
    "--port", "8000",
    "--served-model-name", "some/name",
    "--gpu-memory-utilization", "0.4",
    "--kv-cache-memory-bytes", "4096000",
    "--max-num-seqs", "3",
    "--allowed-media-domains", "images-are-sent-inline.invalid",
    "--shutdown-timeout", "120",
    "--disable-access-log-for-endpoints", "/health,/metrics",
    "--max-model-len", "4096",
    "--revision", STANDARD.model.revision,
    "--limit-mm-per-prompt", '{"image":512,"video":0}',
    "--mm-processor-kwargs", '{"size":{"shortest_edge":6272,"longest_edge":589568}}',
    "--chat-template", STANDARD.model.chat_template,
    "--enable-auto-tool-choice",
    "--tool-call-parser", "hermes",
]  # fmt: skip


def values_of(name: str, **changes: Any) -> dict[str, Any]:
    settings = settings_of(**changes)
    [service] = [service for service in declared(settings) if service.name == name]
    return values(service, settings)


def test_vllm_gets_exactly_these_arguments() -> None:
    assert (
        vllm.arguments(
            weights="some/weights",
            served_name="some/name",
            gpu_memory_utilization=0.4,
            kv_cache_bytes=4_096_000,
            max_requests=3,
            drain_s=120,
            own=vllm.model(settings_of(model={"context_tokens": 4096}).contract, revision=True),
        )
        == ARGUMENTS
    )


def test_values_carry_the_settings() -> None:
    entry = {"name": "llm", "preset": "model", "args": ["--seed", "7"]}
    values = values_of(
        "llm",
        model=own_model(name="served/as", context_tokens=2048),
        gateway={"timeout_s": 250, "wait_s": 100},
        home={"max_requests": 5},
        services=[{**entry, "cache_gib": 12, "gpu_memory": "9GiB"}],
    )
    words = [word for word in values["args"] if word != "--enable-auto-tool-choice"]
    pairs = dict(zip(words[1::2], words[2::2], strict=True))
    assert (values["args"][0], pairs["--revision"]) == ("a/b", REVISION)
    assert pairs["--seed"] == "7"
    assert pairs["--served-model-name"] == "served/as"
    assert pairs["--max-model-len"] == "2048"
    assert pairs["--max-num-seqs"] == "5"
    assert pairs["--shutdown-timeout"] == "250"
    assert pairs["--gpu-memory-utilization"] == "0.375"
    assert values["drain"] == {"requestSeconds": 250}
    assert values["cache"] == {"gib": 12, "mountPath": values["env"]["HOME"]}


def test_a_service_of_another_image_gets_what_its_preset_says_and_nothing_of_vllm() -> None:
    values = values_of("tts", services=ALL)
    assert values["image"].startswith("ghcr.io/remsky/kokoro-fastapi-gpu:v")
    assert (values["port"], values["probes"], values["user"]) == (8880, {"path": "/health"}, {"uid": 1001})
    assert (values["args"], "command" in values, "HOME" in values["env"]) == ([], False, False)
    pictures = values_of("pictures", services=ALL)
    assert (pictures["args"], pictures["probes"], pictures["env"]["HOME"]) == (
        ["sd-1.5-ggml"], {"path": "/readyz"}, "/cache",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "paths"),
    [("vllm", [*ANSWERS[:2]]), ("tts", ["/v1/audio"]), ("pictures", ["/v1/images"]), ("embed", ["/v1/embeddings"])],
)
def test_only_the_api_of_a_service_is_reachable(name: str, paths: list[str]) -> None:
    """vLLM answers /tokenize, /pause and more without a key; its metrics are for who asks in its name."""
    metrics = {"metrics": "/metrics"} if name in ("vllm", "embed") else {}
    assert values_of(name, services=ALL)["ingress"] == {"prefixes": paths, **metrics}


def test_idle_connections_outlive_traefiks() -> None:
    """Traefik drops idle connections after 90 s; a server that closes first ends a reused one in 502."""
    assert int(values_of("vllm")["env"]["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]) > 90
    assert int(values_of("tts", services=ALL)["env"]["UVICORN_TIMEOUT_KEEP_ALIVE"]) > 90


@pytest.mark.parametrize("timeout_s", [300, 3600])
@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry["name"])
def test_the_chart_accepts_the_values(entry: dict[str, str], timeout_s: int) -> None:
    with helm_python.Chart.load(ROOT / SERVICE_CHART) as chart:
        chart.validate_schema(values_of(entry["name"], services=ALL, gateway={"timeout_s": timeout_s}))


@MODES
def test_each_service_is_a_release_of_the_local_chart_under_its_own_name(preview: bool) -> None:
    resources = run(preview, services=ALL)
    for entry in ALL:
        release = resources[f"home-{entry['name']}"].inputs
        assert release["chart"] == "./charts/ai-service"
        assert release["name"] == entry["name"]
        assert release["values"]["image"] == values_of(entry["name"], services=ALL)["image"]
        assert "repositoryOpts" not in release
        assert release["skipAwait"] is True
    assert (ROOT / SERVICE_CHART / "Chart.yaml").exists()
    assert len([r for r in resources.values() if r.type == RELEASE]) == len(ALL) + 1


def test_an_edited_template_changes_the_release(tmp_path: Path) -> None:
    copy = tmp_path / "chart"
    shutil.copytree(ROOT / SERVICE_CHART, copy)
    before = chart_digest(copy)
    assert before == chart_digest(ROOT / SERVICE_CHART)
    assert before in run(True)["home-vllm"].inputs["description"]
    (copy / "ci" / "new-values.yaml").write_text("image: x\n")
    assert chart_digest(copy) == before
    template = copy / "templates" / "service.yaml"
    template.write_text(template.read_text() + "\n")
    assert chart_digest(copy) != before


def test_no_value_of_home_is_written_as_a_literal_secret() -> None:
    """A Hugging Face token or API key in the values would be readable in the cluster by everyone."""
    for path in [*(ROOT / "components" / "home").glob("*.py"), *(ROOT / "components").glob("service*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(("hf_", "sk-", "nvapi-")), path


def test_without_a_gateway_nothing_of_home_is_touched() -> None:
    recorder = Recorder()
    set_mocks(NoCalls(), project="pilotlight", stack="dev", monitor=recorder)

    async def gateway() -> str:
        raise ConnectionError("the cloud refuses")

    @pulumi.runtime.test  # pyright: ignore[reportUnknownMemberType]
    def program() -> None:
        Home("home", settings_of(), kubeconfig="text", after=pulumi.Output.from_input(gateway()), now=NOW)

    with pytest.raises(ConnectionError):
        program()
    assert set(recorder.requests) == {"home"}


def test_home_does_not_depend_on_the_gateway() -> None:
    def after() -> pulumi.Output[Any]:
        return pulumi.CustomResource("test:gateway:Gateway", "gateway", {}).urn

    for name, resource in run(False, after=after).items():
        assert "Gateway" not in str(list(resource.request.dependencies)), name


@MODES
def test_what_home_has_is_removed_by_itself_or_not_at_all(preview: bool) -> None:
    """With home off, `destroy` would forget what is to go with another thing, and keep that one."""
    for name, resource in run(preview).items():
        assert not resource.request.deletedWith, name
        assert not resource.request.retainOnDelete, name


def test_destroy_waits_for_no_job_of_the_chart() -> None:
    """nfd.postDeleteCleanup of NFD's chart 0.19.0 (values.yaml); the plugin's chart 0.20.0 has it under `nfd`."""
    assert run(False)["home-device-plugin"].inputs["values"]["nfd"] == {"enabled": True, "postDeleteCleanup": False}


@pytest.mark.parametrize("longest", [10, 300, 3600])
def test_the_namespace_may_take_as_long_as_its_slowest_pod(longest: int) -> None:
    """Kubernetes looks again after half of the longest grace, and one second (pkg/controller/namespace)."""
    changed = {"timeout_s": longest}
    with helm_python.Chart.load(ROOT / SERVICE_CHART) as chart:
        manifests = chart.render(values_of("vllm", gateway=changed), name="vllm", namespace="pilotlight")
    [text] = [text for path, text in manifests.items() if path.endswith("deployment.yaml")]
    grace = yaml.safe_load(text)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > longest
    given = run(False, gateway=changed)["home-namespace"].request.customTimeouts.delete
    assert int(given.removesuffix("s")) >= 1.5 * grace + 1 + 200


def test_what_destroy_leaves_is_written_down_for_the_pinned_chart() -> None:
    """The chart isn't here to be rendered: another version's definitions and labels are looked up by hand."""
    page = (ROOT / "docs" / "operate.md").read_text()
    release = run(False)["home-device-plugin"].inputs
    assert f"NVIDIA's chart {gpu.PLUGIN_VERSION} brings and Helm never removes" in " ".join(page.split())
    assert release["values"]["nfd"]["enabled"] is True
