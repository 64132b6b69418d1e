"""charts/ai-service: what it refuses, what every scenario renders to, and what it leaves out."""

import json
from pathlib import Path
from typing import Any, cast

import helm_python
import kubernetes_validate  # pyright: ignore[reportMissingTypeStubs]
import pytest
import yaml

CHART = Path(__file__).parents[3] / "charts" / "ai-service"
SCENARIOS = sorted((CHART / "ci").glob("*-values.yaml"))
IMAGE = "docker.io/vllm/vllm-openai:v0.29.0-cu129"

Object = dict[str, Any]


def load(scenario: Path) -> Object:
    return cast(Object, yaml.safe_load(scenario.read_text()))


def rendered(values: Object, name: str = "svc") -> list[Object]:
    with helm_python.Chart.load(CHART) as chart:
        manifests = chart.render(values, name=name, namespace="pilotlight")
    texts = (text for path, text in manifests.items() if not path.endswith(".txt"))
    return [item for text in texts for item in cast(list[Object | None], list(yaml.safe_load_all(text))) if item]


def render(values: Object, name: str = "svc") -> dict[str, Object]:
    """The rendered objects by kind; a kind that comes twice is an error."""
    found = rendered(values, name)
    by_kind = {item["kind"]: item for item in found}
    assert len(by_kind) == len(found)
    return by_kind


def pod_of(objects: dict[str, Object]) -> Object:
    return cast(Object, objects["Deployment"]["spec"]["template"]["spec"])


@pytest.fixture(params=SCENARIOS, ids=lambda path: path.name)
def scenario(request: pytest.FixtureRequest) -> Object:
    return load(cast(Path, request.param))


def test_every_scenario_passes_helm_lint(scenario: Object) -> None:
    report = helm_python.lint(CHART, scenario, strict=True)
    assert report["errors"] == []
    assert [m["error"] for m in report["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("replicas", [1, 3])
def test_every_scenario_is_valid_kubernetes(scenario: Object, version: str, replicas: int) -> None:
    for item in rendered({**scenario, "replicas": replicas}):
        kubernetes_validate.validate(item, version, strict=True)


def test_the_scenarios_are_there() -> None:
    names = ["cpu", "custom", "embeddings", "image", "model", "tts"]
    assert [path.name for path in SCENARIOS] == [f"{name}-values.yaml" for name in names]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "missing property 'image'"),
        ({"image": "docker.io/vllm/vllm-openai:latest"}, "/image"),
        ({"image": "docker.io/vllm/vllm-openai:nightly-2026"}, "/image"),
        ({"image": "docker.io/vllm/vllm-openai:cu129-latest"}, "/image"),
        ({"image": "docker.io/vllm/vllm-openai"}, "/image"),
        ({"image": "vllm:1.0"}, "/image"),
        ({"imagePullPolicy": "Always"}, "additional properties 'imagePullPolicy' not allowed"),
        ({"gpu": {"slice": 1}}, "additional properties 'slice' not allowed"),
        ({"gpu": {"slices": 2}}, "/gpu/slices"),
        ({"replicas": 0}, "/replicas"),
        ({"replicas": 9}, "/replicas"),
        ({"port": "8000"}, "/port"),
        ({"port": 80}, "/port"),
        ({"ingress": {"prefixes": ["v1"]}}, "/ingress/prefixes/0"),
        ({"ingress": {"prefixes": ["/"]}}, "/ingress/prefixes/0"),
        ({"ingress": {"prefixes": ["/v1", "/v1"]}}, "/ingress/prefixes"),
        ({"ingress": {"exact": ["/health"]}}, "additional properties 'exact' not allowed"),
        ({"ingress": {"host": "example.com"}}, "additional properties 'host' not allowed"),
        ({"env": {"A-B": "1"}}, "A-B"),
        ({"env": {"A": 1}}, "/env/A"),
        ({"resources": {"memory": "16G"}}, "/resources/memory"),
        ({"resources": {"cpu": "1"}}, "/resources/cpu"),
        ({"resources": {"limits": {"cpu": "1"}}}, "additional properties 'limits' not allowed"),
        ({"ingress": {"metrics": "metrics"}}, "/ingress/metrics"),
        ({"probes": {"startupSeconds": 0}}, "/probes/startupSeconds"),
        ({"probes": {"livenessFailures": 24}}, "additional properties 'livenessFailures' not allowed"),
        ({"liveness": {"failures": 1}}, "/liveness/failures"),
        ({"liveness": {"command": [""]}}, "/liveness/command/0"),
        ({"networkPolicy": {"from": {"podLabels": None}}}, "/networkPolicy/from"),
        ({"networkPolicy": {"metrics": {"namespace": ""}}}, "/networkPolicy/metrics/namespace"),
        ({"networkPolicy": {"enabled": False}}, "additional properties 'enabled' not allowed"),
    ],
    ids=str,
)
def test_wrong_values_are_refused_by_name(values: Object, message: str) -> None:
    complete = values if "image" in values or not values else {"image": IMAGE, **values}
    with pytest.raises(helm_python.HelmError) as refused:
        render(complete)
    assert message in str(refused.value)


def test_every_object_of_the_schema_is_closed_and_complete() -> None:
    """A key that the schema forgets would be silently ignored; a default it doesn't know could not be checked."""

    def check(schema: Object, defaults: Object, path: str) -> None:
        assert schema["additionalProperties"] is False, path
        known = set(schema["properties"]) - {"global"}
        assert set(schema["required"]) == known, path
        assert set(defaults) | ({"image"} if not path else set()) == known, path
        for key, inner in schema["properties"].items():
            if inner.get("type") == "object" and "properties" in inner:
                check(inner, defaults[key], f"{path}.{key}")

    check(json.loads((CHART / "values.schema.json").read_text()), load(CHART / "values.yaml"), "")


def test_every_default_is_explained() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        key, _, value = line.strip().partition(": ")
        if not line.strip() or line.strip().startswith("#") or line.strip().endswith(":"):
            continue
        before = number - 1
        while lines[before].strip() and not lines[before].strip().startswith("#"):
            before -= 1
        assert lines[before].strip().startswith("#"), f"{key} = {value} has no comment above its block"


def test_no_path_means_no_ingress() -> None:
    objects = render({"image": IMAGE})
    assert "Ingress" not in objects
    assert "Service" in objects


def test_the_service_opens_no_port_of_the_machine(scenario: Object) -> None:
    spec = render(scenario)["Service"]["spec"]
    assert spec["type"] == "ClusterIP"
    assert [set(port) for port in spec["ports"]] == [{"name", "port", "targetPort", "protocol"}]


def test_ingress_routes_the_declared_paths_for_any_host_and_health_for_the_service_s_own() -> None:
    objects = render({"image": IMAGE, "ingress": {"prefixes": ["/v1", "/v2/x"]}, "probes": {"path": "/readyz"}})
    ingress = objects["Ingress"]
    assert ingress["spec"]["ingressClassName"] == "traefik"
    assert ingress["metadata"]["annotations"] == {"traefik.ingress.kubernetes.io/router.entrypoints": "web"}
    anybody, own = ingress["spec"]["rules"]
    assert "host" not in anybody
    assert [(p["path"], p["pathType"]) for p in anybody["http"]["paths"]] == [("/v1", "Prefix"), ("/v2/x", "Prefix")]
    assert own["host"] == "svc"
    assert [(p["path"], p["pathType"]) for p in own["http"]["paths"]] == [("/readyz", "Exact")]
    backends = {p["backend"]["service"]["name"] for rule in (anybody, own) for p in rule["http"]["paths"]}
    assert backends == {"svc"}


def test_metrics_are_routed_for_the_service_s_own_host_and_only_where_declared() -> None:
    values = {"image": IMAGE, "ingress": {"prefixes": ["/v1"], "metrics": "/metrics"}}
    anybody, own = render(values)["Ingress"]["spec"]["rules"]
    assert [p["path"] for p in anybody["http"]["paths"]] == ["/v1"]
    assert [(p["path"], p["pathType"]) for p in own["http"]["paths"]] == [("/health", "Exact"), ("/metrics", "Exact")]
    assert "/metrics" not in str(render({"image": IMAGE, "ingress": {"prefixes": ["/v1"]}})["Ingress"])


def liveness_of(scenario: Object) -> Object:
    return cast(Object, pod_of(render(scenario))["containers"][0]["livenessProbe"])


def test_a_restart_comes_after_two_minutes_and_waits_for_nobody(scenario: Object) -> None:
    probe = liveness_of(scenario)
    assert probe["periodSeconds"] * probe["failureThreshold"] == 120
    assert probe["timeoutSeconds"] < probe["periodSeconds"]
    assert probe["terminationGracePeriodSeconds"] == 15


@pytest.mark.parametrize("name", ["model", "embeddings"])
def test_vllm_is_alive_by_what_it_produces(name: str) -> None:
    scenario = load(CHART / "ci" / f"{name}-values.yaml")
    probe = liveness_of(scenario)
    assert "httpGet" not in probe
    assert probe["exec"]["command"] == scenario["liveness"]["command"], "the program arrives as it was written"


def test_without_a_command_liveness_asks_the_health_path() -> None:
    probe = liveness_of({"image": IMAGE, "probes": {"path": "/readyz"}})
    assert ("exec" in probe, probe["httpGet"]) == (False, {"path": "/readyz", "port": "http"})


def test_the_pod_has_no_way_to_the_cluster_and_no_privilege(scenario: Object) -> None:
    pod = pod_of(render(scenario))
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in container["securityContext"]
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        assert field not in pod
    assert not any("hostPath" in volume for volume in pod["volumes"])
    assert "initContainers" not in pod


def test_root_only_when_asked_for() -> None:
    assert pod_of(render({"image": IMAGE}))["securityContext"]["runAsNonRoot"] is True
    root = pod_of(render({"image": IMAGE, "user": {"uid": 0}}))["securityContext"]
    assert (root["runAsNonRoot"], root["runAsUser"]) == (False, 0)


def test_one_gpu_never_holds_two_engines(scenario: Object) -> None:
    spec = render(scenario)["Deployment"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_a_slice_brings_the_runtime_class_and_none_brings_neither() -> None:
    with_gpu = pod_of(render({"image": IMAGE}))
    assert with_gpu["runtimeClassName"] == "nvidia"
    assert with_gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    without = pod_of(render({"image": IMAGE, "gpu": {"slices": 0}}))
    assert "runtimeClassName" not in without
    assert "nvidia.com/gpu" not in without["containers"][0]["resources"]["limits"]


def test_memory_that_is_kept_is_the_limit_and_processors_have_none(scenario: Object) -> None:
    resources = pod_of(render({**scenario, "resources": {"cpu": "2500m", "memory": "10Gi"}}))["containers"][0][
        "resources"
    ]
    assert resources["requests"] == {"cpu": "2500m", "memory": "10Gi"}
    assert resources["limits"]["memory"] == "10Gi"
    assert set(resources["limits"]) <= {"memory", "nvidia.com/gpu"}


@pytest.mark.parametrize("seconds", [1800, 601, 14400])
def test_the_start_gets_all_of_its_time(seconds: int) -> None:
    objects = render({"image": IMAGE, "probes": {"startupSeconds": seconds}})
    probe = pod_of(objects)["containers"][0]["startupProbe"]
    assert seconds <= probe["failureThreshold"] * probe["periodSeconds"] < seconds + probe["periodSeconds"]
    assert objects["Deployment"]["spec"]["progressDeadlineSeconds"] > seconds


def test_the_default_start_allows_half_an_hour_of_download() -> None:
    probe = pod_of(render({"image": IMAGE}))["containers"][0]["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] == 1800


def test_running_requests_are_drained() -> None:
    pod = pod_of(render({"image": IMAGE, "drain": {"preStopSeconds": 7, "requestSeconds": 120}}))
    assert pod["containers"][0]["lifecycle"]["preStop"] == {"sleep": {"seconds": 7}}
    assert pod["terminationGracePeriodSeconds"] > 7 + 120


def test_the_cache_outlives_the_release_and_is_absent_at_zero() -> None:
    kept = render({"image": IMAGE})["PersistentVolumeClaim"]
    assert kept["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert kept["spec"]["resources"]["requests"]["storage"] == "40Gi"
    none = render({"image": IMAGE, "cache": {"gib": 0}})
    assert "PersistentVolumeClaim" not in none
    assert [v["name"] for v in pod_of(none)["volumes"]] == ["shm", "tmp"]


def test_shared_memory_is_memory_of_the_declared_size() -> None:
    volumes = {v["name"]: v for v in pod_of(render({"image": IMAGE, "shmMib": 1024}))["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1024Mi"}


def test_only_traefik_and_metrics_may_call_and_only_the_internet_is_called() -> None:
    policy = render({"image": IMAGE, "port": 9000})["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [
        {
            "from": [
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "traefik"}},
                },
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
                },
            ],
            "ports": [{"port": 9000, "protocol": "TCP"}],
        }
    ]
    dns, internet = policy["egress"]
    assert {p["port"] for p in dns["ports"]} == {53}
    assert dns["to"][0]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert internet["ports"] == [{"port": 443, "protocol": "TCP"}]
    block = internet["to"][0]["ipBlock"]
    assert block["cidr"] == "0.0.0.0/0"
    assert {"10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(block["except"])


def test_a_service_without_internet_reaches_dns_only() -> None:
    policy = render({"image": IMAGE, "networkPolicy": {"egressPorts": []}})["NetworkPolicy"]["spec"]
    assert [rule["ports"][0]["port"] for rule in policy["egress"]] == [53]


def test_arguments_and_environment_arrive_as_written() -> None:
    awkward = ['{"image":2,"video":0}', "yes", "0.50", "a b", "it's", 'say "hi"', "#no comment", "{{ .Values }}", "1e3"]
    env = {"A": "true", "B": '{"x": 1}', "C": ""}
    container = pod_of(render({"image": IMAGE, "command": ["vllm", "serve"], "args": awkward, "env": env}))[
        "containers"
    ][0]
    assert container["command"] == ["vllm", "serve"]
    assert container["args"] == awkward
    assert {item["name"]: item["value"] for item in container["env"]} == env


def test_numbers_survive_as_pulumi_sends_them() -> None:
    """Pulumi sends every number as a float; Go would print large ones as 1e+06."""
    floats = {"image": IMAGE, "port": 8000.0, "user": {"uid": 65535.0}, "probes": {"startupSeconds": 14400.0}}
    objects = render(floats)
    assert objects["Service"]["spec"]["ports"][0]["port"] == 8000
    assert pod_of(objects)["securityContext"]["runAsUser"] == 65535
    assert isinstance(pod_of(objects)["containers"][0]["startupProbe"]["failureThreshold"], int)


def test_standard_labels_and_a_selector_that_never_changes(scenario: Object) -> None:
    objects = render(scenario, name="speech")
    selector = {"app.kubernetes.io/name": "ai-service", "app.kubernetes.io/instance": "speech"}
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == selector
    for item in objects.values():
        labels = item["metadata"]["labels"]
        assert selector.items() <= labels.items()
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert item["metadata"]["namespace"] == "pilotlight"
        assert item["metadata"]["name"] in ("speech", "speech-cache")


# --- a pod on each of several machines --------------------------------------------------------------------------------


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    found = {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}
    assert len(found) == sum(item["kind"] == kind for item in objects)
    return found


def test_each_machine_has_its_own_pod_and_cache_behind_one_service(scenario: Object) -> None:
    objects = rendered({**scenario, "replicas": 3.0}, name="vllm")
    pods, claims = of_kind(objects, "Deployment"), of_kind(objects, "PersistentVolumeClaim")
    assert list(pods) == ["vllm", "vllm-2", "vllm-3"]
    labels = {name: pod["spec"]["template"]["metadata"]["labels"] for name, pod in pods.items()}
    for name, pod in pods.items():
        assert (pod["spec"]["replicas"], pod["spec"]["strategy"]) == (1, {"type": "Recreate"})
        finds = pod["spec"]["selector"]["matchLabels"].items()
        assert [other for other, has in labels.items() if finds <= has.items()] == [name], "and not its twins"
        volumes = pod["spec"]["template"]["spec"]["volumes"]
        mounted = [one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one]
        assert mounted == [claim for claim in claims if claim == f"{name}-cache"]
    assert len(claims) in (0, 3)
    [service], [policy] = of_kind(objects, "Service").values(), of_kind(objects, "NetworkPolicy").values()
    for finds in (service["spec"]["selector"], policy["spec"]["podSelector"]["matchLabels"]):
        assert all(finds.items() <= has.items() for has in labels.values())
        assert not finds.items() <= {**labels["vllm"], "pilotlight/service": "speech"}.items(), "of this service alone"


def test_no_two_of_them_are_on_one_machine_and_the_first_is_left_as_it_was() -> None:
    alone, three = rendered({"image": IMAGE}), rendered({"image": IMAGE, "replicas": 3})
    first, *further = of_kind(three, "Deployment").values()
    assert first == of_kind(alone, "Deployment")["svc"], "a second machine starts no model again"
    assert of_kind(three, "PersistentVolumeClaim")["svc-cache"] == of_kind(alone, "PersistentVolumeClaim")["svc-cache"]
    for one in further:
        affinity = one["spec"]["template"]["spec"]["affinity"]
        [term] = affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        assert term["labelSelector"]["matchLabels"].items() <= first["spec"]["template"]["metadata"]["labels"].items()


def test_traefik_names_the_pod_that_answered_where_there_are_several() -> None:
    prefix = "traefik.ingress.kubernetes.io/service.sticky.cookie"
    assert "annotations" not in render({"image": IMAGE})["Service"]["metadata"]
    service = of_kind(rendered({"image": IMAGE, "replicas": 2}), "Service")["svc"]
    assert service["metadata"]["annotations"] == {prefix: "true", f"{prefix}.name": "machine"}
