"""The bill: every registered resource stands in it, its sums are added up anew here, and no old price is in it."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from components.machines.prices import HOURS, OLD_DAYS, SPOT, rates
from lab import show
from lab.errors import LabError
from lab.read.cost import bill
from lab.read.cost.bill import Bill
from lab.read.cost.line import Line
from lab.read.stack import Stack
from tests.golden import rendered as golden

Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
Extra = Callable[..., Stack]
HERE = "us-central1"


def usd(item: str, region: str = HERE) -> float:
    table = rates()
    return (table.get((item, region)) or table[item, "*"]).usd


def line(found: Bill, begins: str) -> Line:
    [one] = [line for line in found.lines if line.what.startswith(begins)]
    return one


def nat(machines: int) -> float:
    return HOURS * (machines * 0.0014 + 0.005)


# --- complete --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", golden.STACKS)
def test_every_registered_resource_of_the_goldens_stands_in_the_bill(name: str) -> None:
    require_whole(golden.rendered(name))


@pytest.mark.parametrize(
    "changes",
    [
        {"vm": {"replicas": 2, "max_replicas": 3}, "alerts": {"email": "me@example.com"}},
        {"vm": {"gpu": "l4", "spot": False}},
        {"lanes": ["burst"], "burst": {"min_instances": 1}},
        {"model": {"preset": "qwen3-vl-4b"}, "lanes": ["burst", "vm"]},
    ],
    ids=str,
)
def test_every_registered_resource_stands_in_the_bill(stack_of: Render, changes: dict[str, Any]) -> None:
    require_whole(stack_of(**changes))


def require_whole(stack: Stack) -> None:
    found = bill.read(stack)
    billed = {urn for line in found.lines for urn in line.covers}
    free = {name for names in found.free.values() for name in names}
    for resource in stack.resources:
        is_folder = resource.type.startswith("pilotlight:")
        assert (resource.urn in billed) + (resource.name in free) == (not is_folder), resource.urn


@pytest.mark.parametrize(
    ("kind", "provider"),
    [("gcp:sql/databaseInstance:DatabaseInstance", "gcp"), ("aws:ec2/instance:Instance", "aws")],
)
def test_a_type_that_nobody_priced_is_no_guess(stack_of: Render, with_extra: Extra, kind: str, provider: str) -> None:
    stack = with_extra(stack_of(), kind, f"{provider}-extra")
    with pytest.raises(LabError, match=rf"{provider}-extra \({kind}\): the bill doesn't know what that costs"):
        bill.read(stack)


def test_a_template_that_no_group_uses_is_no_guess(stack_of: Render, with_extra: Extra) -> None:
    stack = with_extra(stack_of(), "gcp:compute/instanceTemplate:InstanceTemplate", "other", selfLinkUnique="other")
    with pytest.raises(LabError, match=r"other \(gcp:compute/instanceTemplate"):
        bill.read(stack)


# --- sums ------------------------------------------------------------------------------------------------------------


def test_the_default_stack_costs_its_machine_address_disks_and_way_out(stack_of: Render) -> None:
    found = bill.read(stack_of())
    assert found.region == HERE
    assert line(found, "lane vm").month_usd == usd("t2d-standard-8" + SPOT)
    assert line(found, "internal balancer").month_usd == pytest.approx(18.25)
    assert line(found, "disks: 2 x 20 GiB pd-balanced").month_usd == pytest.approx(4)
    assert line(found, "Cloud NAT").month_usd == pytest.approx(nat(1))
    assert line(found, "gateway").month_usd == 0
    assert line(found, "6 secret versions").month_usd == 0, "as many as are free"
    assert found.month_usd == pytest.approx(usd("t2d-standard-8" + SPOT) + 18.25 + 4 + nat(1))
    assert found.unknown == ()


def test_a_plain_machine_has_a_disk_of_its_own_and_no_balancer(stack_of: Render) -> None:
    found = bill.read(stack_of(lanes=["vm"], vm={"spot": False, "disk_gib": 30}))
    assert line(found, "lane vm: e2-highmem-2").month_usd == usd("e2-highmem-2")
    assert line(found, "disks: 1 x 20 GiB").month_usd == pytest.approx(2)
    assert line(found, "disks: 1 x 30 GiB").month_usd == pytest.approx(3)
    assert not [line for line in found.lines if line.what == "internal balancer"]


def test_machines_disks_and_nat_count_by_the_group_s_size(stack_of: Render) -> None:
    found = bill.read(stack_of(lanes=["vm"], vm={"replicas": 2}))
    assert line(found, "lane vm: 2 x t2d-standard-8, spot").month_usd == pytest.approx(2 * usd("t2d-standard-8" + SPOT))
    assert line(found, "disks: 4 x 20 GiB").month_usd == pytest.approx(8)
    assert line(found, "Cloud NAT").month_usd == pytest.approx(nat(2))
    assert line(found, "lane vm").use_per == ""


def test_an_autoscaler_s_machines_cost_while_they_are_there(stack_of: Render) -> None:
    found = bill.read(stack_of(lanes=["vm"], vm={"max_replicas": 3}))
    machines = line(found, "lane vm: t2d-standard-8, spot")
    assert machines.month_usd == usd("t2d-standard-8" + SPOT)
    assert machines.use_usd == pytest.approx(usd("t2d-standard-8" + SPOT) / HOURS)
    assert machines.use_per == "hour of a further machine"


@pytest.mark.parametrize(
    ("vm", "title"),
    [
        ({"gpu": "t4", "spot": True}, "n1-standard-2 + T4, spot"),
        ({"gpu": "l4", "spot": False}, "g2-standard-4"),
        ({"machine_type": "c3-highcpu-8", "spot": True}, "c3-highcpu-8, spot"),
    ],
)
def test_a_machine_costs_what_the_table_of_machines_says(stack_of: Render, vm: dict[str, Any], title: str) -> None:
    found = bill.read(stack_of(lanes=["vm"], vm=vm))
    assert line(found, "lane vm").what == f"lane vm: {title}"
    assert line(found, "lane vm").month_usd == usd(title)


def test_a_gateway_costs_while_it_is_awake_and_always_if_it_must_be(stack_of: Render) -> None:
    hour = 3600 * (3 * usd("run cpu") + 2 * usd("run memory"))
    awake, always = (line(bill.read(stack_of(gateway=one)), "gateway") for one in ({}, {"min_instances": 1}))
    assert (awake.month_usd, awake.use_per) == (0, "hour awake")
    assert awake.use_usd == always.use_usd == pytest.approx(hour)
    assert (always.month_usd, always.use_per) == (pytest.approx(HOURS * hour), "hour of a further instance")


def test_burst_costs_processors_memory_and_card(stack_of: Render) -> None:
    found = bill.read(stack_of(lanes=["burst", "vm"]))
    assert line(found, "lane burst").month_usd == 0
    assert line(found, "lane burst").use_usd == pytest.approx(
        3600 * (4 * usd("run cpu") + 16 * usd("run memory") + usd("run l4"))
    )
    assert line(found, "bucket with 6.4 GiB").month_usd == pytest.approx(6.45 * 0.02, abs=0.002)
    assert line(found, "the weights' job").use_usd == pytest.approx(3600 * (2 * usd("run cpu") + 8 * usd("run memory")))


def test_weights_of_an_own_model_count_as_large_as_the_default_s(stack_of: Render, planted: Plant) -> None:
    path = "inputs.template.template.containers.0.args.1"
    own = planted(stack_of(lanes=["burst", "vm"]), "burst-weights-job", path, "me/own")
    assert line(bill.read(own), "bucket with").note == "an own model, counted as large as the default's"


def test_secrets_beyond_the_free_ones_and_alerts_by_condition(stack_of: Render) -> None:
    found = bill.read(stack_of(alerts={"email": "me@example.com"}, clients=[{"name": f"c{n}"} for n in range(5)]))
    assert line(found, "10 secret versions").month_usd == pytest.approx(4 * 0.06)
    assert line(found, "alerts with 4 conditions").month_usd == pytest.approx(4 * 0.1)


def test_the_gateway_s_minutes_in_the_tailnet_are_told(stack_of: Render) -> None:
    assert "60 of the 1,000 ephemeral minutes" in line(bill.read(stack_of()), "tailnet").note
    assert not [line for line in bill.read(stack_of(lanes=["vm"])).lines if line.what == "tailnet"]


def test_metrics_of_logs_are_billed_by_what_they_take_in(stack_of: Render) -> None:
    found = line(bill.read(stack_of(lanes=["vm"])), "metrics of logs: 7")
    assert (found.month_usd, found.use_per) == (0, "MiB")


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path", "value", "told"),
    [
        ("gateway-service", "inputs.template.containers.0.resources.cpuIdle", True, "is billed by requests"),
        ("burst-service", "inputs.template.gpuZonalRedundancyDisabled", False, "nvidia-l4 without zonal redundancy"),
        ("burst-service", "inputs.template.nodeSelector.accelerator", "nvidia-h100", "no other"),
        ("vm-group-address", "inputs.addressType", "EXTERNAL", "a public address costs by the hour"),
        ("vm-group-template", "inputs.disks.1.diskType", "pd-extreme", "no price of 'pd-extreme' in us-central1"),
        ("gateway-service", "inputs.location", "us-east1", "us-east1 has none in components/machines/prices.csv"),
    ],
)
def test_what_the_bill_does_not_know_is_no_guess(
    stack_of: Render, planted: Plant, name: str, path: str, value: Any, told: str
) -> None:
    stack = planted(stack_of(lanes=["home", "burst", "vm"]), name, path, value)
    with pytest.raises(LabError, match=told):
        bill.read(stack)


def test_a_machine_without_a_price_is_said_to_be_missing_in_the_sum(stack_of: Render, planted: Plant) -> None:
    stack = planted(stack_of(lanes=["vm"]), "vm-group-template", "inputs.machineType", "c3-standard-44")
    found = bill.read(stack)
    assert found.unknown == ("lane vm: c3-standard-44, spot",)
    assert line(found, "lane vm").month_usd is None
    assert found.month_usd == pytest.approx(18.25 + 4 + nat(1))


def test_old_prices_are_refused_with_what_to_do() -> None:
    oldest = min(row.read for row in rates().values())
    bill.require_fresh(oldest + timedelta(days=OLD_DAYS))
    with pytest.raises(
        LabError, match=r"prices\.csv: a price is at most a year old; \d+ are older.*Consequence: .*Fix: .*--old-prices"
    ):
        bill.require_fresh(oldest + timedelta(days=OLD_DAYS + 1))


# --- shown -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show.console, "width", 400)


@pytest.mark.usefixtures("wide")
def test_it_shows_each_line_the_sum_and_what_is_free(stack_of: Render, capsys: pytest.CaptureFixture[str]) -> None:
    found = bill.read(stack_of())
    show.cost("dev", found, as_json=False)
    text = capsys.readouterr().out
    assert "stack dev in us-central1, USD at list price" in text
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    assert ["sum", f"{found.month_usd:.2f}"] in rows
    assert ["gateway", "0.00", "0.209 / hour awake"] in [row[:3] for row in rows]
    assert "free, 7 resources: an API that is on costs nothing by itself" in text


@pytest.mark.usefixtures("wide")
def test_it_says_what_the_sum_lacks(stack_of: Render, planted: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    stack = planted(stack_of(lanes=["vm"]), "vm-group-template", "inputs.machineType", "c3-standard-44")
    show.cost("dev", bill.read(stack), as_json=False)
    text = capsys.readouterr().out
    assert "unknown" in text
    assert "sum: at least, for no price is known of lane vm: c3-standard-44, spot" in text


def test_as_json_it_has_the_same(stack_of: Render, capsys: pytest.CaptureFixture[str]) -> None:
    found = bill.read(stack_of())
    show.cost("dev", found, as_json=True)
    whole = json.loads(capsys.readouterr().out)
    assert (whole["stack"], whole["month_usd"]) == ("dev", round(found.month_usd, 2))
    assert [line["what"] for line in whole["lines"]] == [line.what for line in found.lines]
