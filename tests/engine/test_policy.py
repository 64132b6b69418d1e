"""The tailnet's policy outlives the stack, with the real engine: the next `up` knows its own, and nobody else's."""

from collections.abc import Generator

import pytest

from components.tailnet import mark
from lab.read.cloud import UNTOUCHED
from tests.engine import tailscale
from tests.engine.pulumi_cli import NEEDS_THE_CLI, PROJECT, Engine, Factory, engines

pytestmark = NEEDS_THE_CLI

REFUSED = "Overwrite Protected"


@pytest.fixture
def factory(tmp_path_factory: pytest.TempPathFactory) -> Generator[Factory]:
    with engines(tmp_path_factory.mktemp("policy"), tailscale.Policy()) as made:
        yield made


def made(factory: Factory, name: str) -> tuple[Engine, tailscale.Policy]:
    stack = factory.stack(name)
    stack.write_config({"pilotlight:lanes": ["home"]})
    return stack, factory.provider.of(tailscale.Policy)


def up(stack: Engine, *arguments: str, refused: bool = False) -> str:
    return stack.run("up", "--yes", "--skip-preview", *arguments, refused=refused).everything


def check_own(stack: Engine, live: tailscale.Policy, before: str) -> None:
    """The stack's policy stands, and what stood before it is known to the owner and in it."""
    writer = f"{PROJECT}/pilotlight-{stack.stack}"
    assert mark.read(live.hujson) == mark.Marked(writer, intact=True, before=before)
    assert stack.read("stack", "output", "--json")["policy_before"] == before


def test_up_after_destroy_takes_its_own_policy_and_keeps_what_stood_before(factory: Factory) -> None:
    stack, live = made(factory, "again")
    up(stack)
    check_own(stack, live, UNTOUCHED)
    stack.run("destroy", "--yes", "--skip-preview")
    left = live.hujson
    up(stack)
    assert live.hujson == left
    check_own(stack, live, UNTOUCHED)
    up(stack, "--expect-no-changes")


def test_what_somebody_edited_or_another_stack_wrote_is_refused(factory: Factory) -> None:
    stack, live = made(factory, "edited")
    edited = mark.marked('{"acls": []}', f"{PROJECT}/pilotlight-edited", UNTOUCHED).replace("[]", "[] /* mine */")
    for text, told in (
        (edited, "was edited since"),
        (mark.marked('{"acls": []}', f"{PROJECT}/pilotlight-other", UNTOUCHED), f"by {PROJECT}/pilotlight-other"),
    ):
        live.hujson = text
        everything = up(stack, refused=True)
        assert told in everything
        assert REFUSED in everything
        assert live.hujson == text
    stack.write_config({"pilotlight:tailnet": {"overwrite_policy": True}})
    up(stack)
    check_own(stack, live, edited)  # kept since the first try
    # The creation is over: what the setting says from now on changes nothing.
    stack.write_config({"pilotlight:tailnet": {"overwrite_policy": False}})
    up(stack, "--expect-no-changes")
