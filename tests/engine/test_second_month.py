"""What a change does to a stack that runs already, with the real engine and a Google that has its habits."""

from collections.abc import Generator
from typing import Any, Final

import pytest

from tests.engine import google
from tests.engine.pulumi_cli import NEEDS_THE_CLI, REGION, Engine, Factory, engines

pytestmark = NEEDS_THE_CLI

EVERYTHING: Final[dict[str, Any]] = {"pilotlight:lanes": ["home", "burst", "vm"]}
HELD: Final = "-serverless-ipv4-1', resourceInUseByAnotherResource"
COSTS_NOTHING: Final = {"gcp:compute/network:Network", google.API, google.SUBNET}


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Generator[Factory]:
    with engines(tmp_path_factory.mktemp("second-month")) as made:
        yield made


def changed(stack: Engine, config: dict[str, Any]) -> list[tuple[str, str]]:
    """What an `up` with that config does, in order."""
    before = len(stack.provider.changes)
    stack.write_config(config)
    stack.run("up", "--yes", "--skip-preview")
    return stack.provider.changes[before:]


def test_cloud_run_s_held_addresses(factory: Factory) -> None:
    """A lane that is left out keeps its subnet; `destroy` ends at the subnets, and ends well two hours later."""
    stack = factory.stack("held")
    stack.write_config(EVERYTHING)
    with stack.provider.also(google.HeldAddresses()) as held:
        stack.up()
        left_out = changed(stack, {"pilotlight:lanes": ["home"]})
        assert {("delete", "network-nat"), ("delete", "vm-group-manager"), ("delete", "burst-service")} <= set(left_out)
        assert not [name for _, name in left_out if name.endswith("subnet")]
        back = changed(stack, EVERYTHING)
        assert {("create", "network-nat"), ("create", "burst-service")} <= set(back)

        done = stack.run("destroy", "--yes", "--skip-preview", refused=True)
        assert HELD in done.everything
        assert {one["type"] for one in stack.resources() if one["type"].startswith("gcp:")} == COSTS_NOTHING
        held.forward(google.HeldAddresses.HOLD_S)
        stack.run("destroy", "--yes", "--skip-preview")
    assert stack.resources() == []


ONE: Final[dict[str, Any]] = {"spot": False, "machine_type": "t2d-standard-8"}


def vm(**settings: Any) -> dict[str, Any]:
    return {"pilotlight:vm": settings}


def test_one_machine_has_the_disk_that_is_declared(factory: Factory) -> None:
    """Larger, smaller, and in another zone: the machine is another, and has the new disk, which the old one was not."""
    stack = factory.stack("one")
    stack.write_config({"pilotlight:lanes": ["vm"], **vm(**ONE)})
    stack.up()
    disks = stack.provider.of(google.Disks)
    for change in ({"disk_gib": 30}, {"disk_gib": 10}, {"zone": f"{REGION}-c"}):
        assert changed(stack, vm(**ONE, **change)) == [
            ("create", "vm-weights"),
            ("delete", "vm-machine"),
            ("create", "vm-machine"),
            ("delete", "vm-weights"),
        ]
        [machine] = stack.provider.existing(google.INSTANCE, "one")
        [disk] = disks.of(machine, stack.provider.world)
        assert machine.inputs["zone"] == disk.inputs["zone"] == change.get("zone", f"{REGION}-b")
        assert disk.inputs["size"] == change.get("disk_gib", 20)


def test_a_group_changes_in_place_and_moves_to_other_zones_beside_the_old(factory: Factory) -> None:
    stack = factory.stack("group")
    stack.write_config({"pilotlight:lanes": ["vm"], **vm(max_replicas=2)})
    stack.up()
    moved = changed(stack, vm(max_replicas=2, zone=f"{REGION}-f"))
    assert [change for change in moved if change[1] != "vm-group-template"] == [
        ("create", "vm-group-manager"),
        *sorted([("create", "vm-group-autoscaler"), ("update", "vm-group-backend")], key=moved.index),
        ("delete", "vm-group-autoscaler"),
        ("delete", "vm-group-manager"),
    ]
    with stack.provider.also(google.Rolls()) as rolls:
        stack.write_config(vm(max_replicas=2, zone=f"{REGION}-f", disk_gib=30))
        # Google may hold the old template until the last machine has gone: all else is done then.
        done = stack.run("up", "--yes", "--skip-preview", refused=True)
        assert "instanceTemplates/pilotlight-group-vm-" in done.everything
        assert len(stack.provider.existing(google.TEMPLATE, "group")) == 2
        rolls.rolling = False
        assert changed(stack, {}) == [("delete", "vm-group-template")]


def test_another_place_is_refused_before_anything_changes(factory: Factory) -> None:
    stack = factory.stack("place")
    stack.write_config({"pilotlight:lanes": ["vm"]})
    stack.up()
    for key, other in (("gcp:region", "europe-west4"), ("gcp:project", "another-project")):
        first = stack.run("config", "get", key).out.strip()
        stack.run("config", "set", key, other)
        before = len(stack.provider.changes)
        for operation in (["preview"], ["up", "--yes", "--skip-preview"]):
            done = stack.run(*operation, refused=True)
            assert f"{key}: as long as the stack stands it is {first}, not {other}. Consequence: " in done.everything
            assert f"`pulumi config set {key} {first}`" in done.everything
            assert "Traceback" not in done.everything
        assert stack.provider.changes[before:] == []
        stack.run("config", "set", key, first)
    stack.run("preview", "--expect-no-changes")
