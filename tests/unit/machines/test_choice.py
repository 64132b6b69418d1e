"""Which machine is taken, by the two tables and the budget; and what a name tells of one that isn't in them."""

from dataclasses import replace

import pytest

from components.machines import choice, prices
from components.machines.choice import BUDGET_USD, Choice, chosen, fastest, offered, wait_s
from components.machines.memory import held_gib, needed_gib, prompts_mib, vllm_gib
from components.machines.names import HYPERDISK, PD, Shape, shape
from components.machines.prices import BALANCER_USD, Price, price, regions
from components.machines.requests import first_token_s
from components.machines.speeds import MACHINES, Machine, Source, Speed, machine
from components.machines.zones import CARD_ZONES, zones
from components.models.catalogue import PRESETS, STANDARD

MODEL = STANDARD.model


@pytest.mark.parametrize(
    ("region", "spot", "expected"),
    [
        ("us-central1", None, ("t2d-standard-8", True)),
        ("us-central1", True, ("t2d-standard-8", True)),
        ("us-central1", False, ("e2-highmem-2", False)),
        # The region has t2d-standard-8, but not for that price.
        ("europe-west4", None, ("t2d-standard-4", True)),
        ("europe-west4", False, None),
        # The region has no T2D at all.
        ("asia-northeast3", None, ("c2d-standard-8", True)),
        ("asia-northeast3", False, None),
        ("africa-south1", None, None),
    ],
)
def test_the_default_is_the_fastest_within_the_budget(
    region: str, spot: bool | None, expected: tuple[str, bool] | None
) -> None:
    found = fastest(region, spot=spot)
    assert (found and (found.machine.name, found.spot)) == expected


@pytest.mark.parametrize("region", regions())
def test_nothing_within_the_budget_is_faster(region: str) -> None:
    """Against every machine and kind of capacity, with its price added up anew."""
    found = fastest(region)
    assert found is not None
    for row in MACHINES:
        there = price(row, region)
        if row.gpu or there is None:
            continue
        for usd in (there.on_demand, (there.spot or 1e9) + 18.25):
            if usd <= 66:
                assert wait_s(found.machine) <= wait_s(row), row.title


def test_the_balancer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spot is a group: without the balancer's rule, dearer machines would seem to be in the budget."""
    monkeypatch.setattr(choice, "BALANCER_USD", 0.0)
    found = fastest("asia-northeast3")
    assert found is not None
    assert found.month_usd("asia-northeast3") == 35.3
    assert pytest.approx(0.025 * prices.HOURS) == BALANCER_USD
    monkeypatch.setattr(choice, "BALANCER_USD", 40.0)
    dearer = fastest("us-central1")
    assert dearer is not None
    assert (dearer.machine.name, dearer.spot) == ("t2d-standard-4", True)


def test_no_card_is_chosen_whatever_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new project has quota for none: its first update would fail."""
    monkeypatch.setattr(choice, "BUDGET_USD", 1000.0)
    for region in regions():
        found = fastest(region)
        assert found is not None
        assert not found.machine.gpu


def test_of_equally_fast_machines_the_cheapest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def two(row: Machine, _region: str) -> Price | None:
        return {"c3-highcpu-8": Price(50.0, None), "c3-standard-8": Price(40.0, None)}.get(row.name)

    same = Speed(40.0, 29.0, 7.0, Source.ESTIMATED, "")
    rows = [Machine(name, "", 8, 4, 16, PD, same) for name in ("c3-highcpu-8", "c3-standard-8")]
    monkeypatch.setattr(choice, "MACHINES", rows)
    monkeypatch.setattr(choice, "price", two)
    found = fastest("us-central1")
    assert found is not None
    assert found.machine.name == "c3-standard-8"


def test_the_default_answers_a_text_soon_and_a_picture_before_the_gateway_ends_it() -> None:
    for region in regions():
        found = fastest(region)
        assert found is not None
        assert first_token_s(found.machine.speed, 300) < 20
        assert wait_s(found.machine) < 120
        assert (found.month_usd(region) or 1e9) <= BUDGET_USD


OWN = Speed(9.0, 8.0, 7.0, Source.MEASURED, "vm.speed")


def test_a_named_machine_is_its_row_and_a_speed_is_its_own() -> None:
    named = chosen("us-central1", STANDARD, machine_type="c3-highcpu-8")
    assert named == Choice(next(row for row in MACHINES if row.name == "c3-highcpu-8"), False)
    measured = chosen("us-central1", STANDARD, machine_type="c3-highcpu-8", spot=True, speed=OWN)
    assert measured is not None
    assert (measured.machine.speed, measured.machine.cores, measured.spot) == (OWN, 4, True)
    unknown = chosen("us-central1", STANDARD, machine_type="c4-highmem-16", speed=OWN)
    assert unknown is not None
    row = unknown.machine
    assert (row.vcpus, row.cores, row.memory_gib, row.disk, row.speed) == (16, 8, 104, HYPERDISK, OWN)
    assert chosen("us-central1", STANDARD, machine_type="c4-highmem-16") is None
    assert chosen("us-central1", STANDARD, machine_type="e2-medium", speed=OWN) is None


@pytest.mark.parametrize(("gpu", "name"), [("t4", "n1-standard-2"), ("l4", "g2-standard-4")])
def test_a_card_means_its_smallest_machine(gpu: str, name: str) -> None:
    found = chosen("us-central1", STANDARD, gpu=gpu)
    assert found is not None
    assert (found.machine.name, found.machine.gpu, found.spot) == (name, gpu, False)
    assert min(row.vcpus for row in MACHINES if row.gpu == gpu) == found.machine.vcpus


def test_machines_are_listed_the_fastest_first() -> None:
    names = [row.title for row in offered("asia-northeast3")]
    assert names[:2] == ["g2-standard-4", "n1-standard-2 + T4"]
    assert names[-1] == "e2-highmem-2"
    assert "t2d-standard-8" not in names


@pytest.mark.parametrize(
    ("machine_type", "expected"),
    [
        ("e2-highmem-2", Shape(2, 1, 13.0, PD, False)),
        ("n1-standard-1", Shape(1, 1, 3.75, PD, False)),
        ("c3-highcpu-8", Shape(8, 4, 16.0, PD, False)),
        ("e2-highcpu-8", Shape(8, 4, 7.2, PD, False)),
        ("c3-standard-8-lssd", Shape(8, 4, 30.0, PD, False)),
        ("c4-standard-8", Shape(8, 4, 30.0, HYPERDISK, False)),
        ("n4-highcpu-16", Shape(16, 8, 32.0, HYPERDISK, False)),
        ("t2d-standard-4", Shape(4, 4, 15.0, PD, False)),
        ("t2a-standard-4", Shape(4, 4, 15.0, PD, True)),
        ("c4a-highmem-4", Shape(4, 4, 26.0, HYPERDISK, True)),
        ("n2-custom-4-16384", Shape(4, 2, 16.0, PD, False)),
        ("custom-4-16384", Shape(4, 2, 16.0, PD, False)),
        ("e2-medium", None),
        ("g2-standard", None),
    ],
)
def test_a_name_tells_the_machine(machine_type: str, expected: Shape | None) -> None:
    assert shape(machine_type) == expected


@pytest.mark.parametrize("row", MACHINES, ids=lambda row: row.title)
def test_the_table_agrees_with_the_names(row: Machine) -> None:
    told = shape(row.name)
    assert told is not None
    assert (told.vcpus, told.cores, told.disk, told.is_arm) == (row.vcpus, row.cores, row.disk, False)
    assert 0.75 * row.memory_gib <= told.memory_gib <= row.memory_gib + 0.2


@pytest.mark.parametrize("row", MACHINES, ids=lambda row: row.title)
def test_each_machine_of_the_table_holds_the_model_and_keeps_some_memory_free(row: Machine) -> None:
    needed = needed_gib(row, MODEL, 16384)
    assert needed <= held_gib(row)
    assert needed_gib(row, MODEL, 16384 + 2**20 // 56) == pytest.approx(needed + 1, abs=0.01)
    assert needed_gib(row, replace(MODEL, projector=None), 16384) == pytest.approx(needed - 853_119_712 / 2**30)
    remembered = prompts_mib(row, MODEL, 16384)
    assert remembered % 256 == 0
    assert remembered <= 8192
    if not row.gpu:
        assert needed + remembered / 1024 <= row.memory_gib, "a machine that is out of memory serves nobody"


def test_where_nothing_is_left_no_prompt_is_remembered() -> None:
    small = machine("c3-highcpu-8")
    assert small is not None
    assert prompts_mib(small, MODEL, 16384) == 2560
    assert prompts_mib(small, MODEL, 100_000) == 256
    assert prompts_mib(small, MODEL, 200_000) == 0


def test_the_usual_zone_comes_first() -> None:
    assert zones("t4", "us-central1") == tuple(f"us-central1-{letter}" for letter in "bacf")
    assert zones("l4", "us-east4") == ("us-east4-a", "us-east4-c")
    assert zones("l4", "africa-south1") == ()
    assert set(CARD_ZONES) == {row.gpu for row in MACHINES if row.gpu}


def test_the_default_machine_is_the_fastest_for_the_model() -> None:
    """Without pictures, a machine that reads slowly and writes fast may be the better one; the speed is the model's."""
    small = replace(STANDARD, model=PRESETS["qwen2.5-vl-3b"])
    usual, found = chosen("us-central1", STANDARD), chosen("us-central1", small)
    assert usual is not None
    assert found is not None
    assert found.machine.speed.prompt > 2 * usual.machine.speed.prompt
    for row in offered("us-central1", small):
        assert wait_s(row, small) < wait_s(row)


@pytest.mark.parametrize("preset", PRESETS)
def test_memory_follows_from_the_files_and_the_cache(preset: str) -> None:
    model, row = PRESETS[preset], machine("t2d-standard-8")
    assert row is not None
    files = ((model.gguf.bytes if model.gguf else 0) + (model.projector.bytes if model.projector else 0)) / 2**30
    cache = 32_768 * model.shape.cache_bytes / 2**30
    assert needed_gib(row, model, 32_768) - needed_gib(row, model, 0) == pytest.approx(cache)
    assert needed_gib(row, model, 0) > files + 2
    assert vllm_gib(model, 32_768) == pytest.approx(model.weights_bytes / 2**30 + cache + 1.5)
