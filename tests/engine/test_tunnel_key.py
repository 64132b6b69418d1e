"""The tailnet's keys through their lives, with the real engine: a plain `up` renews the gateway's in time, not sooner.

A plain `up` asks no provider what a key has become, so an ended one looks as it did (`tailscale.Keys`).
"""

import re
import shlex
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from components.tailnet.tailnet import period
from lab.read.stack import ROOT
from tests.engine import tailscale
from tests.engine.pulumi_cli import NEEDS_THE_CLI, Engine, Factory, engines, unknown

pytestmark = NEEDS_THE_CLI

LIFE: Final = timedelta(days=90)
LAST_SIXTH: Final = timedelta(days=15)
MADE: Final = datetime.fromtimestamp(period(datetime(2027, 1, 1, tzinfo=UTC), LIFE.days) * 75 * 24 * 3600, UTC)
"""The first moment of a period, so that the next one begins as late in the key's life as it can."""
SECOND: Final = timedelta(seconds=1)
RENEWAL: Final = [
    ("create", "tailnet-gateway-key"),
    ("create", "gateway-auth-key-version"),
    ("update", "gateway-service"),
    ("delete", "gateway-auth-key-version"),
    ("delete", "tailnet-gateway-key"),
]
"""The new revision serves before the old key goes: `up` waits for the service."""


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Generator[Factory]:
    with engines(tmp_path_factory.mktemp("tunnel-key")) as made:
        yield made


def made(factory: Factory, name: str) -> Engine:
    """A stack whose keys were made at `MADE`."""
    stack = factory.stack(name)
    stack.write_config({"pilotlight:lanes": ["home"]})
    stack.at(MADE)
    up(stack)
    return stack


def up(stack: Engine, *arguments: str) -> list[tuple[str, str]]:
    """Runs `pulumi up`; what it changed, in order."""
    before = len(stack.provider.changes)
    stack.run("up", "--yes", "--skip-preview", *arguments)
    return stack.provider.changes[before:]


def ended(stack: Engine) -> None:
    """All keys of the stack end, as the tailnet knows."""
    keys = stack.provider.existing(tailscale.KEY, stack.stack)
    stack.provider.of(tailscale.Keys).ended |= {one.serial for one in keys}


def at_will(stack: Engine, name: str) -> list[tuple[str, str]]:
    """Renews a key by the command in the documents; what that changed."""
    documents = "".join(path.read_text() for path in ROOT.glob("docs/*.md"))
    [found] = set(re.findall(rf"pulumi up (--replace '\*\*::{name}')", documents))
    return up(stack, *shlex.split(found))


def test_a_plain_up_renews_the_key_when_its_last_sixth_begins(factory: Factory) -> None:
    stack = made(factory, "aging")
    stack.at(MADE + LIFE - LAST_SIXTH - SECOND)
    up(stack, "--expect-no-changes")
    stack.at(MADE + LIFE - LAST_SIXTH)
    steps = {step["urn"].rsplit("::", 1)[-1]: step for step in stack.read("preview", "--json")["steps"]}
    shown = {name: step["op"] for name, step in steps.items() if step["op"] != "same"}
    assert shown["tailnet-gateway-key"] == "replace"
    assert shown["gateway-service"] == "update"
    assert unknown(steps["gateway-service"]["newState"]["inputs"]["template"]), "the secret's version is yet to come"
    assert up(stack) == RENEWAL
    up(stack, "--expect-no-changes")


def test_keys_that_have_ended_are_renewed(factory: Factory) -> None:
    """The gateway's, by the date, by a read and at will; home's, which a machine has used up, at will alone."""
    stack = made(factory, "away")
    ended(stack)
    up(stack, "--expect-no-changes")
    stack.at(MADE + 2 * LIFE)
    assert up(stack) == RENEWAL
    ended(stack)
    assert up(stack, "--refresh") == RENEWAL
    assert at_will(stack, "tailnet-gateway-key") == RENEWAL
    assert at_will(stack, "tailnet-home-key") == [("create", "tailnet-home-key"), ("delete", "tailnet-home-key")]
