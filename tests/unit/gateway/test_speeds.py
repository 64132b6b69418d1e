"""Each lane's expected seconds come from the row of the machine that it is declared on."""

import json

import pytest

from components.burst.service import ACCELERATOR
from components.gateway import speeds
from components.gateway.pilot_container import environment
from components.machines.requests import Size
from components.settings import Lane, Settings
from components.settings.reading import read


def settings(**values: object) -> Settings:
    config = {"gcp:project": "my-project", "gcp:region": "us-central1"}
    return read(config | {f"pilotlight:{key}": json.dumps(value) for key, value in values.items()}, stack="test")


def test_burst_stands_on_the_declared_card() -> None:
    assert speeds.BURST_CARD == ACCELERATOR


def test_the_vm_is_as_fast_as_its_machine() -> None:
    slow, fast = (
        speeds.first_tokens_s(settings(vm={"machine_type": name}), Lane.VM)
        for name in ("t2d-standard-4", "c3-highcpu-8")
    )
    assert all(fast[size] < slow[size] for size in Size)
    own = settings(vm={"machine_type": "c3-highcpu-8", "speed": {"prompt": 100, "picture": 100, "answer": 10}})
    assert speeds.first_tokens_s(own, Lane.VM)[Size.PICTURE] == pytest.approx(7.52 + 10.52)


@pytest.mark.parametrize(
    ("lanes", "told"),
    [(["home", "burst", "vm"], {"HOME", "BURST", "VM"}), (["home", "vm"], {"HOME", "VM"}), (["home"], {"HOME"})],
)
def test_the_pilot_hears_of_the_lanes_that_are_there(lanes: list[str], told: set[str]) -> None:
    found = environment(settings(lanes=lanes), burst_url="", dials={})
    assert {name for name in ("HOME", "BURST", "VM") if found[f"{name}_SECONDS"]} == told
    assert bool(found["VM_PROMPT"]) == ("vm" in lanes)


@pytest.mark.parametrize("vm", [{"replicas": 2}, {"max_replicas": 2}])
def test_several_machines_have_no_counters_that_go_on(vm: dict[str, int]) -> None:
    assert environment(settings(vm=vm), burst_url="", dials={})["VM_PROMPT"] == ""
