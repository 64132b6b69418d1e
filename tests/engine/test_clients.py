"""Keys that change hands, under the real Pulumi engine: a new one, a grace for the old one, its end.

Owns: what an update makes and unmakes, and what is refused before it. Does not own: which key the gateway takes when
(`tests/gateway`).
"""

import json
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from tests.engine.pulumi_cli import NEEDS_THE_CLI, Engine, Factory, Snapshot, engines

pytestmark = NEEDS_THE_CLI

CONFIG: Final = "gateway-caddy-config-version"
ROBOT: Final = {"name": "robot"}
NEXT_WEEK: Final = datetime.now(UTC).date() + timedelta(days=7)
IN_GRACE: Final = {"client": "demo", "generation": 1, "until": NEXT_WEEK}
YESTERDAY: Final = datetime.now(UTC).date() - timedelta(days=1)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Engine]:
    with engines(tmp_path_factory.mktemp("clients")) as factory:
        yield _stack(factory)


def _stack(factory: Factory) -> Engine:
    found = factory.stack("keys")
    found.write_config({"pilotlight:lanes": ["vm"]})
    return found


@pytest.fixture(scope="module")
def before(stack: Engine) -> Snapshot:
    declare(stack, 1)
    return stack.up()


@pytest.fixture(scope="module")
def rotated(stack: Engine, before: Snapshot) -> Snapshot:
    """With a new key for demo, and the old one good for a week."""
    assert before
    stack.provider.changes.clear()
    # A day without quotes, as an owner writes it.
    declare(stack, 2, IN_GRACE)
    return stack.up()


def declare(stack: Engine, generation: int, *old: dict[str, Any], demo: bool = True) -> None:
    clients = [{"name": "demo", "generation": generation}] if demo else []
    stack.write_config({"pilotlight:clients": [*clients, ROBOT], "pilotlight:old_keys": list(old)})


def around_the_revision(stack: Engine) -> tuple[set[str], set[str]]:
    """What is made before the gateway's new revision serves, and what is taken away after it; nothing else changes."""
    changes = stack.provider.changes
    revision = changes.index(("update", "gateway-service"))
    assert {operation for operation, _ in changes[:revision]} <= {"create"}, changes
    assert {operation for operation, _ in changes[revision + 1 :]} <= {"delete"}
    return {name for _, name in changes[:revision]}, {name for _, name in changes[revision + 1 :]}


def test_a_new_key_beside_the_old_one_changes_nothing_of_other_clients(
    stack: Engine, before: Snapshot, rotated: Snapshot
) -> None:
    assert around_the_revision(stack) == (
        {"clients-demo_2", "gateway-key-demo-version_2", CONFIG},
        {CONFIG},
    )
    assert rotated.outputs["api_keys"]["demo"] != before.outputs["api_keys"]["demo"]
    assert rotated.outputs["api_keys"]["robot"] == before.outputs["api_keys"]["robot"]


def test_the_gateway_holds_both_keys_and_the_state_neither_in_plain_text(
    stack: Engine, before: Snapshot, rotated: Snapshot
) -> None:
    old, new = (one.outputs["api_keys"]["demo"] for one in (before, rotated))
    found = json.loads(stack.run("stack", "export", "--show-secrets").out)["deployment"]["resources"]
    held = {
        resource["urn"].rsplit("::", 1)[-1]: json.loads(resource["inputs"]["secretData"]["plaintext"])
        for resource in found
        if resource["urn"].rsplit("::", 1)[-1].startswith("gateway-key-demo-version")
    }
    assert held == {"gateway-key-demo-version": old, "gateway-key-demo-version_2": new}
    assert not [key for key in (old, new) if key in rotated.state]


def test_the_end_is_told_without_a_key(rotated: Snapshot) -> None:
    end = f"{NEXT_WEEK}T00:00:00Z"
    assert rotated.masked["keys_in_grace"] == [{"client": "demo", "key": 1, "until": end}]
    assert [line for line in rotated.outputs["next_steps"] if end in line and line.startswith("demo has a new key")]


def test_the_next_up_keeps_the_grace(stack: Engine, rotated: Snapshot) -> None:
    assert rotated
    stack.up("--expect-no-changes")


def test_what_a_client_needs_is_handed_over_whole(rotated: Snapshot) -> None:
    assert rotated.masked["client_env"] == "[secret]"
    assert rotated.outputs["client_env"]["demo"].splitlines() == [
        "OPENAI_BASE_URL=https://gateway.test/v1",
        f"OPENAI_API_KEY={rotated.outputs['api_keys']['demo']}",
        f"OPENAI_MODEL={rotated.outputs['model']}",
    ]


def test_a_client_isn_t_removed_while_its_old_key_is_in_grace(stack: Engine, rotated: Snapshot) -> None:
    assert rotated
    declare(stack, 2, IN_GRACE, demo=False)
    stack.provider.changes.clear()
    done = stack.run("up", "--yes", "--skip-preview", refused=True)
    assert (
        f"old_keys.0.client: a client of the stack; demo is none, and its old key is in grace until {NEXT_WEEK}"
        in done.everything
    )
    assert "Fix: put demo back" in done.everything
    assert stack.provider.changes == []


@pytest.mark.parametrize("command", [["preview"], ["up", "--yes", "--skip-preview"]], ids=" ".join)
def test_an_old_key_is_never_made_anew(stack: Engine, rotated: Snapshot, command: list[str]) -> None:
    """A generation was skipped: the key that callers hold is the first one."""
    assert rotated
    declare(stack, 4, {**IN_GRACE, "generation": 3})
    done = stack.run(*command, refused=True)
    assert "clients-demo_3 would be made anew" in done.everything
    assert "Fix: `old_keys` names the `generation` that the client has had until now" in done.everything
    assert ("update", "gateway-service") not in stack.provider.changes


def test_after_its_end_the_old_key_goes_and_nothing_else(stack: Engine, rotated: Snapshot) -> None:
    declare(stack, 2, IN_GRACE)
    stack.up()
    stack.provider.changes.clear()
    declare(stack, 2, {**IN_GRACE, "until": YESTERDAY})
    ended = stack.up()
    assert around_the_revision(stack) == ({CONFIG}, {CONFIG, "gateway-key-demo-version", "clients-demo"})
    assert ended.outputs["api_keys"] == rotated.outputs["api_keys"]
    assert "keys_in_grace" not in ended.outputs
    assert [line for line in ended.outputs["next_steps"] if line.startswith("old_keys.0 of demo has ended")]


def test_a_leaked_key_ends_at_once(stack: Engine, rotated: Snapshot) -> None:
    """Without `old_keys`, by one number. No grant is made, for which the service would wait."""
    declare(stack, 3)
    stack.provider.changes.clear()
    assert stack.up().outputs["api_keys"]["demo"] != rotated.outputs["api_keys"]["demo"]
    assert around_the_revision(stack) == (
        {"clients-demo_3", "gateway-key-demo-version_3"},
        {"clients-demo_2", "gateway-key-demo-version_2"},
    )
