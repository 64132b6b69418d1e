"""The lab's reading of the VM lane: one machine or a group, its card, its speed; what nobody can reach is refused."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from components.machines.speeds import CARDS
from lab.errors import LabError
from lab.read import pace, plan, tables, user_data
from lab.read.stack import Resource, Stack
from lab.read.vm import Balancing, Scaling
from lab.run.models import Models

Render = Callable[..., Stack]
Change = Callable[[Stack], None]
TEMPLATE = "vm-group-template"
CLOSING = "/bin/bash /etc/pilotlight/close_egress.sh"
TWO = {"machine_type": "e2-highmem-2", "replicas": 2, "max_replicas": 4}


@pytest.fixture
def two(stack_of: Render) -> Stack:
    """A group of two machines, to break."""
    return copy.deepcopy(stack_of(lanes=["vm"], vm=TWO))


def one(stack: Stack, name: str) -> Resource:
    [found] = [resource for resource in stack.resources if resource.name == name]
    return found


def test_a_group_is_one_lane_at_the_balancer_s_address(two: Stack) -> None:
    found = plan.read(two)
    assert found.vm
    assert found.lanes == ("vm",)
    assert found.vm.address == one(two, "vm-group-address").outputs["address"]
    assert (found.vm.port, found.vm.machines, found.vm.most) == (9931, 2, 4)
    assert found.vm.balancing == Balancing(check_s=5, failures=2, draining_s=300)
    # e2-highmem-2 has two vCPUs and one core: its one thread never fills more than half.
    assert (found.vm.working, found.vm.scaling) == (0.5, Scaling(most=4, busy=0.3, start_s=600))
    assert found.vm.container.title == "vm/model"
    assert found.vm.container.args == user_data.read("", one(two, TEMPLATE).inputs["metadata"]["user-data"]).arguments
    text = tables.tables(found, {})
    behind = "vm/model: a process for each machine behind the balancer, 2 always"
    assert f"{behind}, up to 4 where processors are busier than 30%" in text


def test_a_stand_in_is_told_its_machine_s_pace(two: Stack, tmp_path: Any) -> None:
    found = plan.read(two)
    assert found.vm
    command = Models(found, tmp_path, scripted=True, time_scale=10.0).command(
        found.vm.container, "127.0.0.2:9931", "vm", tmp_path / "journal"
    )
    told = dict(itertools.pairwise(command))
    assert (told["--engine"], told["--parallel"]) == ("llama.cpp", "2")
    assert '"prompt": 46.0' in told["--pace"], "ten times as fast"
    scripted = Models(found, tmp_path, scripted=True, time_scale=None)
    assert "--pace" not in scripted.command(found.vm.container, "127.0.0.2:9931", "vm", tmp_path / "journal")


def test_a_group_without_an_autoscaler_has_its_own_size(two: Stack) -> None:
    two.resources.remove(one(two, "vm-group-autoscaler"))
    with pytest.raises(LabError, match="vm-group-manager: neither an autoscaler nor a target size says that a machine"):
        plan.read(two)
    one(two, "vm-group-manager").inputs["targetSize"] = 3
    found = plan.read(two).vm
    assert found
    assert (found.machines, found.most, found.scaling) == (3, 3, None)


def changed(name: str, **inputs: object) -> Change:
    return lambda stack: one(stack, name).inputs.update(inputs)


def without(name: str) -> Change:
    return lambda stack: stack.resources.remove(one(stack, name))


BROKEN: dict[str, tuple[Change, str]] = {
    "no template": (without(TEMPLATE), "vm-group-manager: the lab needs one version, of a template that the stack"),
    "two versions": (
        changed("vm-group-manager", versions=[{"instanceTemplate": "a"}, {"instanceTemplate": "b"}]),
        "the lab needs one version",
    ),
    "no rule": (without("vm-group-rule"), "vm-group-manager: 0 forwarding rules lead to the group"),
    "rule that leads elsewhere": (changed("vm-group-rule", backendService="other"), "0 forwarding rules lead"),
    "backend of another group": (
        changed("vm-group-backend", backends=[{"group": "other"}]),
        "0 forwarding rules lead to the group",
    ),
    "rule for another port": (changed("vm-group-rule", ports=["80"]), "not an internal one for port 9931"),
    "rule for the internet": (
        changed("vm-group-rule", loadBalancingScheme="EXTERNAL"),
        "not an internal one for port 9931",
    ),
    "check of another port": (
        changed("vm-group-serving", httpHealthCheck={"port": 80, "requestPath": "/health"}),
        "a health check asks /health on port 80, the server answers /health on 9931",
    ),
    "healing by another path": (
        changed("vm-group-healing", httpHealthCheck={"port": 9931, "requestPath": "/"}),
        "a health check asks / on port 9931",
    ),
    "autoscaler by another figure": (
        changed(
            "vm-group-autoscaler",
            autoscalingPolicy={
                "mode": "ON",
                "minReplicas": 2,
                "maxReplicas": 4,
                "cooldownPeriod": 60,
                "metrics": [],
            },
        ),
        "vm-group-autoscaler: the lab knows an autoscaler that is on, and goes by the processors alone",
    ),
    "autoscaler that only adds": (
        changed(
            "vm-group-autoscaler",
            autoscalingPolicy={
                "mode": "ONLY_SCALE_OUT",
                "minReplicas": 2,
                "maxReplicas": 4,
                "cooldownPeriod": 60,
                "cpuUtilization": {"target": 0.3},
            },
        ),
        "vm-group-autoscaler: the lab knows an autoscaler that is on",
    ),
    "firewall without the checks": (
        changed("vm-firewall", sourceRanges=["10.80.0.0/26", "35.191.0.0/16"]),
        f"{TEMPLATE}: no firewall rule lets Google's health checks reach its port 9931",
    ),
    "firewall without the gateway": (
        changed("vm-firewall", sourceRanges=["35.191.0.0/16", "130.211.0.0/22"]),
        f"{TEMPLATE}: no firewall rule lets the gateway's subnet reach its port 9931",
    ),
    "unknown machine": (
        changed(TEMPLATE, machineType="e2-micro"),
        rf"{TEMPLATE}: components/machines/speeds\.py has no machine e2-micro, so nobody knows how late",
    ),
    "card on the wrong machine": (
        changed(TEMPLATE, guestAccelerators=[{"type": "nvidia-tesla-t4", "count": 1}]),
        "has no machine e2-highmem-2 with t4",
    ),
    "two cards": (
        changed(TEMPLATE, guestAccelerators=[{"type": "nvidia-tesla-t4", "count": 2}]),
        "the lab knows machines with one card at most",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_group_that_nobody_could_reach_or_time_is_refused(two: Stack, case: str) -> None:
    change, message = BROKEN[case]
    change(two)
    with pytest.raises(LabError, match=message):
        plan.read(two)


# --- a machine with a card -------------------------------------------------------------------------------------------

DRIVER = {
    "path": "/etc/systemd/system/pilotlight-driver.service",
    "content": "[Service]\nExecStart=/usr/bin/cos-extensions install gpu -- -version=latest\n",
}
OPTIONS = (
    "--device /dev/nvidia0:/dev/nvidia0 --device=/dev/nvidia-uvm:/dev/nvidia-uvm "
    "--volume /var/lib/nvidia/lib64:/usr/local/nvidia/lib64:ro --env=LD_LIBRARY_PATH=/usr/local/nvidia/lib64 "
    "-e CUDA_CACHE_PATH=/models/cuda "
)


def with_card(stack: Stack, *, machine: str = "n1-standard-2", card: str = "nvidia-tesla-t4", driver: bool = True,
              options: str = OPTIONS, image: str = "server-cuda-b11206") -> Stack:  # fmt: skip
    inputs = one(stack, TEMPLATE).inputs
    inputs |= {"machineType": machine, "guestAccelerators": [{"type": card, "count": 1}] if card else []}
    document = yaml.safe_load(inputs["metadata"]["user-data"])
    document["write_files"] += [DRIVER] if driver else []
    [unit] = [file for file in document["write_files"] if "docker run" in file["content"]]
    line = unit["content"].replace("docker run --rm ", f"docker run --rm {options}")
    unit["content"] = line.replace(":server-b11206", f":{image}")
    assert image in unit["content"]
    inputs["metadata"]["user-data"] = "#cloud-config\n" + yaml.safe_dump(document)
    return stack


@pytest.mark.parametrize(
    ("machine", "card", "told"),
    [("n1-standard-2", "nvidia-tesla-t4", "n1-standard-2 + T4"), ("g2-standard-4", "", "g2-standard-4")],
)
def test_a_card_is_read_with_its_driver_and_devices(two: Stack, machine: str, card: str, told: str) -> None:
    found = plan.read(with_card(two, machine=machine, card=card)).vm
    assert found
    assert (found.pace.on, found.card) == (told, "t4" if card else "l4")
    assert found.container.env == {
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
        "CUDA_CACHE_PATH": "/models/cuda",
    }
    assert "/usr/local/nvidia/lib64" in [mount.path for mount in found.container.mounts]
    assert found.pace.speed.prompt > 400


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"driver": False}, "the machine has a card .t4., but no unit installs the driver"),
        ({"options": ""}, "docker run hands on no device /dev/nvidia0"),
        ({"options": "--gpus all "}, "does not understand docker run --gpus"),
        ({"image": "server-b11207"}, "is not one for CUDA"),
        ({"machine": "e2-highmem-2", "card": ""}, "docker run hands on a graphics card, and the machine has none"),
    ],
    ids=str,
)
def test_a_card_that_the_model_would_not_use_is_refused(two: Stack, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        plan.read(with_card(two, **changes))


# --- what systemd puts in ---------------------------------------------------------------------------------------------


def respelled(stack: Stack, declared: str, instead: str) -> Stack:
    metadata = one(stack, TEMPLATE).inputs["metadata"]
    assert declared in metadata["user-data"]
    metadata["user-data"] = metadata["user-data"].replace(declared, instead)
    return stack


@pytest.fixture
def grown(stack_of: Render) -> Stack:
    """A group beside home, so that there is a pilot to see its machines."""
    return copy.deepcopy(stack_of(lanes=["home", "vm"], vm=TWO))


def test_a_machine_s_name_is_its_boot_s(grown: Stack) -> None:
    found = plan.read(grown).vm
    assert found
    assert found.container.args[-2:] == ("--tags", user_data.BOOT_ID)


def test_what_else_systemd_would_put_in_is_not_passed_over(grown: Stack) -> None:
    with pytest.raises(LabError, match="does not understand systemd's %H"):
        plan.read(respelled(grown, "--tags %b", "--tags %H"))


# --- the container's way out -----------------------------------------------------------------------------------------


def test_a_closed_way_out_is_told(two: Stack) -> None:
    text = tables.tables(plan.read(two), {})
    assert "its way out is closed on the machine, by its unit; nothing closes it here" in text


@pytest.mark.parametrize(
    ("declared", "instead"),
    [
        (f"Pre={CLOSING}", "Pre=/bin/true"),
        # It would start whether the script succeeds or not.
        (f"Pre={CLOSING}", f"Pre=-{CLOSING}"),
        (f"Pre={CLOSING}", f"Post={CLOSING}"),
        (f"Pre={CLOSING}", f"Pre={CLOSING}.old"),
        ("REJECT", "ACCEPT"),
        ("DOCKER-USER", "FORWARD"),
        ("INPUT", "OUTPUT"),
    ],
)
def test_an_open_way_out_is_told(two: Stack, declared: str, instead: str) -> None:
    metadata = one(two, TEMPLATE).inputs["metadata"]
    document = yaml.safe_load(metadata["user-data"])
    for file in document["write_files"]:
        file["content"] = file["content"].replace(declared, instead)
    changed = "#cloud-config\n" + yaml.safe_dump(document)
    assert yaml.safe_load(changed) != yaml.safe_load(metadata["user-data"])
    metadata["user-data"] = changed
    text = tables.tables(plan.read(two), {})
    assert "its way out is open: the server fetches what a caller names as a picture's address" in text


# --- home and burst --------------------------------------------------------------------------------------------------


def test_home_and_burst_have_the_pace_of_their_declared_cards(stack_of: Render) -> None:
    stack = stack_of(lanes=["home", "burst", "vm"], home={"gpu": "nvidia-l4"})
    found = plan.read(stack)
    assert {title: one.on for title, one in found.paces.items()} == {
        "home/vllm": "nvidia-l4", "burst/vllm": "nvidia-l4", "vm/model": found.paces["vm/model"].on,
    }  # fmt: skip
    assert plan.read(stack_of(lanes=["home"])).paces["home/vllm"].speed == CARDS["rtx-3090"]


def test_a_card_that_nobody_declares_or_knows_is_refused(stack_of: Render) -> None:
    stack = copy.deepcopy(stack_of(lanes=["home"]))
    one(stack, "home-vllm").inputs["values"]["gpu"]["card"] = ""
    with pytest.raises(LabError, match=r"home/vllm: components/machines/speeds\.py has no card that is declared"):
        plan.read(stack)
    with pytest.raises(LabError, match=r"burst: .* has no card 'nvidia-h100' \(it knows rtx-3090, nvidia-l4\)"):
        pace.of_card("burst", "nvidia-h100", plan.read(stack_of(lanes=["home"])).models["home"])
