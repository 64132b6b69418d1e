"""Clients: their rules, and what a priority leaves of each lane."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from components.settings import Lane, Settings, client_classes, client_keys, client_rules
from components.settings.client_classes import ClientClass, classes, limit, pins
from components.settings.clients import ClientSettings, OldKeySettings, Priority
from components.settings.kubeconfig import rfc3339
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
        ("clients: at most 900, with the old keys there are 901", "each key is one", "share a client"),
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


# --- old keys ---------------------------------------------------------------------------------------------------------

IN_A_WEEK = f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}"
LAST_WEEK = f"{datetime.now(UTC) - timedelta(days=7):%Y-%m-%d}"
NEXT_YEAR = f"{datetime.now(UTC) + timedelta(days=365):%Y-%m-%d}"
OWN, OWN_BEFORE = "own-key-of-today-0123", "own-key-of-before-0123"


def with_old(*old: dict[str, Any], clients: list[dict[str, Any]] | None = None) -> Settings:
    config = {"clients": clients or [client("a", generation=3), client("b")], "old_keys": old, "lanes": ["vm"]}
    found = {f"pilotlight:{key}": json.dumps(value) for key, value in config.items()}
    return read({"gcp:project": "my-project", "gcp:region": "europe-west4", **found}, stack="test")


def old(until: str = IN_A_WEEK, **more: object) -> dict[str, object]:
    return {"client": "a", "until": until, **({} if more.keys() & {"generation", "key"} else {"generation": 1}), **more}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-15", "2027-01-15T00:00:00Z"),
        ("2027-01-15T18:00:00+01:00", "2027-01-15T17:00:00Z"),
        ("2027-01-15T18:00:00Z", "2027-01-15T18:00:00Z"),
        # Without quotes, as Pulumi and as the lab's YAML hand them on.
        ("2027-01-15 00:00:00 +0000 UTC", "2027-01-15T00:00:00Z"),
        ("2027-01-15 18:00:00 +0100 +0100", "2027-01-15T17:00:00Z"),
        ("2027-01-15 18:00:00+00:00", "2027-01-15T18:00:00Z"),
    ],
)
def test_a_day_begins_in_utc_and_a_moment_has_its_zone(text: str, moment: str) -> None:
    assert rfc3339(OldKeySettings(client="a", generation=1, until=text).until) == moment  # pyright: ignore[reportArgumentType]


def test_a_key_keeps_its_names_when_it_becomes_the_old_one() -> None:
    """A resource with another name would be another key."""
    chosen = with_old(old(), old(generation=2), old(client="b", key=OWN_BEFORE))
    assert [(key.client, key.suffix, key.variable) for key in client_keys.current(chosen)] == [
        ("a", "_3", "CLIENT_KEY_A"),
        ("b", "", "CLIENT_KEY_B"),
    ]
    assert [(key.client, key.suffix, key.variable) for key in client_keys.in_grace(chosen)] == [
        ("a", "", "CLIENT_OLD_KEY_1_A"),
        ("a", "_2", "CLIENT_OLD_KEY_2_A"),
        ("b", "_old", "CLIENT_OLD_KEY_0_B"),
    ]
    assert OWN_BEFORE not in json.dumps(client_keys.told(chosen)), "the output is no secret"


def test_what_has_ended_is_as_good_as_not_there() -> None:
    """Nobody has to tidy up on that day, or before the client goes."""
    chosen = with_old(old(LAST_WEEK), old(LAST_WEEK, client="gone"), old(LAST_WEEK, generation=9))
    assert client_keys.in_grace(chosen) == []
    assert client_keys.told(chosen) == []


NOT_OLD: list[tuple[list[dict[str, object]], tuple[str, ...]]] = [
    (
        [old(client="gone")],
        ("old_keys.0.client: a client of the stack; gone is none, and its old key is in grace until " + IN_A_WEEK,
         "both of its keys would get 401 at once", "put gone back under `clients` until then, or take this entry out"),
    ),
    ([old(NEXT_YEAR)], ("old_keys.0.until: at most 90 days ahead", "would go on for long", "write an earlier day")),
    ([old(OWN_BEFORE)], ("old_keys.0.until: a day such as 2026-12-15", "it may be a key", "nobody could tell")),
    ([old("soon")], ("old_keys.0.until: a day such as 2026-12-15", "it is 'soon'", "nobody could tell", "in UTC")),
    ([old("2027-01-15T18:00:00")], ("old_keys.0.until: a day such as", "a moment with its zone")),
    ([old(generation=3)], ("old_keys.0.generation: below the client's own, which is 3", "set `generation: 4`")),
    ([old(generation=None)], ("old_keys.0: either `generation` or `key`", "which key stays good")),
    ([old(generation=1, key=OWN)], ("old_keys.0: either `generation` or `key`",)),
    ([old(), old()], ("old_keys.1: each key of a stands once", "two ends")),
    ([old(key="short")], ("old_keys.0.key: a key has 16 to 128 characters", "it could be guessed")),
    ([old(untill=IN_A_WEEK)], ("old_keys.0.untill: is no setting", "did you mean `until`?")),
    ([{"client": "a", "generation": 1}], ("old_keys.0.until: is required",)),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "parts"), NOT_OLD, ids=[parts[0][:45] for _, parts in NOT_OLD])
def test_what_can_t_be_an_old_key_is_refused(entries: list[dict[str, Any]], parts: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match=".*".join(map(re.escape, parts))) as caught:
        with_old(*entries)
    for problem in caught.value.problems:
        assert re.fullmatch(r"[a-z][\w.]*: .+\. Consequence: .+\. Fix: .+\.", problem), problem
        assert OWN not in problem


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (old(), r"old_keys\.0\.generation: `key`, where a has a key of your own.*Fix: give the old key itself"),
        (old(key=OWN), "clients: every client has a key of its own"),
    ],
)
def test_an_own_key_follows_an_own_key(entry: dict[str, Any], text: str) -> None:
    with_old(old(key=OWN_BEFORE), clients=[client("a", key=OWN)])
    with pytest.raises(SettingsError, match=text):
        with_old(entry, clients=[client("a", key=OWN)])
