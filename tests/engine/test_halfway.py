"""An `up` or a `destroy` that ends halfway, with the real engine: the next one goes on where it ended."""

from collections.abc import Generator, Iterable
from typing import Any, Final

import pytest

from tests.engine import google
from tests.engine.behaviour import FailsOnce, token_of
from tests.engine.pulumi_cli import NEEDS_THE_CLI, Engine, Factory, engines

pytestmark = NEEDS_THE_CLI

LATE_S: Final = 3.0
TRIES: Final = 12
"""More than the longest chain of resources that wait for each other."""
EVERYTHING: Final[dict[str, Any]] = {
    "pilotlight:lanes": ["home", "burst", "vm"],
    "pilotlight:alerts": {"email": "owner@example.com"},
    "pilotlight:budget": {"per_month": 100, "billing_account": "012345-6789AB-CDEF01"},
}
CHANGED: Final[dict[str, Any]] = {
    **EVERYTHING,
    "pilotlight:clients": [{"name": "other"}],
    "pilotlight:model": {"name": "new"},
    # One machine in place of the group: its parts come, the group's go.
    "pilotlight:vm": {"spot": False, "disk_gib": 30},
    "pilotlight:tailnet": {"key_expiry_days": 30},
}


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Generator[Factory]:
    with engines(tmp_path_factory.mktemp("halfway")) as made:
        yield made


def test_the_first_up_waits_until_new_grants_count(factory: Factory) -> None:
    stack = factory.stack("waiting", grants_s=LATE_S + 0.5)
    stack.write_config({"pilotlight:lanes": ["home", "burst", "vm"]})
    with stack.provider.also(google.LateGrants(LATE_S)):
        stack.up()
        stack.write_config({"pilotlight:clients": [{"name": "demo"}, {"name": "new"}]})
        stack.up()
    assert [change for change in stack.provider.changes if change[1] == "gateway-service"] == [
        ("create", "gateway-service"),
        ("update", "gateway-service"),
    ]


def test_a_stack_in_which_everything_fails_once_gets_there(factory: Factory) -> None:
    """Made, changed and destroyed; in each, every resource fails at its first turn.

    Cloud Run's are there then, and not ready: the provider sets the id before it waits for them.
    """
    unready = (google.SERVICE, google.JOB)
    stack = factory.stack("halfway")
    stack.write_config(EVERYTHING)
    with stack.provider.also(FailsOnce(unready)) as fails:
        until_done(stack, "up")
    made = in_the_cloud(stack)
    assert {urn for operation, urn in fails.failed if operation == "create"} == set(made)
    assert made == in_the_state(stack)
    stack.run("preview", "--expect-no-changes")

    stack.write_config(CHANGED)
    with stack.provider.also(FailsOnce(unready)) as fails:
        until_done(stack, "up")
    assert {operation for operation, _ in fails.failed} == {"create", "update", "delete"}
    assert in_the_cloud(stack) == in_the_state(stack)
    stack.run("preview", "--expect-no-changes")

    before = in_the_cloud(stack)
    with stack.provider.also(FailsOnce()) as fails:
        until_done(stack, "destroy")
    left = in_the_cloud(stack).keys()
    assert {token_of(urn) for urn in left} == {"tailscale:index/acl:Acl"}, (
        "the tailnet's policy stays, and nothing else"
    )
    assert {urn for _, urn in fails.failed} == before.keys() - left
    assert in_the_state(stack) == {}


def until_done(stack: Engine, operation: str) -> None:
    """Runs it again and again, as one does who reads "update failed"."""
    tries = iter(range(TRIES))
    while stack.run(operation, "--yes", "--skip-preview", "--continue-on-error", refused=None).code:
        assert next(tries, None) is not None, f"{operation} still fails after {TRIES} tries"


def in_the_cloud(stack: Engine) -> dict[str, list[str]]:
    """Ids by URN. Two for one URN are a thing that the engine has forgotten."""
    world = stack.provider.world.values()
    return by_urn((one.urn, one.id) for one in world if one.urn.startswith(f"urn:pulumi:{stack.stack}::"))


def in_the_state(stack: Engine) -> dict[str, list[str]]:
    """Ids by URN, without what the engine itself makes. Two for one URN are one that waits for its deletion."""
    own = (one for one in stack.resources() if one["custom"] and not one["type"].startswith("pulumi:"))
    return by_urn((one["urn"], one["id"]) for one in own)


def by_urn(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for urn, identity in pairs:
        found.setdefault(urn, []).append(identity)
    return found
