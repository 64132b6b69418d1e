"""docs/walk.md under the real engine: what its sections say is typed in their order, from `login` to `stack rm`.

Owns: the shell in which it is typed, and what each step must have left. Does not own: the steps (`tests.docs.walk`);
what needs no account, which `tests.docs` types into a lab.
"""

import json
import shutil
from collections.abc import Generator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.docs.blocks import Block, typed
from tests.docs.walk import STEPS, steps
from tests.engine import google
from tests.engine.pulumi_cli import KUBECONFIG, NEEDS_THE_CLI, Factory, engines, set_clock

pytestmark = NEEDS_THE_CLI

NEW_CADDY: Final = "docker.io/library/caddy:2.11.99"
ENTRY: Final = {
    "timestamp": "2026-12-01T10:00:00Z",
    "jsonPayload": {
        "message": "handled request", "client": "robot", "status": 200, "bytes_read": 9, "size": 9,
        "lane": "home", "lane_ms": 500, "begun_ms": 510, "begun_at_ms": 1796119199000, "ended_ms": 1010, "whole": "yes",
    },
}  # fmt: skip
STAND_INS: Final = {
    # The packages are those this test runs with.
    "pulumi": 'test "$1" = install && exit\nexec {pulumi} "$@"',
    # Reads the script as a shell does before it runs it; prints what the script prints at its end.
    "ssh": "bash -n && cat {kubeconfig}",
    "gcloud": 'test "$1" = logging && cat {entries} || test "$1" = auth',
    # A new version of pilotlight: another Caddy.
    "git": 'test "$1" = pull && sed -i "s|docker.io/library/caddy:[0-9.]*|{caddy}|" components/settings/gateway.py',
}


class Newcomer:
    """Types what a section says, in a clone of the repository."""

    def __init__(self, factory: Factory, programs: Path) -> None:
        self.provider = factory.provider
        self.tree = factory.tree("dev")
        self.stack = "dev"
        (programs / "kubeconfig").write_text(KUBECONFIG)
        (programs / "entries").write_text(json.dumps([ENTRY]))
        given = {"pulumi": shutil.which("pulumi"), "caddy": NEW_CADDY}
        given |= {name: programs / name for name in ("kubeconfig", "entries")}
        for name, text in STAND_INS.items():
            (programs / name).unlink(missing_ok=True)
            (programs / name).write_text(f"#!/bin/bash\n{text.format(**given)}\n")
            (programs / name).chmod(0o755)
        self._environment = {
            **factory.environment,
            "PATH": f"{programs}:{self.tree}/.venv/bin:{factory.environment['PATH']}",
            "PULUMI_SKIP_CONFIRMATIONS": "true",
        }

    def type(self, text: str, *, refused: bool = False) -> str:
        done = typed(text, self.tree, self._environment, 300)
        assert refused == (done.returncode != 0), f"$ {text}\n{done.stdout}"
        return done.stdout

    def follow(self, block: Block) -> str:
        """Settings are written and carried out; of commands those that `tests.docs` can't run."""
        if block.language == "yaml":
            path = self.tree / f"Pulumi.{self.stack}.yaml"
            document: dict[str, Any] = yaml.safe_load(path.read_text())
            document["config"] |= yaml.safe_load(block.text)["config"]
            path.write_text(yaml.safe_dump(document))
            return self.type("pulumi up")
        commands = [command.text for command in block.commands if block.reason and not command.text.startswith("make ")]
        return "".join(map(self.type, commands))

    def outputs(self) -> dict[str, Any]:
        return json.loads(self.type("pulumi stack output --json --show-secrets"))

    def names(self) -> set[str]:
        """Of the resources that there are."""
        return {resource.urn.rsplit("::", 1)[-1] for resource in self.provider.world.values()}


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Generator[Factory]:
    with engines(tmp_path_factory.mktemp("walk")) as made:
        yield made


def test_a_newcomer_gets_from_the_first_login_to_the_last_destroy(factory: Factory, tmp_path: Path) -> None:
    newcomer, walk = Newcomer(factory, tmp_path), steps()
    assert tuple(walk) == STEPS

    def follow(step: str) -> str:
        return "".join(newcomer.follow(block) for section in walk[step] for block in section)

    follow("Deploy")
    first = newcomer.outputs()
    assert set(first["api_keys"]) == {"demo"}
    assert any("On the GPU server" in line for line in first["next_steps"])
    assert "vm-group-manager" in newcomer.names()

    follow("Add home")
    assert {"home-namespace", "burst-service"} <= newcomer.names()
    assert not any("On the GPU server" in line for line in newcomer.outputs()["next_steps"])

    assert "OPENAI_API_KEY" in follow("Add a client")
    second = newcomer.outputs()
    assert set(second["api_keys"]) == {"demo", "robot"}
    assert second["api_keys"]["demo"] == first["api_keys"]["demo"]

    assert "robot" in follow("Watch")
    assert {"alerts-email", "alerts-home-away", "alerts-burst-down", "alerts-vm-stopped"} <= newcomer.names()

    [rotation, ends] = walk["Rotate"]
    [until] = [old["until"] for old in yaml.safe_load(rotation[0].text)["config"]["pilotlight:old_keys"]]
    set_clock(newcomer.tree, datetime.combine(until, time(), UTC) - timedelta(days=7))
    for block in rotation:
        newcomer.follow(block)
    third = newcomer.outputs()
    assert [key["client"] for key in third["keys_in_grace"]] == ["demo"]
    assert third["api_keys"]["demo"] != second["api_keys"]["demo"]
    assert third["api_keys"]["robot"] == second["api_keys"]["robot"]
    before = len(newcomer.provider.changes)
    for block in ends:
        newcomer.follow(block)
    assert ("create", "tailnet-gateway-key") in newcomer.provider.changes[before:]

    before = len(newcomer.provider.changes)
    follow("Upgrade")
    assert ("update", "gateway-service") in newcomer.provider.changes[before:]
    services = newcomer.provider.existing("gcp:cloudrunv2/service:Service")
    assert [one.urn.rsplit("::", 1)[-1] for one in services if NEW_CADDY in str(one.inputs)] == ["gateway-service"]
    assert newcomer.outputs()["api_keys"] == third["api_keys"]

    [[down, in_the_cluster], [keep, uninstall]] = walk["Take down"]
    newcomer.follow(keep)
    with newcomer.provider.also(google.HeldAddresses()) as held:
        destroy, remove = (command.text for command in down.commands)
        assert "resourceInUseByAnotherResource" in newcomer.type(destroy, refused=True)
        held.forward(google.HeldAddresses.HOLD_S)
        newcomer.type(destroy)
    newcomer.type(remove)
    newcomer.follow(uninstall)
    assert in_the_cluster.text.startswith("$ k3s")
    assert newcomer.names() == {"tailnet-policy"}, "a tailnet has one in any case"
    assert json.loads(newcomer.type("pulumi stack ls --json")) == []
