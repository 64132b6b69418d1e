"""More clients than Caddy looks at together: each key is still its client's, and nobody else's."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from components.gateway.caddy import routes
from components.settings import Settings, client_keys
from tests.gateway import routing
from tests.gateway.client_checks import log_lines, logged
from tests.gateway.routing import patient, rendered
from tests.gateway.world import World, world

NAMES = [f"c{number}" for number in range(2 * routes.TOGETHER + 3)]
UNSET = NAMES[-2]


def key(name: str) -> str:
    return f"{name}-key-0123456789"


def settings() -> Settings:
    return routing.settings(clients=[{"name": "demo"}, *({"name": name} for name in NAMES)])


def environment() -> dict[str, str]:
    own = {client_keys.variable(name): key(name) for name in NAMES if name != UNSET}
    return routing.environment(settings()) | own | {client_keys.variable(NAMES[-3]): ""}


@pytest.fixture(scope="module")
def lanes() -> Iterator[World]:
    with world() as all_toys:
        yield all_toys


def each_key_is_its_clients(here: World, config: dict[str, Any]) -> None:
    known = [name for name in NAMES if environment().get(client_keys.variable(name))]
    assert len(known) == len(NAMES) - 2
    with here.caddy(patient(config), environment()):
        for name in known:
            assert here.call(X_Request_Id=name, Authorization=f"bearer {key(name)}").status == 200, name
        for wrong in (key(UNSET), key("c99"), "", "{env.CLIENT_KEY_C0}", f"{{env.{client_keys.variable(UNSET)}}}"):
            assert here.call(Authorization=f"Bearer {wrong}").status == 401, wrong
        logged(here, *known)
    told = {line["request_id"]: line.get("client") for line in log_lines(here.log)}
    assert [told[name] for name in known] == known


def test_each_key_is_its_client_s(lanes: World) -> None:
    each_key_is_its_clients(lanes, rendered(settings()))


def test_a_group_that_misses_a_key_is_seen(lanes: World) -> None:
    """The last key of a group, taken out of what leads to the group."""
    text = json.dumps(rendered(settings()))
    last = f'"{{env.{client_keys.variable(NAMES[routes.TOGETHER - 2])}}}"]'
    assert text.count(f", {last}") == 1
    with pytest.raises(AssertionError):
        each_key_is_its_clients(lanes, json.loads(text.replace(f", {last}", "]")))
