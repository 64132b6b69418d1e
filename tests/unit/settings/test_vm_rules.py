"""The VM's machine, card and memory: what can't work is refused before anything is declared, rule by rule."""

import json
import re
from typing import Any

import pytest

from components.settings import Settings, vm_rules
from components.settings.reading import read
from components.settings.section import SettingsError

FAST = {"prompt": 90, "picture": 80, "answer": 20}


def settings_in(region: str, *, lanes: tuple[str, ...] = ("vm",), **vm: Any) -> Settings:
    config = {"gcp:project": "some-project", "gcp:region": region}
    own = {"pilotlight:lanes": json.dumps(lanes), "pilotlight:vm": json.dumps(vm)}
    return read(config | own, stack="dev")


REFUSED: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    # the default machine
    (
        "us-east1",
        {},
        ("vm.machine_type: required in us-east1", "europe-west4, us-central1 only", "by price and speed",
         "a type of docs/machines.md that us-east1 has"),
    ),
    ("us-east1", {"spot": True}, ("vm.machine_type: required in us-east1",)),
    (
        "europe-west4",
        {"spot": False},
        ("vm.machine_type: required with vm.spot false in europe-west4", "at most 66 USD", "leave vm.spot out",
         "e2-highmem-2 (73 USD)"),
    ),
    ("us-central1", {"speed": FAST}, ("vm.speed: only with vm.machine_type", "the old one's", "leave vm.speed out")),
    # a named machine
    (
        "us-central1",
        {"machine_type": "c3d-standard-8-lssd"},
        ("vm.machine_type: one of the table in docs/machines.md, or with vm.speed beside it", "c3d-standard-8-lssd",
         "which lane answers sooner", "make bench-vm", "c3-highcpu-8 (248 USD)"),
    ),
    (
        "us-central1",
        {"machine_type": "e2-medium", "speed": FAST},
        ("vm.machine_type: a name that tells the size", "threads", "take one of t2d-standard-8"),
    ),
    ("us-central1", {"machine_type": "t2a-standard-4", "speed": FAST}, ("vm.machine_type: an x86 machine", "is ARM")),
    ("us-central1", {"machine_type": "c4a-standard-8"}, ("vm.machine_type: an x86 machine",)),
    (
        "asia-northeast3",
        {"machine_type": "t2d-standard-8"},
        ("vm.machine_type: a machine that asia-northeast3 has", "no price for t2d-standard-8 there", "half-way",
         "Fix: take one of c4-standard-8 (371 USD), c3-highcpu-8 (319 USD)"),
    ),
    ("asia-northeast3", {"machine_type": "c3d-standard-4", "spot": True}, ("northeast3 has", "c2d-standard-8 (54",)),
    # a card
    (
        "us-central1",
        {"machine_type": "g2-standard-4"},
        ("vm.gpu: l4, the card that a g2-standard-4 has, it is null", "no driver", "set vm.gpu to l4"),
    ),
    ("us-central1", {"machine_type": "g2-standard-4", "gpu": "t4"}, ("vm.gpu: l4", "it is t4")),
    (
        "us-central1",
        {"machine_type": "c3-highcpu-8", "gpu": "t4"},
        ("vm.machine_type: one that takes vm.gpu t4 (n1-standard-2, n1-standard-4), it is c3-highcpu-8", "half-way",
         "leave it out, which means n1-standard-2, or set vm.gpu to null"),
    ),
    ("us-central1", {"machine_type": "n1-standard-2", "gpu": "l4"}, ("vm.machine_type: one that takes vm.gpu l4",)),
    ("us-central1", {"gpu": "a100"}, ("vm.gpu: is refused",)),
    (
        "africa-south1",
        {"gpu": "l4"},
        ("vm.gpu: a card of gcp:region, africa-south1 has no l4", "nowhere", "europe-west4"),
    ),
    (
        "us-central1",
        {"gpu": "l4", "zone": "us-central1-f"},
        ("vm.zone: a zone with l4: us-central1-b, us-central1-a, us-central1-c; it is us-central1-f", "half-way",
         "leave it out, or set us-central1-b"),
    ),
    # numbers
    ("us-central1", {"zone": "europe-west1-b"}, ("vm.zone: a zone of gcp:region (us-central1)", "us-central1-b")),
    ("us-central1", {"speed": FAST | {"prompt": 0}, "machine_type": "e2-highmem-2"}, ("vm.speed.prompt: is refused",)),
]  # fmt: skip


@pytest.mark.parametrize(("region", "vm", "parts"), REFUSED, ids=[json.dumps(row[:2])[:70] for row in REFUSED])
def test_what_can_not_work_is_refused_by_name_rule_consequence_and_fix(
    region: str, vm: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError, match=".*".join(map(re.escape, parts))) as caught:
        settings_in(region, **vm)
    assert len(caught.value.problems) == 1
    for problem in caught.value.problems:
        assert re.fullmatch(r"[a-z][\w.]*: .+\. Consequence: .+\. Fix: .+\.", problem), problem


ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("us-central1", {}),
    ("us-central1", {"spot": False}),
    ("europe-west4", {}),
    ("asia-northeast3", {"spot": True}),
    # A region without prices takes the table's machines by name, and any machine with its speed.
    ("us-east1", {"machine_type": "c3-highcpu-8"}),
    ("us-east1", {"machine_type": "c3-highcpu-8", "spot": True}),
    ("us-east1", {"gpu": "t4"}),
    ("us-central1", {"machine_type": "c3d-standard-8-lssd", "speed": FAST}),
    ("us-central1", {"machine_type": "g2-standard-4", "gpu": "l4"}),
    ("us-central1", {"machine_type": "n1-standard-4", "gpu": "t4", "zone": "us-central1-f"}),
]


@pytest.mark.parametrize(("region", "vm"), ACCEPTED, ids=[json.dumps(row)[:70] for row in ACCEPTED])
def test_what_works_is_not_refused(region: str, vm: dict[str, Any]) -> None:
    settings = settings_in(region, **vm)
    assert settings.vm_machine is not None, "what isn't refused has a machine"


def test_a_stack_without_the_lane_needs_no_machine() -> None:
    assert settings_in("us-east1", lanes=("home",)).vm_machine is None


def test_the_zone_of_one_machine_has_its_card() -> None:
    assert settings_in("us-central1", gpu="l4").zone == "us-central1-b"
    assert settings_in("us-east4", gpu="l4").zone == "us-east4-a"
    assert settings_in("us-central1", gpu="l4", zone="us-central1-c").vm_zones == ("us-central1-c",)


# --- planted mistakes: a rule that is taken away lets the value through -----------------------------------------------


def nothing(_: Settings) -> list[str]:
    """A group of rules that refuses nothing."""
    return []


def anywhere(_gpu: str, region: str) -> tuple[str, ...]:
    return tuple(f"{region}-{letter}" for letter in "abcdef")


TAKEN_AWAY: list[tuple[str, object, str, dict[str, Any]]] = [
    ("_numbers", nothing, "us-central1", {"zone": "europe-west1-b"}),
    ("_default", nothing, "us-east1", {}),
    ("_default", nothing, "europe-west4", {"spot": False}),
    ("_default", nothing, "us-central1", {"speed": FAST}),
    ("_machine", nothing, "us-central1", {"machine_type": "e2-medium"}),
    ("_machine", nothing, "asia-northeast3", {"machine_type": "t2d-standard-8"}),
    ("_machine", nothing, "us-central1", {"machine_type": "t2a-standard-4", "speed": FAST}),
    ("_card", nothing, "us-central1", {"gpu": "l4", "zone": "us-central1-f"}),
    ("_card", nothing, "africa-south1", {"gpu": "l4"}),
    ("zones", anywhere, "africa-south1", {"gpu": "l4"}),
    ("zones", anywhere, "us-central1", {"gpu": "l4", "zone": "us-central1-f"}),
]


@pytest.mark.parametrize(("rule", "value", "region", "vm"), TAKEN_AWAY, ids=[str(row[::2]) for row in TAKEN_AWAY])
def test_each_refusal_comes_from_its_rule(
    monkeypatch: pytest.MonkeyPatch, rule: str, value: object, region: str, vm: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError):
        settings_in(region, **vm)
    monkeypatch.setattr(vm_rules, rule, value)
    settings_in(region, **vm)


@pytest.mark.parametrize(
    ("vm", "refused"),
    [({"machine_type": "g2-standard-4"}, "BUILT_IN"), ({"machine_type": "c3-highcpu-8", "gpu": "t4"}, "_card")],
    ids=str,
)
def test_a_contradicting_card_would_be_refused_as_an_unknown_machine(
    monkeypatch: pytest.MonkeyPatch, vm: dict[str, Any], refused: str
) -> None:
    """Without its own rule the sentence would not say that machine and card contradict each other."""
    monkeypatch.setattr(vm_rules, refused, {} if refused == "BUILT_IN" else nothing)
    with pytest.raises(SettingsError, match=r"one of the table in docs/machines\.md"):
        settings_in("us-central1", **vm)
