"""What is made from the code equals what the repository holds: inventories, config schema, settings table."""

import difflib
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import yaml

from components.machines.speeds import MACHINES
from components.models.catalogue import PRESETS
from components.settings.burst import BurstSettings
from components.settings.home import HomeSettings
from components.settings.vm import VmSettings
from lab.read.cloud import Cloud
from lab.read.stack import Stack
from tests.clients import page as clients
from tests.clients.programs import CLIENTS
from tests.contract import page as engines
from tests.contract.kinds import KINDS
from tests.golden import cost_table, grants_table, growth_table, machines_table, models_table, settings_table
from tests.golden import rendered as golden

Render = Callable[[str], Stack]
MADE_KEY: Final = re.compile(r"\bsk-[A-Za-z0-9]{43}\b")
"""A client's key: another one each time a stack is rendered, so it is known by its form."""


@pytest.fixture(scope="module")
def render() -> Render:
    """Each stack of the goldens, rendered once."""
    rendered: dict[str, Stack] = {}

    def build(name: str) -> Stack:
        if name not in rendered:
            rendered[name] = golden.rendered(name)
        return rendered[name]

    return build


def require_same(kept: str, made: str, path: Path) -> None:
    """Fails with the difference, and the command that accepts it."""
    if kept == made:
        return
    lines = difflib.unified_diff(
        kept.splitlines(), made.splitlines(), f"{path.name} as kept", f"{path.name} as made now", lineterm="", n=2
    )
    pytest.fail("\n".join([*lines, "", "If that is what you want: make golden"]), pytrace=False)


def golden_file(name: str) -> Path:
    return golden.HERE / f"{name}.yaml"


@pytest.mark.parametrize("name", golden.STACKS)
def test_the_program_registers_exactly_what_is_kept(name: str, render: Render) -> None:
    require_same(golden_file(name).read_text(), golden.inventory(render(name)), golden_file(name))


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in golden.HERE.glob("*.yaml")} == set(golden.STACKS)


def test_pulumis_config_schema_is_made_from_the_settings() -> None:
    require_same(golden.PULUMI_YAML.read_text(), golden.pulumi_yaml(), golden.PULUMI_YAML)


@pytest.mark.parametrize("path", golden.chart_scenarios(), ids=lambda path: path.name)
def test_the_chart_s_scenario_of_a_preset_is_what_the_stack_sends(path: Path) -> None:
    require_same(path.read_text(), golden.chart_scenarios()[path], path)


@pytest.mark.slow
def test_the_tables_of_what_it_costs_are_made_from_bills() -> None:
    require_same(cost_table.PAGE.read_text(), cost_table.page(), cost_table.PAGE)
    for choice in cost_table.STACKS:
        assert cost_table.bill_of(choice, cost_table.HERE), f"{choice} is refused"


def test_the_prices_on_the_page_are_those_of_the_file() -> None:
    assert cost_table.prices() in cost_table.PAGE.read_text()


def test_the_readme_s_costs_are_made_from_a_bill() -> None:
    require_same(cost_table.README.read_text(), cost_table.readme(), cost_table.README)


def test_the_settings_table_is_made_from_the_settings() -> None:
    """Its last column is kept here: `test_effects` renders what it says."""
    kept = settings_table.PAGE.read_text()
    assert kept.count(settings_table.START) == 1
    assert kept.count(settings_table.END) == 1
    require_same(kept, settings_table.page(settings_table.kept_effects(kept)), settings_table.PAGE)


def test_the_tables_of_machines_are_made_from_the_facts() -> None:
    kept = machines_table.PAGE.read_text()
    require_same(kept, machines_table.page(), machines_table.PAGE)
    assert kept.count(machines_table.START) == kept.count(machines_table.END) == 1
    for row in MACHINES:
        assert kept.count(f"\n| {row.title} | ") == 1, "each machine of the table has its row"


def test_the_table_of_growth_is_made_from_the_facts() -> None:
    require_same(growth_table.PAGE.read_text(), growth_table.page(), growth_table.PAGE)


def test_the_slots_on_the_page_are_the_settings_defaults() -> None:
    defaults = {"home": HomeSettings(), "burst": BurstSettings(), "vm": VmSettings()}
    assert {lane: section.max_requests for lane, section in defaults.items()} == growth_table.SLOTS


def test_the_table_of_models_is_made_from_the_facts() -> None:
    kept = models_table.PAGE.read_text()
    require_same(kept, models_table.page(), models_table.PAGE)
    for preset in PRESETS:
        assert kept.count(f"\n| `{preset}`") == 1, "each preset has its row"


def test_the_tables_of_grants_are_made_from_what_is_registered() -> None:
    kept = grants_table.PAGE.read_text()
    stack = grants_table.whole()
    require_same(kept, grants_table.page(stack), grants_table.PAGE)
    assert kept.count(grants_table.START) == kept.count(grants_table.END) == 1
    for grant in grants_table.grants(stack):
        assert kept.count(f" `{grant.name}` |") == 1, "each grant has its row"


def test_what_every_lane_takes_is_made_from_the_kinds_of_requests() -> None:
    kept = engines.PAGE.read_text()
    require_same(kept, engines.page(), engines.PAGE)
    assert kept.count(engines.START) == kept.count(engines.END) == 1
    for kind in KINDS:
        assert kept.count(f"\n| {kind.name} | ") == (kind.status is not None), "each kind that is promised has its row"


def test_how_clients_behave_is_made_from_what_was_measured() -> None:
    kept = clients.PAGE.read_text()
    require_same(kept, clients.page(), clients.PAGE)
    assert kept.count(clients.START) == kept.count(clients.END) == 1
    for client in CLIENTS:
        assert kept.count(f"\n| {client.title} {client.version}".rstrip() + " | ") == 1, "each client has its row"


@pytest.mark.parametrize("name", ["burst", "home-only"])
def test_rendering_twice_gives_the_same(name: str, render: Render) -> None:
    """Random values or unstable order would make every golden red, now and then. The two hold every component."""
    assert golden.inventory(golden.rendered(name)) == golden.inventory(render(name))


def check_nothing_twice(stack: Stack) -> None:
    twice = [key for key, count in Counter((r.type, r.name) for r in stack.resources).items() if count > 1]
    assert twice == []


@pytest.mark.parametrize("name", golden.STACKS)
def test_no_resource_is_registered_twice(name: str, render: Render) -> None:
    check_nothing_twice(render(name))
    kept = yaml.safe_load(golden_file(name).read_text())["resources"]
    assert len({(entry["type"], entry["name"]) for entry in kept}) == len(kept)


def secret_texts() -> list[str]:
    """Every secret the goldens are rendered with but the clients' keys, and recognizable parts of the kubeconfig."""
    kubeconfig = Cloud(port=1).config()["pilotlight:kubeconfig"]
    return [
        "tskey-auth-golden",
        kubeconfig,
        *(line.strip() for line in kubeconfig.splitlines() if ": " in line),
    ]


def check_no_secret(text: str) -> None:
    """Neither as it is, nor as YAML or JSON would write it within a longer text."""
    # A line such as `name: lab` is no secret; what only a kubeconfig says is.
    telling = [part for part in secret_texts() if "\n" in part or part.startswith(("tskey-", "token:", "server:"))]
    assert len(telling) >= 4
    assert not MADE_KEY.search(text)
    for part in telling:
        for written in (part, part.replace("\n", "\\n"), part.replace(": ", '": "')):
            assert written not in text, written[:30]


@pytest.mark.parametrize("name", golden.STACKS)
def test_no_secret_is_in_a_golden(name: str, render: Render) -> None:
    check_no_secret(golden_file(name).read_text())
    check_no_secret(golden.inventory(render(name)))


def test_secrets_are_in_the_stack_that_is_rendered(render: Render) -> None:
    """Else the test above would look for what never was there."""
    whole = str([resource.inputs for resource in render("dev").resources])
    assert MADE_KEY.search(whole)
    for text in ("tskey-auth-golden", "current-context: lab"):
        assert text in whole


# --- planted mistakes -------------------------------------------------------------------------------------------------


def test_a_difference_is_shown_with_the_command_that_accepts_it(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception) as caught:
        require_same("a\nb\nc\n", "a\nB\nc\n", tmp_path / "dev.yaml")
    told = str(caught.value).splitlines()
    assert told[:2] == ["--- dev.yaml as kept", "+++ dev.yaml as made now"]
    assert {"-b", "+B", " a", " c"} <= set(told)
    assert told[-1] == "If that is what you want: make golden"


def test_a_changed_input_is_seen(render: Render) -> None:
    text = golden.inventory(render("vm-only"))
    assert "machineType: e2-highmem-2" in text
    with pytest.raises(pytest.fail.Exception, match=r"\+    machineType: e2-micro"):
        require_same(text, text.replace("e2-highmem-2", "e2-micro"), golden_file("vm-only"))


def test_a_resource_registered_twice_is_seen(render: Render) -> None:
    stack = render("vm-only")
    with pytest.raises(AssertionError):
        check_nothing_twice(Stack(stack.name, [*stack.resources, stack.resources[-1]], stack.outputs))


@pytest.mark.parametrize("name", ["gateway-auth-key-version", "gateway-key-demo-version", "home-provider"])
def test_a_secret_that_is_not_marked_is_seen(name: str, render: Render) -> None:
    stack = render("dev")
    [resource] = [resource for resource in stack.resources if resource.name == name]
    marked = resource.secrets
    assert marked
    object.__setattr__(resource, "secrets", frozenset[str]())
    try:
        with pytest.raises(AssertionError):
            check_no_secret(golden.inventory(stack))
    finally:
        object.__setattr__(resource, "secrets", marked)
