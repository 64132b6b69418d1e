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


def test_another_model_is_as_much_faster_as_it_is_smaller() -> None:
    """The 3B has 0.41 of the 7B's parameters, and its file 0.41 of its bytes."""
    for lane in Lane:
        vm = {"machine_type": "c3-highcpu-8"}
        seven, three = (
            speeds.speed(settings(vm=vm, lanes=list(Lane), model={"preset": f"qwen2.5-vl-{size}"}), lane)
            for size in ("7b", "3b")
        )
        assert seven is not None
        assert three is not None
        assert three.prompt / seven.prompt == pytest.approx(7_615_616_512 / 3_085_938_688)
        assert three.picture / seven.picture == pytest.approx(676_550_144 / 668_684_288)
        assert three.answer / seven.answer == pytest.approx(2.43 if lane is Lane.VM else 1.73, rel=0.01)
        assert three.source == "estimated"
    own = {"machine_type": "c3-highcpu-8", "speed": {"prompt": 100, "picture": 100, "answer": 10}}
    measured = settings(vm=own, lanes=["vm"], model={"preset": "qwen2.5-vl-3b"}).vm_machine
    assert measured is not None
    assert measured.speed.prompt == 100, "it was measured with the model that is served"


def test_a_picture_has_fewer_tokens_where_they_are_larger_and_none_without_vision() -> None:
    found = {preset: settings(model={"preset": preset}).borders for preset in ("qwen3-vl-4b", "qwen3-4b")}
    assert found["qwen3-vl-4b"].reference(Size.PICTURE) == (300, 576)
    assert found["qwen3-4b"].reference(Size.PICTURE) == (300, 0)


@pytest.mark.parametrize(
    ("lanes", "told"),
    [(["home", "burst", "vm"], {"HOME", "BURST", "VM"}), (["home", "vm"], {"HOME", "VM"}), (["home"], {"HOME"})],
)
def test_the_pilot_hears_of_the_lanes_that_are_there(lanes: list[str], told: set[str]) -> None:
    found = environment(settings(lanes=lanes), burst_url="", dials={}, further={})
    assert {name for name in ("HOME", "BURST", "VM") if found[f"{name}_SECONDS"]} == told
    assert bool(found["VM_PROMPT"]) == bool(found["VM_STUCK_S"]) == ("vm" in lanes)
    assert found["HOME_HOST"] == ("vllm" if "home" in lanes else "")


@pytest.mark.parametrize("vm", [{"replicas": 2}, {"max_replicas": 2}])
def test_several_machines_have_no_counters_that_go_on(vm: dict[str, int]) -> None:
    found = environment(settings(vm=vm), burst_url="", dials={}, further={})
    assert found["VM_PROMPT"] == found["VM_STUCK_S"] == ""


def test_a_vm_is_stuck_after_three_times_its_longest_piece_of_work() -> None:
    def told(picture: float) -> float:
        vm = {"machine_type": "c3-highcpu-8", "speed": {"prompt": 100, "picture": picture, "answer": 10}}
        return float(str(environment(settings(vm=vm), burst_url="", dials={}, further={})["VM_STUCK_S"]))

    assert told(20) == pytest.approx(3 * 752 / 20, rel=0.01)
    assert told(1000) == 10, "never sooner than that"
