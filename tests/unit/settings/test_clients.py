"""Clients: their rules, and what a priority leaves of each lane."""

import json
import re
from typing import Any

import pytest

from components.settings import Lane, Settings, client_classes, client_rules
from components.settings.client_classes import ClientClass, classes, limit, pins
from components.settings.clients import ClientSettings, Priority
from components.settings.reading import read
from components.settings.section import SettingsError

ALL = ["home", "burst", "vm"]
HIGH, NORMAL, BACKGROUND = Priority.HIGH, Priority.NORMAL, Priority.BACKGROUND
HOME, BURST, VM = Lane.HOME, Lane.BURST, Lane.VM


def settings(*clients: dict[str, Any], lanes: list[str] | None = None, **slots: int) -> Settings:
    values: dict[str, object] = {"lanes": lanes or ALL, "clients": clients}
    values |= {lane: {"max_requests": count} for lane, count in slots.items()}
    config = {"gcp:project": "my-project", "gcp:region": "europe-west4"}
    return read(config | {f"pilotlight:{key}": json.dumps(value) for key, value in values.items()}, stack="test")


def client(name: str, priority: str = "normal", **more: object) -> dict[str, object]:
    return {"name": name, "priority": priority, **more}


@pytest.mark.parametrize(
    ("slots", "limits"),
    [
        (16, (16, 12, 8)),
        (8, (8, 6, 4)),
        (5, (5, 3, 1)),
        (4, (4, 3, 2)),
        (3, (3, 2, 1)),
        (2, (2, 1, 0)),
        (1, (1, 0, 0)),
    ],
)
def test_each_higher_priority_keeps_a_quarter_of_the_slots(slots: int, limits: tuple[int, ...]) -> None:
    clients = [client("a", "high"), client("b"), client("c", "background")]
    chosen = settings(*clients, home=64, burst=slots)
    assert tuple(limit(chosen, BURST, priority) for priority in (HIGH, NORMAL, BACKGROUND)) == limits


def test_nothing_is_kept_for_nobody() -> None:
    """Only priorities that are in use, and only on lanes that such a client has."""
    assert limit(settings(client("c", "background"), home=8), HOME, BACKGROUND) == 8
    assert limit(settings(client("a"), client("b"), home=8), HOME, NORMAL) == 8
    assert limit(settings(client("a", "high"), client("c", "background"), home=8), HOME, BACKGROUND) == 6
    apart = settings(client("a", "high", lanes=["vm"]), client("b"), home=8, vm=4)
    assert (limit(apart, HOME, NORMAL), limit(apart, VM, NORMAL)) == (8, 3)


def test_classes_are_those_in_use_and_pins_those_within_reach() -> None:
    alone = settings(client("a"), client("b"))
    assert classes(alone) == (ClientClass((HOME, BURST, VM), NORMAL),)
    assert pins(alone) == tuple(ClientClass((lane,), NORMAL, pinned=True) for lane in (HOME, BURST, VM))
    mixed = settings(client("a", lanes=["vm", "home"]), client("b", lanes=["home"]), client("c", "high", lanes=["vm"]))
    assert classes(mixed) == (
        ClientClass((VM,), HIGH), ClientClass((HOME, VM), NORMAL), ClientClass((HOME,), NORMAL),
    )  # fmt: skip
    assert pins(mixed) == (ClientClass((HOME,), NORMAL), ClientClass((VM,), HIGH), ClientClass((VM,), NORMAL, True))


def test_a_lane_whose_slots_are_all_kept_is_left_out() -> None:
    chosen = settings(client("a", "high"), client("b"), client("c", "background"), home=8, vm=2, burst=8)
    assert classes(chosen)[-1] == ClientClass((HOME, BURST), BACKGROUND)
    assert not [pin for pin in pins(chosen) if pin.priority is BACKGROUND and VM in pin.lanes]


def test_clients_that_say_the_same_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each working out asks all clients: done for each of them, a thousand took eleven seconds."""
    kinds: list[Settings] = []
    true = client_classes.class_of

    def counted(chosen: Settings, one: ClientSettings) -> ClientClass:
        kinds.append(chosen)
        return true(chosen, one)

    chosen = settings(*(client(f"c{number}", str([HIGH, NORMAL][number % 2])) for number in range(100)))
    monkeypatch.setattr(client_classes, "class_of", counted)
    found = client_classes.by_client(chosen)
    assert len(kinds) == 2
    assert found == {one.name: true(chosen, one) for one in chosen.clients}


REFUSED: list[tuple[Any, tuple[str, ...]]] = [
    (
        [client("a", lanes=[])],
        ("clients.0.lanes: at least one lane", "every request of a would end in 503", "leave it out for all lanes"),
    ),
    (
        [client("a"), client("b", lanes=["home", "burst"])],
        ("clients.1.lanes: lanes that the stack has (home, vm), not burst", "nothing runs", "add burst to `lanes`"),
    ),
    ([client("a", lanes=["vm", "vm"])], ("clients.0.lanes: a lane stands once", "remove the repeat")),
    ([client("a", lanes=["attic"])], ("clients.0.lanes.0: is refused",)),
    (
        [client("a", "high"), client("b", "background", lanes=["vm"]), client("c")],
        ("clients.1.priority: some lane has slots left for `background`", "b would never be served", "raise `max_req"),
    ),
    ([client("a", "urgent")], ("clients.0.priority: is refused", "high", "background")),
    (
        [client(f"c{n}") for n in range(901)],
        ("clients: at most 900, there are 901", "each key is one", "share a client"),
    ),
    ([client("a", max_requests=0)], ("clients.0.max_requests: is refused", "greater than or equal to 1")),
    ([client("a", max_request=1)], ("clients.0.max_request: is no setting", "did you mean `max_requests`?")),
]


@pytest.mark.parametrize(("clients", "parts"), REFUSED, ids=[parts[0][:40] for _, parts in REFUSED])
def test_what_a_client_can_t_have_is_refused(clients: list[dict[str, Any]], parts: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match=".*".join(map(re.escape, parts))) as caught:
        settings(*clients, lanes=["home", "vm"], home=8, vm=2)
    for problem in caught.value.problems:
        assert re.fullmatch(r"[a-z][\w.]*: .+\. Consequence: .+\. Fix: .+\.", problem), problem


def test_as_many_clients_as_fit_are_taken() -> None:
    assert len(settings(*(client(f"c{n}") for n in range(client_rules.MOST_CLIENTS))).clients) == 900


def test_each_fault_is_told_once() -> None:
    """A lane that the stack doesn't have is no question of its slots."""
    with pytest.raises(SettingsError) as caught:
        settings(client("a", "high"), client("b", lanes=["burst"]), lanes=["home", "vm"])
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("rule", "clients"),
    [
        ("_names_and_keys", []),
        ("_lanes", [client("a", lanes=["home", "burst"])]),
        ("_priorities", [client("a", "high"), client("b", lanes=["vm"])]),
    ],
)
def test_each_refusal_comes_from_its_rule(
    monkeypatch: pytest.MonkeyPatch, rule: str, clients: list[dict[str, Any]]
) -> None:
    with pytest.raises(SettingsError):
        settings(*clients, lanes=["home", "vm"], vm=1)

    def nothing(_: Settings) -> list[str]:
        return []

    monkeypatch.setattr(client_rules, rule, nothing)
    settings(*clients, lanes=["home", "vm"], vm=1)
