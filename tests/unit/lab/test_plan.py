"""The lab's reading of the recorded stack: nothing runs otherwise than declared, nothing is passed over in silence."""

import base64
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from components import paths
from components.settings.presets import PRESETS
from lab.errors import LabError
from lab.read import plan, tables
from lab.read import stack as stacks
from lab.read.cloud import VM_ADDRESS, Cloud
from lab.read.cloud_run import SERVICE
from lab.read.gateway import SECRET_VERSION
from lab.read.stack import UNKNOWN, Resource, Stack, config_of, render
from lab.run import folders
from lab.run.pods import hosts

Change = Callable[[Stack], None]
CLOUD = Cloud(port=8787, auth_key="tskey-auth-test")


def rendered(*, preview: bool = False, **config: str) -> Stack:
    extra = {f"pilotlight:{key}": value for key, value in config.items()}
    return render("dev", {**CLOUD.config(), **config_of("dev"), **extra}, CLOUD.compute, preview=preview)


@pytest.fixture(scope="module")
def recorded() -> Stack:
    """With one plain machine."""
    return rendered(vm='{"machine_type": "e2-highmem-2"}')


@pytest.fixture
def stack(recorded: Stack) -> Stack:
    """A copy of the recorded stack to break."""
    return copy.deepcopy(recorded)


def one(stack: Stack, name: str) -> Resource:
    found = [resource for resource in stack.resources if resource.name == name]
    assert len(found) == 1, name
    return found[0]


# --- what can't be run is refused ------------------------------------------------------------------------------------


def service(stack: Stack) -> dict[str, Any]:
    return one(stack, "gateway-service").inputs


def container(stack: Stack, name: str) -> dict[str, Any]:
    return next(item for item in service(stack)["template"]["containers"] if item["name"] == name)


def in_template(**changes: object) -> Change:
    return lambda stack: service(stack)["template"].update(changes)


def in_service(**changes: object) -> Change:
    return lambda stack: service(stack).update(changes)


def in_container(name: str, **changes: object) -> Change:
    return lambda stack: container(stack, name).update(changes)


def in_user_data(old: str, new: str) -> Change:
    def change(stack: Stack) -> None:
        metadata = one(stack, "vm-machine").inputs["metadata"]
        assert old in metadata["user-data"], old
        metadata["user-data"] = metadata["user-data"].replace(old, new)

    return change


def in_vllm(edit: Callable[[dict[str, Any]], object]) -> Change:
    return lambda stack: void(edit(one(stack, "home-vllm").inputs["values"]))


def void(_: object) -> None:
    return None


def in_firewall(**changes: object) -> Change:
    return lambda stack: one(stack, "vm-firewall").inputs.update(changes)


def without(name: str) -> Change:
    return lambda stack: stack.resources.remove(one(stack, name))


def again(name: str) -> Change:
    return lambda stack: stack.resources.append(one(stack, name))


def secret_volume(stack: Stack) -> dict[str, Any]:
    return service(stack)["template"]["volumes"][0]["secret"]


def key_reference(stack: Stack) -> dict[str, Any]:
    return next(env for env in container(stack, "caddy")["envs"] if "valueSource" in env)["valueSource"]["secretKeyRef"]


def in_config_version(text: str) -> Change:
    changes = {"secretData": text, "isSecretDataBase64": True}
    return lambda stack: one(stack, "gateway-caddy-config-version").inputs.update(changes)


REFUSED: dict[str, tuple[Change, str]] = {
    "unknown image": (
        in_container("caddy", image="docker.io/library/nginx:1"),
        r"image docker\.io/library/nginx:1: the lab has no program for it \(it knows docker\.io/library/caddy, ",
    ),
    "image of another registry": (
        in_container("caddy", image="example.com/docker.io/library/caddy:2"),
        r"image example\.com/docker\.io/library/caddy:2: the lab has no program",
    ),
    "unknown image on the vm": (
        in_user_data("ghcr.io/ggml-org/llama.cpp:", "ghcr.io/ggml-org/other:"),
        r"image ghcr\.io/ggml-org/other:.*: the lab has no program",
    ),
    "other command": (
        in_container("caddy", commands=["sh"]),
        r"gateway/caddy: the lab runs /bin/sh of docker\.io/library/caddy:\S+, not \['sh'\]",
    ),
    "other command at home": (
        in_vllm(lambda values: values.update(command=["python", "-m", "vllm"])),
        r"home/vllm: the lab does not know the command python -m vllm of docker\.io/vllm/vllm-openai",
    ),
    "unknown argument": (
        in_vllm(lambda values: values["args"].append("--enforce-eager")),
        r"home/vllm: the lab does not understand the argument --enforce-eager of docker\.io/vllm/vllm-openai",
    ),
    "second model": (
        in_vllm(lambda values: values["args"].insert(1, "another/model")),
        r"home/vllm: the lab does not understand the argument another/model",
    ),
    "argument without value": (
        in_user_data("--parallel ", "--parallel --alias "),
        "vm/model: argument --parallel lacks",
    ),
    "last argument without value": (
        in_vllm(lambda values: values["args"].pop()),
        "home/vllm: argument --tool-call-parser lacks its value",
    ),
    "value too many": (in_user_data(" --metrics", " --metrics=yes"), "vm/model: argument --metrics takes no value"),
    "port nobody listens on at home": (
        in_vllm(lambda values: values.update(port=8001)),
        "home/vllm: the Service leads to port 8001, the server is told 8000",
    ),
    "secret without grant": (
        without("gateway-key-demo-reader"),
        "may not read projects/lab-project/secrets/pilotlight-dev-gateway-key-demo: no SecretIamMember grants it",
    ),
    "grant for somebody else": (
        lambda stack: one(stack, "gateway-key-demo-reader").inputs.update(member="user:me@example.com"),
        "no SecretIamMember grants it",
    ),
    "grant of less": (
        lambda stack: one(stack, "gateway-auth-key-reader").inputs.update(role="roles/secretmanager.viewer"),
        "pilotlight-dev-gateway-auth-key: no SecretIamMember grants it",
    ),
    "unpinned version of a file": (
        lambda stack: secret_volume(stack)["items"][0].update(version="latest"),
        "pilotlight-dev-gateway-caddy-config: version 'latest' is not pinned",
    ),
    "unpinned version of a variable": (
        lambda stack: key_reference(stack).update(version="latest"),
        "pilotlight-dev-gateway-key-demo: version 'latest' is not pinned",
    ),
    "version that is not there": (
        lambda stack: key_reference(stack).update(version="2"),
        "pilotlight-dev-gateway-key-demo has no version 2",
    ),
    "secret over 64 KiB": (
        lambda stack: one(stack, "gateway-console-version").inputs.update(secretData="ä" * 32769),
        "console has 65538 bytes; Secret Manager takes 64 KiB",
    ),
    "bytes over 64 KiB": (
        in_config_version(base64.b64encode(bytes(65537)).decode()),
        "caddy-config has 65537 bytes; Secret Manager takes 64 KiB",
    ),
    "bytes that are no base64": (
        in_config_version("{}"),
        "caddy-config is declared as base64 and isn't .*; Secret Manager would refuse it",
    ),
    "bytes in a variable": (
        lambda stack: one(stack, "gateway-key-demo-version").inputs.update(secretData="/w==", isSecretDataBase64=True),
        "CLIENT_KEY_DEMO: .*key-demo is no UTF-8 text; no variable can hold it",
    ),
    "unknown volume kind": (
        lambda stack: service(stack)["template"]["volumes"].__setitem__(
            0, {"name": "caddy-config", "gcs": {"bucket": "b"}}
        ),
        "volume caddy-config: the lab knows secret and emptyDir volumes only",
    ),
    "two containers with ports": (
        in_container("tailscale", ports={"containerPort": 1}),
        "gateway-service: exactly one container may have a port, 2 have",
    ),
    "no container with a port": (
        in_container("caddy", ports=None, startupProbe=None),
        "exactly one container may have a port, 0 have",
    ),
    "probe of a sidecar": (
        in_container("tailscale", startupProbe={"httpGet": {"path": "/healthz"}}),
        "gateway-service container tailscale: the lab waits for the ingress container's probe only",
    ),
    "unknown container field": (
        in_container("caddy", vendor="x", dependsOns=["tailscale"]),
        "gateway-service container caddy: the lab does not understand dependsOns, vendor",
    ),
    "unknown template field": (
        in_template(sessionAffinity=True),
        "gateway-service template: the lab does not understand sessionAffinity",
    ),
    "missing field": (in_template(timeout=None), "gateway-service: the lab can't read it: AttributeError"),
    "callers need a Google identity": (in_service(invokerIamDisabled=False), "gateway-service: it is not public"),
    "callers only from the VPC": (in_service(ingress="INGRESS_TRAFFIC_INTERNAL_ONLY"), "it is not public"),
    "second service": (again("gateway-service"), "registers 2 gateways, the lab runs exactly one"),
    "no service": (without("gateway-service"), "registers 0 gateways"),
    "unknown service account": (
        in_template(serviceAccount="nobody@lab-project.iam.gserviceaccount.com"),
        r"service account nobody@lab-project\.iam\.gserviceaccount\.com is declared nowhere",
    ),
    "second vm": (again("vm-machine"), "registers 2 VMs or groups of them, the lab runs at most one"),
    "unknown docker option": (
        in_user_data(" --rm ", " --rm --network host "),
        "vm-machine: the lab does not understand docker run --network",
    ),
    "no container on the vm": (in_user_data("/usr/bin/docker run", "/usr/bin/podman run"), "vm-machine: 0 units start"),
    "nothing published": (in_user_data("--publish 9931:9931 ", ""), "vm-machine: docker publishes 0 ports"),
    "published on one address": (
        in_user_data("--publish 9931:9931", "--publish 127.0.0.1:9931:9931"),
        "vm-machine: the lab understands --publish PORT:PORT, not 127.0.0.1:9931:9931",
    ),
    "published port that nobody listens on": (
        in_user_data("--publish 9931:9931", "--publish 9931:8080"),
        "docker publishes port 8080 of the container, but the server listens on 0.0.0.0:9931 in it",
    ),
    "server on the container's own loopback": (
        in_user_data("--host 0.0.0.0 ", ""),
        "the server listens on 127.0.0.1:9931 in it",
    ),
    "firewall without the gateway's subnet": (
        in_firewall(sourceRanges=["10.80.1.0/28"]),
        "vm-machine: no firewall rule lets the gateway's subnet reach its port 9931",
    ),
    "firewall with half of the subnet": (in_firewall(sourceRanges=["10.80.0.0/27"]), "no firewall rule lets"),
    "firewall for another port": (
        in_firewall(allows=[{"protocol": "tcp", "ports": ["80", "9000-9930"]}]),
        "no firewall rule lets",
    ),
    "firewall for udp": (in_firewall(allows=[{"protocol": "udp", "ports": ["9931"]}]), "no firewall rule lets"),
    "firewall for another machine": (in_firewall(targetServiceAccounts=["other@x"]), "no firewall rule lets"),
    "firewall of another network": (in_firewall(network="projects/x/global/networks/other"), "no firewall rule lets"),
    "firewall for the way out": (in_firewall(direction="EGRESS"), "no firewall rule lets"),
    "firewall that denies": (in_firewall(allows=[], denies=[{"protocol": "tcp"}]), "no firewall rule lets"),
    "no firewall": (without("vm-firewall"), "no firewall rule lets the gateway's subnet reach its port 9931"),
    "gateway without a leg in the VPC": (
        in_template(vpcAccess=None),
        "vm-machine: no Cloud Run service has an interface in the VPC",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_than_declared_is_refused(stack: Stack, case: str) -> None:
    change, message = REFUSED[case]
    change(stack)
    with pytest.raises(LabError, match=message):
        plan.read(stack)


@pytest.mark.parametrize(
    "allows",
    [
        [{"protocol": "tcp", "ports": ["80", "9931"]}],
        [{"protocol": "tcp", "ports": ["9000-9999"]}],
        [{"protocol": "udp", "ports": ["1"]}, {"protocol": "tcp"}],
        [{"protocol": "all"}],
    ],
)
def test_wider_firewall_admits_too(stack: Stack, allows: list[dict[str, Any]]) -> None:
    in_firewall(allows=allows, sourceRanges=["192.168.0.0/16", "10.0.0.0/8"])(stack)
    assert plan.read(stack).vm


# --- what is read ----------------------------------------------------------------------------------------------------


def test_plan_is_the_declaration(recorded: Stack) -> None:
    found = plan.read(recorded)
    assert (found.gateway.ingress, found.gateway.port, found.gateway.probe_path) == ("caddy", 8080, "/ready")
    assert (found.gateway.concurrency, found.gateway.timeout_s, found.gateway.min_instances) == (80, 300.0, 0)
    assert found.gateway.start_limit_s == 60.0
    caddy, tailscale, pilot = found.gateway.containers
    assert caddy.env["CLIENT_KEY_DEMO"] == recorded.outputs["api_keys"]["demo"]
    assert list(caddy.mounts[0].files) == ["caddy.json.bz2"]
    assert json.loads(caddy.mounts[0].texts[0])["admin"]["config"] == {"persist": False}
    assert (pilot.name, pilot.env["HOME_DIAL"], pilot.env["BURST_URL"]) == ("pilot", "home:80", "")
    assert tailscale.mounts[0].files == {"auth-key": b"tskey-auth-test"}, "the newline of the computed key is gone"
    assert found.tailnet.auth_key == "tskey-auth-test"
    assert found.tailnet.home == "home:80"
    assert found.vm
    assert (found.vm.address, found.vm.port) == (VM_ADDRESS, 9931)
    assert [pod.name for pod in found.pods] == ["vllm"]


def test_secret_of_bytes_is_mounted_as_they_are(stack: Stack, tmp_path: Path) -> None:
    content = bytes(range(256)) * 256
    assert len(content) == 64 * 1024
    in_config_version(base64.b64encode(content).decode())(stack)
    [caddy, *_] = plan.read(stack).gateway.containers
    [folder] = [Path(here) for path, here in folders.mount(tmp_path, caddy, fresh=True).items() if "caddy" in path]
    [file] = folder.iterdir()
    assert (file.read_bytes() == content, file.stat().st_mode & 0o777) == (True, 0o600)


ENTRIES = [{"name": "own", "image": "ghcr.io/a/b:1.2.3", "model": "m", "paths": ["/v1/own"], "slices": 0}, *(
    {"name": name, "preset": name} for name in PRESETS
)]  # fmt: skip


def test_several_services_run_and_those_that_can_t_are_named() -> None:
    found = plan.read(rendered(services=json.dumps(ENTRIES)))
    assert {pod.name: pod.paths for pod in found.pods} == {
        "model": paths.ANSWERS[:2],
        "embeddings": ("/v1/embeddings",),
    }
    assert set(found.not_run) == {"own", "tts", "image"}
    assert found.not_run["own"] == "the lab has no program for its image"
    assert found.tailnet.home == "home:80", "whatever its spelling"
    at = {pod.name: "127.0.0.1:1" for pod in found.pods}
    text = tables.tables(found, tables.addresses(found, port=1, instance_port=1, pods_at=at, traefik_port=1))
    for name, reason in found.not_run.items():
        [told] = [one.missing for one in found.unproven if one.name.startswith(f"home/{name} (")]
        assert told == f"not run, {reason}"
        assert f"   home/{name}: not run, {reason}\n" in text
    assert "--runner: generating text, or pooling (embeddings)" in text


def test_an_image_of_nobody_is_not_run_in_place_of_another(stack: Stack) -> None:
    in_vllm(lambda values: values.update(image="docker.io/other/engine:v1.0"))(stack)
    found = plan.read(stack)
    assert (found.pods, found.not_run) == ((), {"vllm": "the lab has no program for its image"})


@pytest.mark.parametrize(
    ("lanes", "machine", "pods", "home"), [('["vm"]', True, 0, None), ('["home"]', False, 1, "home:80")]
)
def test_stack_with_one_lane(lanes: str, machine: bool, pods: int, home: str | None) -> None:
    found = plan.read(rendered(lanes=lanes))
    assert (found.vm is not None, len(found.pods), found.tailnet.home) == (machine, pods, home)
    assert len(found.gateway.containers) == (1 if home is None else 3)


def test_burst_is_the_service_with_a_gpu_wherever_the_program_puts_it() -> None:
    stack = rendered(lanes='["burst", "vm"]')
    [burst] = [resource for resource in stack.of_type(SERVICE) if resource.name == "burst-service"]
    stack.resources[stack.resources.index(burst)] = replace(burst, parent="elsewhere")
    found = plan.read(stack)
    assert found.burst
    assert found.burst.container.image == burst.inputs["template"]["containers"][0]["image"]
    assert found.lanes == ("burst", "vm")
    del burst.inputs["template"]["nodeSelector"]
    with pytest.raises(LabError, match="registers 2 gateways"):
        plan.read(stack)


def test_liveness_is_the_declared_command_and_the_table_says_how_it_is_carried_out(recorded: Stack) -> None:
    found = plan.read(recorded)
    [pod] = found.pods
    assert (pod.liveness.command, pod.liveness.path) == (
        tuple(one(recorded, "home-vllm").inputs["values"]["liveness"]["command"]), "",
    )  # fmt: skip
    assert (pod.liveness.allowed_s, pod.liveness.grace_s) == (120, 10)
    assert (pod.readiness.command, pod.readiness.path, pod.readiness.grace_s) == ((), "/health", 0)
    text = tables.tables(found, {})
    assert "home/vllm: liveness by python3 -> the lab's own, every 15 s, a restart after 8 failures" in text


def test_a_pod_of_the_model_runs_for_each_declared_machine() -> None:
    found = plan.read(rendered(home=json.dumps({"nodes": 3})))
    assert [(pod.name, pod.service, pod.apart) for pod in found.pods] == [
        ("vllm", "vllm", False),
        ("vllm-2", "vllm", True),
        ("vllm-3", "vllm", True),
    ]
    assert len(set(hosts(found.pods).values())) == 3, "Traefik takes two ports of one address for one pod"
    assert {"home/vllm", "home/vllm-2", "home/vllm-3"} <= found.paces.keys()


def test_tables_list_every_image_argument_mount_and_address(recorded: Stack) -> None:
    found = plan.read(recorded)
    text = tables.tables(
        found,
        tables.addresses(found, port=8787, instance_port=1111, pods_at={"vllm": "127.0.0.1:2222"}, traefik_port=3333),
    )
    assert found.vm
    containers = [*found.gateway.containers, found.vm.container]
    for image in {item.image for item in (*containers, *found.pods)}:
        assert text.count(f": {image} -> ") == 1
    for word in found.vm.container.args:
        assert not word.startswith("--") or f"      {word}: " in text
    for word in found.pods[0].args:
        assert not word.startswith("--") or f"      {word}: " in text
    for item in containers:
        for mount in item.mounts:
            assert f"   {item.title} {mount.path} -> run/{item.title}{mount.path} (" in text
    for mount in found.pods[0].mounts:
        assert f"   home/vllm {mount.path} -> run/home/vllm{mount.path} ({mount.kind})" in text
    for row in (
        "gateway: public HTTPS address -> http://127.0.0.1:8787",
        "gateway: container port 8080 (PORT) -> 127.0.0.1:1111",
        "gateway: 127.0.0.1:* -> as declared",
        f"vm: 0.0.0.0:9931 -> {VM_ADDRESS}:9931",
        "tailnet: home:80 -> 127.0.0.1:3333 (Traefik, through the SOCKS5 hop)",
        "home/vllm: pod port 8000 -> 127.0.0.1:2222",
    ):
        assert f"   {row}\n" in f"{text}\n"


# --- rendering -------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the repository's root."""
    monkeypatch.setattr(stacks, "ROOT", tmp_path)
    return tmp_path


def test_config_leaves_secrets_out(project: Path) -> None:
    document = {
        "encryptionsalt": "v1:x",
        "config": {
            "gcp:region": "us-east4",
            "kubeconfig": {"secure": "AAAB"},
            "pilotlight:clients": [{"name": "a", "key": {"secure": "AAAC"}}, {"name": "b"}],
            "gateway": {"min_instances": 1},
        },
    }
    (project / "Pulumi.mine.yaml").write_text(yaml.safe_dump(document))
    assert config_of("mine") == {
        "gcp:region": "us-east4",
        "pilotlight:clients": '[{"name": "a"}, {"name": "b"}]',
        "pilotlight:gateway": '{"min_instances": 1}',
    }


def test_stack_without_config_is_empty(project: Path) -> None:
    (project / "Pulumi.mine.yaml").write_text("# nothing yet\n")
    assert config_of("mine") == {}


def test_unknown_stack_names_the_known_ones(project: Path) -> None:
    for name in ("dev", "prod"):
        (project / f"Pulumi.{name}.yaml").write_text("")
    (project / "Pulumi.yaml").write_text("name: pilotlight\n")
    with pytest.raises(
        LabError, match=r"no stack named 'def': Pulumi\.def\.yaml does not exist \(there is: dev, prod\)"
    ):
        config_of("def")


def test_urn_that_comes_twice_is_refused(project: Path) -> None:
    line = 'pulumi.ComponentResource("a:b:C", "twin", None, None)\n'
    (project / "__main__.py").write_text(f"import pulumi\n{line}{line}")
    with pytest.raises(Exception, match=r"two resources are registered as urn:pulumi:dev::pilotlight::.*a:b:C::twin"):
        render("dev", {}, CLOUD.compute)


def test_failed_program_does_not_spoil_the_next(project: Path) -> None:
    (project / "__main__.py").write_text("""
import pulumi
pulumi.ComponentResource("a:b:C", "left-behind", None, None)
raise pulumi.RunError("refused")
""")
    with pytest.raises(pulumi.RunError, match="refused"):
        render("dev", {}, CLOUD.compute)
    (project / "__main__.py").write_text("import pulumi\npulumi.export('x', pulumi.Output.from_input(1))\n")
    assert render("dev", {}, CLOUD.compute).outputs == {"x": 1}


def test_preview_knows_no_computed_value() -> None:
    preview = rendered(preview=True)
    assert service(preview)["template"]["serviceAccount"] == UNKNOWN
    assert container(preview, "tailscale")["image"].startswith("docker.io/tailscale/tailscale:v")
    assert one(preview, "gateway-caddy-config-version").inputs["secretData"] == UNKNOWN
    assert preview.outputs["base_url"] == UNKNOWN
    update = rendered()
    assert {resource.urn for resource in preview.resources} == {resource.urn for resource in update.resources}
    assert service(update)["template"]["serviceAccount"] == "pilotlight-dev-gateway@lab-project.iam.gserviceaccount.com"
    assert UNKNOWN not in json.dumps(update.outputs)


def test_secrets_are_recorded_as_secret(recorded: Stack) -> None:
    for resource in recorded.of_type(SECRET_VERSION):
        assert resource.secrets == {"secretData"}, resource.name
