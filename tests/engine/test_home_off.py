"""Home is off, or gone, or refuses: what the real engine does with the cloud, and what it remembers of home.

The providers stand in for home's, and answer as it does of a cluster that is unreachable (`anyprovider`, `kubernetes`).
"""

import re
import shlex
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from lab.read.stack import ROOT
from tests import certificates
from tests.engine.kubernetes import IN_USE, RELEASE_UNREACHABLE
from tests.engine.pulumi_cli import KUBECONFIG, NEEDS_THE_CLI, Engine, Factory, engines

pytestmark = NEEDS_THE_CLI

MODEL: Final = {"name": "vllm", "preset": "model"}
EARS: Final[dict[str, Any]] = {
    "name": "ears",
    "image": "registry.example/ears:1.2.3",
    "model": "ears",
    "paths": ["/v1/audio/transcriptions"],
    "slices": 0,
}
SPEECH: Final = {"name": "speech", "preset": "tts"}
ENDED: Final = "kubeconfig: its certificate ended at "
PROVIDER: Final = ("update", "home-provider")
HOME: Final = {
    "home-namespace",
    "home-gpu-namespace",
    "home-traefik",
    "home-time-slicing",
    "home-device-plugin",
    "home-vllm",
    "home-ears",
}
"""All that stands in the cluster."""


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Generator[Factory]:
    with engines(tmp_path_factory.mktemp("home-off")) as made:
        yield made


@pytest.fixture
def home_on(factory: Factory) -> Engine:
    stack = factory.stack(f"off-{len(list(factory.folder.glob('tree-off-*')))}")
    stack.write_config({"pilotlight:lanes": ["home", "vm"], "pilotlight:services": [MODEL, EARS]})
    stack.run("config", "set", "--secret", "kubeconfig", text=KUBECONFIG)
    stack.up()
    stack.provider.changes.clear()
    return stack


@pytest.fixture
def home_off(home_on: Engine) -> Generator[Engine]:
    home_on.provider.unreachable = "kubernetes:"
    yield home_on
    home_on.provider.unreachable = ""


@pytest.mark.parametrize("services", [[MODEL, EARS, SPEECH], [MODEL]], ids=["a new service", "a removed service"])
def test_with_home_off_the_cloud_changes_first_and_home_fails_aloud(home_off: Engine, services: list[Any]) -> None:
    home_off.write_config({"pilotlight:services": services, "pilotlight:vm": {"disk_gib": 30}})
    done = home_off.run("up", "--yes", "--skip-preview", "--continue-on-error", refused=True)
    assert RELEASE_UNREACHABLE in done.everything
    assert {("update", "gateway-service"), ("update", "vm-group-manager")} <= set(home_off.provider.changes)
    steps = home_off.read("preview", "--json")["steps"]
    left = {step["urn"].rsplit("::", 1)[-1] for step in steps if step["op"] != "same"}
    assert {name for name in left if not name.startswith("home")} == set()


def test_with_home_off_a_changed_service_waits_and_the_cloud_does_not(home_off: Engine) -> None:
    home_off.write_config(
        {"pilotlight:services": [MODEL, {**EARS, "env": {"A": "1"}}], "pilotlight:model": {"name": "new"}}
    )
    home_off.up()
    assert ("update", "gateway-service") in home_off.provider.changes
    assert not [change for change in home_off.provider.changes if change[1].startswith("home-")]


@pytest.fixture
def refused_by_home(home_off: Engine) -> Engine:
    """A stack whose kubeconfig has ended, as every call to home shows."""
    now = datetime.now(UTC)
    ended = certificates.pem(now - timedelta(days=366), now - timedelta(days=1))
    home_off.run("config", "set", "--secret", "kubeconfig", text=certificates.kubeconfig(ended))
    return home_off


def test_an_ended_kubeconfig_lets_the_cloud_change_and_then_fails_aloud(refused_by_home: Engine) -> None:
    stack = refused_by_home
    stack.write_config(
        {"pilotlight:services": [MODEL, {**EARS, "env": {"A": "1"}}], "pilotlight:model": {"name": "new"}}
    )
    assert ENDED in stack.run("preview").everything
    done = stack.run("up", "--yes", "--skip-preview", refused=True)
    assert ENDED in done.everything
    assert "pulumi config set --secret kubeconfig" in done.everything
    assert RELEASE_UNREACHABLE in done.everything
    assert ("update", "gateway-service") in stack.provider.changes
    assert not [change for change in stack.provider.changes if change[1].startswith("home-") and change != PROVIDER]


def test_an_ended_kubeconfig_is_told_where_nothing_changes_at_home(refused_by_home: Engine) -> None:
    stack = refused_by_home
    stack.write_config({"pilotlight:vm": {"disk_gib": 30}})
    assert ENDED in stack.run("up", "--yes", "--skip-preview").everything
    assert ("update", "vm-group-manager") in stack.provider.changes


def test_with_home_off_destroy_ends_all_that_costs_money_and_forgets_nothing_of_home(home_off: Engine) -> None:
    ends_the_cloud(home_off)
    home_off.provider.unreachable = ""
    home_off.run("destroy", "--yes", "--skip-preview")
    assert home_off.resources() == []
    assert at_home(home_off) == []


def test_after_a_destroy_with_home_off_up_finds_home_again(home_off: Engine) -> None:
    """A release that the stack had forgotten would be in its own way."""
    home_off.run("destroy", "--yes", "--skip-preview", "--continue-on-error", refused=True)
    home_off.provider.unreachable = ""
    done = home_off.run("up", "--yes", "--skip-preview", refused=None)
    assert IN_USE not in done.everything
    assert done.code == 0, done.everything
    assert at_home(home_off) == sorted(HOME)
    home_off.run("preview", "--expect-no-changes")


def test_a_home_that_is_gone_for_good_is_forgotten_as_documented(home_off: Engine) -> None:
    ends_the_cloud(home_off)
    page = (ROOT / "docs" / "operate.md").read_text()
    [forget] = re.findall(r"(?m)^\$ pulumi (state delete .*)$", page)
    home_off.run(*shlex.split(forget.replace("urn:pulumi:dev:", f"urn:pulumi:{home_off.stack}:")), "--yes")
    assert not [one for one in home_off.resources() if one["urn"].rsplit("::", 1)[-1].startswith("home")]
    home_off.run("destroy", "--yes", "--skip-preview")
    assert home_off.resources() == []


def test_destroy_uninstalls_each_service_before_the_namespace_goes(home_on: Engine) -> None:
    home_on.run("destroy", "--yes", "--skip-preview")
    gone = [name for operation, name in home_on.provider.changes if operation == "delete" and name in HOME]
    assert sorted(gone) == sorted(HOME)
    inside = HOME - {"home-namespace", "home-gpu-namespace", "home-traefik"}
    gpu = {"home-device-plugin", "home-time-slicing"}
    assert all(gone.index(name) < gone.index("home-namespace") for name in inside - gpu)
    assert all(gone.index(name) < gone.index("home-gpu-namespace") for name in gpu)
    assert at_home(home_on) == []


def ends_the_cloud(stack: Engine) -> None:
    """Destroys with home off: what costs money goes, and the stack remembers all that is left at home."""
    done = stack.run("destroy", "--yes", "--skip-preview", "--continue-on-error", refused=True)
    assert RELEASE_UNREACHABLE in done.everything
    left = {one["urn"].rsplit("::", 1)[-1]: one["type"] for one in stack.resources()}
    assert not [token for token in left.values() if token.startswith("gcp:")]
    assert {name for name, token in left.items() if token.startswith("kubernetes:")} == HOME
    assert at_home(stack) == sorted(HOME)


def at_home(stack: Engine) -> list[str]:
    """Names in the program of what stands in the stack's cluster."""
    there = stack.provider.world.values()
    return sorted(one.name for one in there if one.stack == stack.stack and one.token.startswith("kubernetes:"))
