"""The VM lane: closed to all but the gateway; its boot as cloud-init reads it; the weights script, run for real."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from components.models.catalogue import STANDARD
from components.network import GATEWAY_RANGE, VM_RANGE
from components.settings import Settings
from components.vm import boot as at_boot
from lab.read.stack import Resource, Stack
from tests.unit.own_model import GGUF, VISION, own_model

Make = Callable[..., Settings]
Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
Extra = Callable[..., Stack]
Check = Callable[[Stack], None]
FIREWALL = "gcp:compute/firewall:Firewall"
INSTANCE = "gcp:compute/instance:Instance"
MODES = pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
ONE: dict[str, Any] = {"spot": False}
"""One plain machine: by default it is spot capacity, which is a group."""
SCRIPT = Path(at_boot.__file__).parent / "fetch_weights.sh"
CLOSING = SCRIPT.with_name("close_egress.sh")


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource


# --- the machine ------------------------------------------------------------------------------------------------------


def check_no_external_address(stack: Stack) -> None:
    """Neither on the machine nor reserved, and nothing forwards to it."""
    for machine in stack.of_type(INSTANCE):
        assert machine.inputs["networkInterfaces"], machine.name
        assert "accessConfigs" not in str(machine.inputs), machine.name
        assert "ipv6AccessConfigs" not in str(machine.inputs), machine.name
    for resource in stack.resources:
        if resource.type == "gcp:compute/address:Address":
            assert resource.inputs["addressType"] == "INTERNAL", resource.name
        assert "forwardingRule" not in resource.type, resource.name
        assert "globalAddress" not in resource.type, resource.name


def check_only_the_gateway_gets_in(stack: Stack) -> None:
    """One rule in a network without any other: the gateway's subnet, the model's port, this machine."""
    [rule] = stack.of_type(FIREWALL)
    assert rule.inputs == {
        "name": "pilotlight-dev-vm",
        "project": "lab-project",
        "network": named(stack, "network-vpc").outputs["id"],
        "direction": "INGRESS",
        "sourceRanges": [named(stack, "network-gateway-subnet").inputs["ipCidrRange"]],
        "targetServiceAccounts": [named(stack, "vm-account").outputs["email"]],
        "allows": [{"protocol": "tcp", "ports": ["9931"]}],
    }
    assert named(stack, "vm-machine").inputs["serviceAccount"]["email"] in rule.inputs["targetServiceAccounts"]
    # Google makes four open rules in a network that makes its own subnets.
    assert named(stack, "network-vpc").inputs["autoCreateSubnetworks"] is False


def check_powerless(stack: Stack) -> None:
    """The machine's account has no role at all."""
    account = named(stack, "vm-account").outputs
    assert named(stack, "vm-machine").inputs["serviceAccount"]["email"] == account["email"]
    for resource in stack.resources:
        assert resource.inputs.get("member") not in (account["member"], "allUsers", "allAuthenticatedUsers")


def check_system(stack: Stack) -> None:
    """An image that updates itself, and boots nothing unsigned."""
    inputs = named(stack, "vm-machine").inputs
    assert inputs["bootDisk"]["initializeParams"]["image"] == "cos-cloud/cos-stable"
    assert inputs["metadata"]["cos-update-strategy"] == "update_enabled"
    assert inputs["metadata"]["block-project-ssh-keys"] == "true"
    assert inputs["shieldedInstanceConfig"] == {"enableSecureBoot": True, "enableVtpm": True}


def check_weights_outlive_the_machine(stack: Stack) -> None:
    """A new machine finds the weights: a disk of its own, and the old machine goes before it is needed again.

    Another disk is another machine, too: on a running one nothing would be fetched onto it.
    """
    machine, disk = named(stack, "vm-machine"), named(stack, "vm-weights")
    assert machine.inputs["attachedDisks"] == [{"source": disk.outputs["id"], "deviceName": "weights"}]
    assert "/dev/disk/by-id/google-weights" in machine.inputs["metadata"]["user-data"]
    assert machine.options["deleteBeforeReplace"] is True
    assert machine.options["replaceOnChanges"] == ["metadata", "attachedDisks"]


def check_way_out(stack: Stack) -> None:
    """Without an external address, image and weights come through Cloud NAT, for the VM's subnet only."""
    nat = named(stack, "network-nat").inputs
    assert nat["sourceSubnetworkIpRangesToNat"] == "LIST_OF_SUBNETWORKS"
    [subnet] = nat["subnetworks"]
    assert subnet["name"] == named(stack, "network-vm-subnet").outputs["id"]
    [interface] = named(stack, "vm-machine").inputs["networkInterfaces"]
    assert interface["subnetwork"] == subnet["name"]
    assert interface["networkIp"] == named(stack, "vm-address").outputs["address"]


CHECKS = [
    check_no_external_address,
    check_only_the_gateway_gets_in,
    check_powerless,
    check_system,
    check_weights_outlive_the_machine,
    check_way_out,
]
NIC = "inputs.networkInterfaces.0"
PLANTED: list[tuple[Check, str, str, Any]] = [
    (check_no_external_address, "vm-machine", f"{NIC}.accessConfigs", [{}]),
    (check_no_external_address, "vm-machine", "inputs.networkInterfaces.1", {"accessConfigs": [{}]}),
    (check_no_external_address, "vm-address", "inputs.addressType", "EXTERNAL"),
    (check_only_the_gateway_gets_in, "vm-firewall", "inputs.sourceRanges", ["0.0.0.0/0"]),
    (check_only_the_gateway_gets_in, "vm-firewall", "inputs.sourceRanges.1", VM_RANGE),
    (check_only_the_gateway_gets_in, "vm-firewall", "inputs.allows.0.ports", ["22", "9931"]),
    (check_only_the_gateway_gets_in, "vm-firewall", "inputs.allows.0.ports", ...),
    (check_only_the_gateway_gets_in, "vm-firewall", "inputs.targetServiceAccounts", ...),
    (check_only_the_gateway_gets_in, "network-vpc", "inputs.autoCreateSubnetworks", True),
    (check_powerless, "vm-machine", "inputs.serviceAccount.email", "compute@developer.gserviceaccount.com"),
    (check_system, "vm-machine", "inputs.bootDisk.initializeParams.image", "debian-cloud/debian-12"),
    (check_system, "vm-machine", "inputs.metadata.cos-update-strategy", "update_disabled"),
    (check_system, "vm-machine", "inputs.shieldedInstanceConfig.enableSecureBoot", False),
    (check_weights_outlive_the_machine, "vm-machine", "inputs.attachedDisks.0.deviceName", "else"),
    (check_weights_outlive_the_machine, "vm-machine", "options.deleteBeforeReplace", False),
    (check_weights_outlive_the_machine, "vm-machine", "options.replaceOnChanges", []),
    (check_weights_outlive_the_machine, "vm-machine", "options.replaceOnChanges", ["metadata"]),
    (check_way_out, "network-nat", "inputs.sourceSubnetworkIpRangesToNat", "ALL_SUBNETWORKS_ALL_IP_RANGES"),
    (check_way_out, "vm-machine", f"{NIC}.networkIp", "10.80.1.9"),
]


@pytest.mark.parametrize("check", CHECKS)
def test_the_vm_is_safe(stack_of: Render, check: Check) -> None:
    check(stack_of(vm=ONE))
    check(stack_of(lanes=["vm"], vm=ONE))


@pytest.mark.parametrize(("check", "name", "path", "value"), PLANTED, ids=[f"{row[2]}={row[3]}" for row in PLANTED])
def test_an_unsafe_machine_is_seen(
    stack_of: Render, planted: Plant, check: Check, name: str, path: str, value: object
) -> None:
    with pytest.raises(AssertionError):
        check(planted(stack_of(vm=ONE), name, path, value))


def test_a_planted_rule_or_role_is_seen(stack_of: Render, with_extra: Extra) -> None:
    with pytest.raises(ValueError, match="too many values"):
        check_only_the_gateway_gets_in(with_extra(stack_of(vm=ONE), FIREWALL, "planted", sourceRanges=["0.0.0.0/0"]))
    member = named(stack_of(vm=ONE), "vm-account").outputs["member"]
    with pytest.raises(AssertionError):
        check_powerless(with_extra(stack_of(vm=ONE), "gcp:projects/iAMMember:IAMMember", "planted", member=member))


def test_the_subnets_are_apart_and_wide_enough() -> None:
    """Direct VPC egress takes two addresses per instance and wants a /26."""
    assert GATEWAY_RANGE == "10.80.0.0/26"
    assert VM_RANGE == "10.80.1.0/28"


@MODES
@pytest.mark.parametrize(
    ("vm", "machine_type", "care"),
    [
        (ONE, "e2-highmem-2", "MIGRATE"),
        ({"machine_type": "t2d-standard-8"}, "t2d-standard-8", "MIGRATE"),
        ({"gpu": "t4"}, "n1-standard-2", "TERMINATE"),
        ({"gpu": "t4", "machine_type": "n1-standard-4"}, "n1-standard-4", "TERMINATE"),
        ({"gpu": "l4"}, "g2-standard-4", "TERMINATE"),
    ],
    ids=str,
)
def test_a_named_machine_is_not_spot_and_one_with_a_card_can_not_move(
    stack_of: Render, preview: bool, vm: dict[str, Any], machine_type: str, care: str
) -> None:
    machine = named(stack_of(preview=preview, vm=vm), "vm-machine").inputs
    assert machine["machineType"] == machine_type
    assert machine["scheduling"] == {
        "provisioningModel": "STANDARD",
        "automaticRestart": True,
        "onHostMaintenance": care,
    }


def test_a_card_is_attached_where_it_is_not_built_in(stack_of: Render) -> None:
    card = {"type": "nvidia-tesla-t4", "count": 1}
    assert named(stack_of(vm={"gpu": "t4"}), "vm-machine").inputs["guestAccelerators"] == [card]
    group = stack_of(vm={"gpu": "t4", "spot": True})
    assert named(group, "vm-group-template").inputs["guestAccelerators"] == [card]
    for vm in ({"gpu": "l4"}, ONE):
        assert "guestAccelerators" not in named(stack_of(vm=vm), "vm-machine").inputs


@MODES
@pytest.mark.parametrize(
    ("machine_type", "disk"), [("t2d-standard-8", "pd-balanced"), ("c4-standard-8", "hyperdisk-balanced")]
)
def test_disks_are_of_the_kind_that_the_machine_takes(
    stack_of: Render, preview: bool, machine_type: str, disk: str
) -> None:
    stack = stack_of(preview=preview, vm={"machine_type": machine_type})
    assert named(stack, "vm-machine").inputs["bootDisk"]["initializeParams"]["type"] == disk
    assert named(stack, "vm-weights").inputs["type"] == disk
    name = "pilotlight-dev-vm-weights" + ("-hyperdisk-20" if disk == "hyperdisk-balanced" else "-20")
    assert named(stack, "vm-weights").inputs["name"] == name, "both kinds stand side by side for a while"
    spot = stack_of(preview=preview, vm={"machine_type": machine_type, "spot": True})
    assert [each["diskType"] for each in named(spot, "vm-group-template").inputs["disks"]] == [disk, disk]


@MODES
def test_size_and_place_are_settings(stack_of: Render, preview: bool) -> None:
    vm = {
        "machine_type": "n2-highmem-4",
        "speed": {"prompt": 9, "picture": 9, "answer": 4},
        "zone": "us-central1-f",
        "disk_gib": 50,
    }
    stack = stack_of(preview=preview, vm=vm)
    machine, disk = named(stack, "vm-machine").inputs, named(stack, "vm-weights").inputs
    assert (machine["machineType"], machine["zone"]) == ("n2-highmem-4", "us-central1-f")
    assert (disk["size"], disk["zone"]) == (50, "us-central1-f")
    assert "--threads 2 --batch-size 32" in machine["metadata"]["user-data"], "by its name and its speed"


# --- what it does at boot ---------------------------------------------------------------------------------------------


def boot(settings: Settings) -> dict[str, Any]:
    text = at_boot.user_data(settings)
    # cloud-init takes a document for cloud-config by this line alone.
    assert text.startswith("#cloud-config\n")
    return yaml.safe_load(text)


def units(settings: Settings) -> dict[str, dict[str, list[str]]]:
    """File name -> directive -> its values, as systemd reads them."""
    found: dict[str, dict[str, list[str]]] = {}
    for file in boot(settings)["write_files"]:
        if file["path"].endswith(".service"):
            unit = found.setdefault(file["path"].rsplit("/", 1)[1], {})
            for line in file["content"].splitlines():
                key, equals, value = line.partition("=")
                if equals:
                    unit.setdefault(key, []).append(value)
    return found


def test_boot_writes_script_and_units_and_starts_the_model(settings_of: Make) -> None:
    document = boot(settings_of())
    files = {file["path"]: file for file in document["write_files"]}
    assert list(files) == [
        "/etc/pilotlight/fetch_weights.sh",
        "/etc/pilotlight/close_egress.sh",
        "/etc/systemd/system/pilotlight-weights.service",
        "/etc/systemd/system/pilotlight-model.service",
    ]
    assert files["/etc/pilotlight/fetch_weights.sh"]["content"] == SCRIPT.read_text()
    assert files["/etc/pilotlight/close_egress.sh"]["content"] == CLOSING.read_text()
    assert document["runcmd"] == [
        "systemctl daemon-reload",
        # Blocking, cloud-init would stand there until gigabytes are fetched.
        "systemctl start --no-block pilotlight-model.service",
    ]


BEFORE = [
    "/usr/bin/systemctl is-active --quiet pilotlight-weights.service",
    "-/usr/bin/docker rm --force model",
    "/bin/bash /etc/pilotlight/close_egress.sh",
]


def check_model_unit(unit: dict[str, list[str]]) -> None:
    """Restarted whatever happens, and never with weights that weren't checked or a way out that isn't closed."""
    assert unit["Restart"] == ["always"]
    assert unit["StartLimitIntervalSec"] == ["0"]
    assert unit["TimeoutStartSec"] == ["infinity"]
    assert unit["After"] == ["docker.service pilotlight-weights.service"]
    assert unit["Wants"] == ["pilotlight-weights.service"]
    assert unit["Requires"] == ["docker.service"]
    assert unit["ExecStartPre"] == BEFORE


def check_weights_unit(unit: dict[str, list[str]]) -> None:
    """A disk that has a file system is never formatted again; a failed fetch is tried again."""
    assert unit["Type"] == ["oneshot"]
    assert unit["RemainAfterExit"] == ["yes"]
    assert unit["Restart"] == ["on-failure"]
    device = "/dev/disk/by-id/google-weights"
    assert unit["ExecStartPre"] == [
        f"/bin/sh -c 'blkid {device} || mkfs.ext4 -q -m 0 {device}'",
        "/bin/mkdir -p /mnt/disks/weights",
        f"/bin/sh -c 'mountpoint -q /mnt/disks/weights || mount {device} /mnt/disks/weights'",
    ]


def test_units_survive_what_can_happen(settings_of: Make) -> None:
    check_model_unit(units(settings_of())["pilotlight-model.service"])
    check_weights_unit(units(settings_of())["pilotlight-weights.service"])


@pytest.mark.parametrize(
    ("unit", "check", "key", "value"),
    [
        # systemd drops a start whose requirement failed and does not repeat it: the lane would stay dead.
        ("model", check_model_unit, "Requires", ["docker.service pilotlight-weights.service"]),
        ("model", check_model_unit, "ExecStartPre", ["-/usr/bin/docker rm --force model"]),
        # The container would start whether its way out is closed or not.
        ("model", check_model_unit, "ExecStartPre", [*BEFORE[:-1], f"-{BEFORE[-1]}"]),
        ("model", check_model_unit, "ExecStartPre", BEFORE[:-1]),
        ("model", check_model_unit, "Restart", ["on-failure"]),
        ("weights", check_weights_unit, "Restart", ["no"]),
        ("weights", check_weights_unit, "ExecStartPre", ["/bin/sh -c 'mkfs.ext4 /dev/disk/by-id/google-weights'"]),
    ],
)
def test_a_planted_mistake_in_a_unit_is_seen(
    settings_of: Make, unit: str, check: Callable[[dict[str, list[str]]], None], key: str, value: list[str]
) -> None:
    with pytest.raises(AssertionError):
        check(units(settings_of())[f"pilotlight-{unit}.service"] | {key: value})


def test_the_model_server_is_started_with_exactly_this(settings_of: Make) -> None:
    settings = settings_of(
        model=own_model(**VISION, context_tokens=3072),
        vm={
            "image": "ghcr.io/ggml-org/llama.cpp:server-b7000",
            "machine_type": "t2d-standard-8",
            "max_requests": 3,
        },
    )
    [line] = units(settings)["pilotlight-model.service"]["ExecStart"]
    assert shlex.split(line) == [
        *("/usr/bin/docker", "run", "--rm", "--name", "model"),
        # Published, not on the host's network: COS' own firewall admits SSH only.
        *("--publish", "9931:9931", "--dns", "127.0.0.1", "--volume", "/mnt/disks/weights:/models:ro"),
        "ghcr.io/ggml-org/llama.cpp:server-b7000",
        *("--host", "0.0.0.0", "--port", "9931"),
        *("--model", "/models/main.gguf", "--alias", "some/name"),
        *("--ctx-size", "9216", "--parallel", "3"),
        *("--threads", "8", "--batch-size", "128", "--ubatch-size", "128", "--cache-ram", "8192", "--metrics"),
        *("--mmproj", "/models/pictures.gguf", "--image-min-tokens", "8", "--image-max-tokens", "752"),
    ]
    [fetch] = units(settings)["pilotlight-weights.service"]["ExecStart"]
    assert shlex.split(fetch) == [
        *("/bin/bash", "/etc/pilotlight/fetch_weights.sh", "/mnt/disks/weights"),
        *("https://models.example/a/main.gguf", "a" * 64),
        *("https://models.example/b/pictures.gguf", "b" * 64),
    ]


def test_a_card_gets_its_driver_before_the_model(settings_of: Make) -> None:
    settings = settings_of(vm={"gpu": "t4"})
    found = units(settings)
    gpu, model = found["pilotlight-gpu.service"], found["pilotlight-model.service"]
    assert gpu["ExecStart"] == [
        # The newest: the image's CUDA wants 570, and COS' default may be older.
        "/usr/bin/cos-extensions install gpu -- -version=latest",
        "/bin/sh -c 'mountpoint -q /var/lib/nvidia || mount --bind /var/lib/nvidia /var/lib/nvidia'",
        "/bin/mount -o remount,exec /var/lib/nvidia",
        "/var/lib/nvidia/bin/nvidia-smi",
    ]
    assert (gpu["Type"], gpu["RemainAfterExit"], gpu["Restart"]) == (["oneshot"], ["yes"], ["on-failure"])
    assert model["After"] == ["docker.service pilotlight-weights.service pilotlight-gpu.service"]
    assert model["Wants"] == ["pilotlight-weights.service pilotlight-gpu.service"]
    assert "/usr/bin/systemctl is-active --quiet pilotlight-gpu.service" in model["ExecStartPre"]
    [line] = model["ExecStart"]
    words = shlex.split(line)
    start = words.index("/mnt/disks/weights:/models:ro") + 1
    assert words[start : words.index("--host")] == [
        *("--volume", "/var/lib/nvidia/lib64:/usr/local/nvidia/lib64"),
        *("--volume", "/var/lib/nvidia/bin:/usr/local/nvidia/bin"),
        # On the disk that outlives a boot: the first start compiles.
        *("--volume", "/mnt/disks/weights/cuda-cache:/cuda-cache"),
        *("--device", "/dev/nvidia0:/dev/nvidia0"),
        *("--device", "/dev/nvidia-uvm:/dev/nvidia-uvm"),
        *("--device", "/dev/nvidiactl:/dev/nvidiactl"),
        *("--env", "LD_LIBRARY_PATH=/usr/local/nvidia/lib64"),
        *("--env", "CUDA_CACHE_PATH=/cuda-cache"),
        "ghcr.io/ggml-org/llama.cpp:server-cuda-b11206",
    ]
    assert words[words.index("--n-gpu-layers") + 1] == "all"
    assert words[words.index("--threads") + 1] == "1"
    for kind in ({}, ONE):
        without = units(settings_of(vm=kind))
        assert "pilotlight-gpu.service" not in without
        assert "nvidia" not in str(without)
        assert "--n-gpu-layers" not in str(without)


def test_a_text_only_model_has_no_projector(settings_of: Make) -> None:
    found = units(settings_of(model={"preset": "qwen3-4b"}))
    assert "--mmproj" not in found["pilotlight-model.service"]["ExecStart"][0]
    assert "mmproj" not in found["pilotlight-weights.service"]["ExecStart"][0]


def test_systemd_does_not_expand_what_a_url_holds(settings_of: Make) -> None:
    """`%20` would be a specifier of systemd, and the unit would not load."""
    url = "https://models.example/with%20blank/a.gguf"
    [line] = units(settings_of(model=own_model(gguf=GGUF | {"url": url})))["pilotlight-weights.service"]["ExecStart"]
    assert "%%20" in line
    assert not re.search(r"(?<!%)%(?!%)", line)
    assert url in line.replace("%%", "%")


def test_a_machine_that_joins_a_group_says_who_it_is(settings_of: Make) -> None:
    """By its boot's id, which systemd puts in; one that always runs counts without."""
    grown = {"machine_type": "c3-highcpu-8", "replicas": 2, "max_replicas": 3}
    for lanes, vm, named in (
        (["home", "vm"], grown, True),
        (["home", "vm"], grown | {"max_replicas": 2}, False),
        (["vm"], grown, False),
    ):
        [line] = units(settings_of(lanes=lanes, vm=vm))["pilotlight-model.service"]["ExecStart"]
        assert line.endswith(" --tags %b") is named


def test_a_template_comes_through_systemd_as_it_is(settings_of: Make) -> None:
    """Its `\\n` stands for a newline of Jinja's; systemd would take one backslash for its own."""
    [line] = units(settings_of())["pilotlight-model.service"]["ExecStart"]
    [template] = [word for word in shlex.split(line.replace("\\\\", "\\").replace("%%", "%")) if word.startswith("{%-")]
    assert template == STANDARD.model.chat_template
    assert "\\n" in template
    assert not re.search(r"(?<!\\)\\(?!\\)", line.replace("\\\\", ""))


# --- the script, run for real -----------------------------------------------------------------------------------------

GOOD = bytes(range(256)) * 400


class Shop(BaseHTTPRequestHandler):
    """Hands out `files`; `fault` says how it fails. Every request is kept."""

    files: ClassVar[dict[str, bytes]] = {}
    requests: ClassVar[list[tuple[str, str | None]]] = []
    fault: ClassVar[str] = ""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.requests.append((self.path, wanted))
        data = self.files.get(self.path)
        if self.fault == "500" or data is None:
            self.send_error(500 if data else 404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.fault != "no ranges" else 0
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        piece = data[start:]
        self.wfile.write(piece[: len(piece) // 2] if self.fault == "breaks off" else piece)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class Fetcher:
    """Runs the script against a shop on loopback, with the real curl."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder / "weights", port
        self.folder.mkdir()
        self.shims = folder / "bin"
        self.shims.mkdir()
        shim = self.shims / "curl"
        # Its five retries of a failing server would take half a minute.
        shim.write_text(f'#!/bin/sh\nexec {shutil.which("curl")} "$@" --retry 0 --noproxy "*"\n')
        shim.chmod(0o755)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/repo/{name}"

    def run(self, *arguments: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
        source = self.shims.parent / "script.sh"
        source.write_text(script or SCRIPT.read_text())
        return subprocess.run(
            ["/bin/bash", str(source), str(self.folder), *arguments],
            env={"PATH": f"{self.shims}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def fetch(self, name: str, data: bytes, script: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.run(self.url(name), sha(data), script=script)

    def served(self) -> set[str]:
        """Files that the model server could be given."""
        return {path.name for path in self.folder.iterdir() if path.suffix == ".gguf"}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def fetcher(tmp_path: Path) -> Iterator[Fetcher]:
    Shop.files, Shop.requests, Shop.fault = {"/repo/a.gguf": GOOD, "/repo/b.gguf": b"projector"}, [], ""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield Fetcher(tmp_path, server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def check_fetched_once(fetcher: Fetcher, script: str | None = None) -> None:
    arguments = (fetcher.url("a.gguf"), sha(GOOD), fetcher.url("b.gguf"), sha(b"projector"))
    first = fetcher.run(*arguments, script=script)
    assert first.returncode == 0, first.stderr
    assert (fetcher.folder / "a.gguf").read_bytes() == GOOD
    assert (fetcher.folder / "b.gguf").read_bytes() == b"projector"
    assert [path for path, _ in Shop.requests] == ["/repo/a.gguf", "/repo/b.gguf"]
    Shop.requests.clear()
    again = fetcher.run(*arguments, script=script)
    assert again.returncode == 0, again.stderr
    assert Shop.requests == []


def check_wrong_hash(fetcher: Fetcher, script: str | None = None) -> None:
    done = fetcher.fetch("a.gguf", b"something else", script)
    assert done.returncode == 1
    assert sha(GOOD) in done.stderr
    assert sha(b"something else") in done.stderr
    assert fetcher.served() == set()
    assert not list(fetcher.folder.glob("*.part")), "it would be gone on with"
    # The same again would come wrong again, and every gigabyte through NAT costs money.
    Shop.requests.clear()
    assert fetcher.fetch("a.gguf", b"something else", script).returncode == 1
    assert Shop.requests == []
    # But not for ever: the file there may be put right.
    refused = fetcher.folder / "a.gguf.refused"
    before = time.time() - 7 * 3600
    os.utime(refused, (before, before))
    Shop.files["/repo/a.gguf"] = b"something else"
    assert fetcher.fetch("a.gguf", b"something else", script).returncode == 0
    assert not refused.exists()


def check_wrong_hash_of_a_second_file(fetcher: Fetcher, script: str | None = None) -> None:
    done = fetcher.run(fetcher.url("a.gguf"), sha(GOOD), fetcher.url("b.gguf"), sha(b"other"), script=script)
    assert done.returncode == 1
    assert fetcher.served() == {"a.gguf"}


def check_changed_hash(fetcher: Fetcher, script: str | None = None) -> None:
    assert fetcher.fetch("a.gguf", GOOD, script).returncode == 0
    Shop.files["/repo/a.gguf"] = b"newer"
    done = fetcher.fetch("a.gguf", b"newer", script)
    assert done.returncode == 0, done.stderr
    assert (fetcher.folder / "a.gguf").read_bytes() == b"newer"


def check_unchecked_file(fetcher: Fetcher, script: str | None = None) -> None:
    """Power may fail between file and sum: what has no sum is not trusted."""
    (fetcher.folder / "a.gguf").write_bytes(b"half of it")
    assert fetcher.fetch("a.gguf", GOOD, script).returncode == 0
    assert (fetcher.folder / "a.gguf").read_bytes() == GOOD


def check_goes_on(fetcher: Fetcher, script: str | None = None) -> None:
    Shop.fault = "breaks off"
    assert fetcher.fetch("a.gguf", GOOD, script).returncode != 0
    assert fetcher.served() == set()
    Shop.fault = ""
    Shop.requests.clear()
    done = fetcher.fetch("a.gguf", GOOD, script)
    assert done.returncode == 0, done.stderr
    assert (fetcher.folder / "a.gguf").read_bytes() == GOOD
    assert Shop.requests == [("/repo/a.gguf", f"bytes={len(GOOD) // 2}-")]


def check_starts_again(fetcher: Fetcher, script: str | None = None) -> None:
    """A server that knows no ranges must not end the lane for ever."""
    (fetcher.folder / "a.gguf.part").write_bytes(GOOD[:100])
    Shop.fault = "no ranges"
    done = fetcher.fetch("a.gguf", GOOD, script)
    assert done.returncode == 0, done.stderr
    assert (fetcher.folder / "a.gguf").read_bytes() == GOOD


def check_complete_part(fetcher: Fetcher, script: str | None = None) -> None:
    """It ended between the last byte and the check."""
    (fetcher.folder / "a.gguf.part").write_bytes(GOOD)
    done = fetcher.fetch("a.gguf", GOOD, script)
    assert done.returncode == 0, done.stderr
    assert (fetcher.folder / "a.gguf").read_bytes() == GOOD


def check_server_error(fetcher: Fetcher, script: str | None = None) -> None:
    Shop.fault = "500"
    assert fetcher.fetch("a.gguf", GOOD, script).returncode != 0
    assert fetcher.served() == set()
    Shop.fault = ""
    # The error page may neither be gone on with, nor taken for a file that came wrong.
    assert fetcher.fetch("a.gguf", GOOD, script).returncode == 0
    assert fetcher.fetch("gone.gguf", GOOD, script).returncode != 0
    assert fetcher.served() == set()


def check_old_files_go(fetcher: Fetcher, script: str | None = None) -> None:
    for name in ("old.gguf", "old.gguf.sha256", "older.gguf.part"):
        (fetcher.folder / name).write_text("x")
    (fetcher.folder / "lost+found").mkdir()
    assert fetcher.fetch("a.gguf", GOOD, script).returncode == 0
    assert {path.name for path in fetcher.folder.iterdir()} == {"a.gguf", "a.gguf.sha256", "lost+found"}


SCRIPT_CHECKS = [
    check_fetched_once,
    check_wrong_hash,
    check_wrong_hash_of_a_second_file,
    check_changed_hash,
    check_unchecked_file,
    check_goes_on,
    check_starts_again,
    check_complete_part,
    check_server_error,
    check_old_files_go,
]


@pytest.mark.parametrize("check", SCRIPT_CHECKS)
def test_weights_are_fetched_once_and_checked(fetcher: Fetcher, check: Callable[[Fetcher], None]) -> None:
    check(fetcher)


@pytest.mark.parametrize(
    ("check", "text", "instead"),
    [
        (check_fetched_once, 'echo "$sum" > "$file.sha256"', ":"),
        (check_wrong_hash, '[ "$actual" != "$sum" ]', "false"),
        (check_wrong_hash, '    rm -f "$file.part"\n    echo "$url $sum"', '    echo "$url $sum"'),
        (check_wrong_hash, 'echo "$url $sum" > "$file.refused"', ":"),
        (check_wrong_hash, '-n "$(find "$file.refused" -mmin -360)"', "1"),
        (check_wrong_hash_of_a_second_file, "while [", "if ["),
        (check_changed_hash, '&& [ "$(cat "$file.sha256" 2>/dev/null)" = "$sum" ]', ""),
        (check_unchecked_file, '&& [ "$(cat "$file.sha256" 2>/dev/null)" = "$sum" ]', ""),
        (check_goes_on, "--continue-at -", ""),
        (check_goes_on, '[ "$status" -eq 0 ] || exit "$status"', ":"),
        (check_starts_again, "-eq 33", "-eq 99"),
        (check_server_error, "--fail ", ""),
        (check_old_files_go, '"${keep[@]}" -delete', '"${keep[@]}"'),
    ],
)
def test_a_planted_mistake_in_the_script_is_seen(
    fetcher: Fetcher, check: Callable[[Fetcher, str], None], text: str, instead: str
) -> None:
    source = SCRIPT.read_text()
    assert source.count(text) == 1
    mutated = source.replace(text, instead)
    if text == "while [":
        mutated = mutated.replace("\ndone\n", "\nfi\n")
    with pytest.raises(AssertionError):
        check(fetcher, mutated)


@pytest.mark.parametrize("script", [SCRIPT, CLOSING], ids=lambda script: script.name)
def test_the_script_is_clean(script: Path) -> None:
    subprocess.run(["/bin/bash", "-n", str(script)], check=True, timeout=10)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, str(script)], check=True, timeout=30)
