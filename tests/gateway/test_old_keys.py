"""Old keys of clients, in grace and after it: the rendered configuration in a real Caddy, which nobody deploys anew."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from components.gateway.caddy import config as caddy_config
from components.settings import Settings, client_keys
from components.settings.kubeconfig import rfc3339
from tests.gateway import routing
from tests.gateway.client_checks import log_lines, logged
from tests.gateway.routing import find
from tests.gateway.world import KEY, VM_ADDRESS, World, world
from tests.kit import until

NOW = datetime.now(UTC)
ENDS = {1: NOW - timedelta(seconds=1), 2: NOW + timedelta(days=1)}
"""By generation; the client has the third."""


def old_key(generation: int) -> str:
    return f"old-key-{generation}-0123456789"


def settings(ends: dict[int, datetime]) -> Settings:
    """As they were at a deployment of the day before yesterday, when none had ended."""
    chosen = routing.settings(
        lanes=["vm"],
        clients=[{"name": "demo", "generation": 3}, {"name": "ghost"}],
        old_keys=[{"client": "demo", "generation": number, "until": str(end)} for number, end in ends.items()],
    )
    return chosen.model_copy(update={"now": NOW - timedelta(days=2)})


def rendered(ends: dict[int, datetime]) -> dict[str, Any]:
    return caddy_config.render(settings(ends), vm_address=VM_ADDRESS)


def environment(ends: dict[int, datetime]) -> dict[str, str]:
    chosen = settings(ends)
    return routing.environment(chosen) | {
        key.variable: old_key(key.generation or 0) for key in client_keys.in_grace(chosen)
    }


@pytest.fixture(scope="module")
def lanes() -> Iterator[World]:
    with world() as all_toys:
        yield all_toys


def status(here: World, key: str, **headers: str) -> int:
    return here.call(body=b"{}", Authorization=f"Bearer {key}", **headers).status


def in_grace_both_are_good(here: World) -> None:
    assert status(here, KEY) == 200
    assert status(here, old_key(2)) == 200
    assert here.call(body=b"{}", Authorization=f"bearer {old_key(2)}").status == 200


def an_ended_one_is_refused_like_any_other(here: World) -> None:
    ended, unknown = (
        here.call(body=b"{}", Authorization=f"Bearer {key}") for key in (old_key(1), "never-a-key-0123456789")
    )
    assert (ended.status, ended.error["code"]) == (401, "invalid_api_key")
    assert ended.body == unknown.body


def test_both_keys_are_good_until_the_old_one_s_end(lanes: World) -> None:
    with lanes.caddy(rendered(ENDS), environment(ENDS), first="vm"):
        in_grace_both_are_good(lanes)
        an_ended_one_is_refused_like_any_other(lanes)
        assert (
            status(lanes, KEY, X_Request_Id="with-the-new"),
            status(lanes, old_key(2), X_Request_Id="with-the-old"),
        ) == (200, 200)
        logged(lanes, "with-the-new", "with-the-old")
    told = {
        line["request_id"]: (line["client"], line.get("old_key"))
        for line in log_lines(lanes.log)
        if "with-the" in line["request_id"]
    }
    assert told == {"with-the-new": ("demo", None), "with-the-old": ("demo", "true")}
    assert old_key(2) not in lanes.log


def test_a_key_ends_to_the_second_while_caddy_runs(lanes: World) -> None:
    ends = {2: (datetime.now(UTC) + timedelta(seconds=4)).replace(microsecond=0)}
    with lanes.caddy(rendered(ends), environment(ends), first="vm"):
        good, refused_at = 0.0, 0.0

        def refused() -> bool:
            nonlocal good, refused_at
            asked, found, answered = time.time(), status(lanes, old_key(2)), time.time()
            good, refused_at = (asked, 0.0) if found == 200 else (good, answered)
            return found == 401

        until(refused, "the old key has ended")
        assert status(lanes, KEY) == 200
    assert good < ends[2].timestamp() <= refused_at


def without_end(config: dict[str, Any]) -> None:
    for match in find(config, lambda node: "expression" in node and "time.now" in str(node["expression"])):
        del match["expression"]


def ends_before_its_time(config: dict[str, Any]) -> None:
    for match in find(config, lambda node: "expression" in node and "time.now" in str(node["expression"])):
        match["expression"] = match["expression"].replace("<", ">")


@pytest.mark.parametrize(
    ("mutation", "check"),
    [(without_end, an_ended_one_is_refused_like_any_other), (ends_before_its_time, in_grace_both_are_good)],
)
def test_a_key_without_its_end_is_seen(lanes: World, mutation: Any, check: Any) -> None:
    config = rendered(ENDS)
    mutation(config)
    assert config != rendered(ENDS)
    with lanes.caddy(config, environment(ENDS), first="vm"), pytest.raises(AssertionError):
        check(lanes)


def test_the_configuration_holds_the_end_and_no_key() -> None:
    text = json.dumps(rendered(ENDS))
    assert f'{{time.now}} < timestamp(\\"{rfc3339(ENDS[2])}\\")' in text
    assert not [key for key in (KEY, old_key(1), old_key(2)) if key in text]
