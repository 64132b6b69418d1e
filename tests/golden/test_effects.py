"""The settings table's last column: what each setting changes is what the program registers now."""

from collections.abc import Generator
from typing import Any

import pytest

from components.home import home
from lab.read.stack import Resource, Stack
from tests.golden import effects, settings_table
from tests.golden.test_golden import require_same

MACHINE = "gcp:compute/instance:Instance"


@pytest.fixture
def kept() -> dict[str, str]:
    """The column as docs/settings.md has it."""
    return settings_table.kept_effects(settings_table.PAGE.read_text())


@pytest.fixture
def rendered_anew() -> Generator[None]:
    """For a test that changes a component: no stack rendered before or here is used by another."""
    effects.base.cache_clear()
    yield
    effects.base.cache_clear()


@pytest.mark.slow
def test_the_table_tells_what_each_setting_changes() -> None:
    require_same(settings_table.PAGE.read_text(), settings_table.page(effects.effects()), settings_table.PAGE)


@pytest.mark.parametrize("name", ["vm.max_requests", "gateway.timeout_s", "tailnet.key_expiry_days", "home.nic"])
def test_the_table_tells_what_this_setting_changes(name: str, kept: dict[str, str]) -> None:
    assert effects.effect(name) == kept[name]


def test_every_setting_has_its_effect_and_none_is_without(kept: dict[str, str]) -> None:
    names = {name for name, _, _ in settings_table.fields()}
    assert set(effects.OTHER) <= names, "an example is left over"
    assert set(kept) == names
    told = {name for name, effect in kept.items() if effect}
    assert told == {name for name, _, is_group in settings_table.fields() if not is_group or name in effects.OTHER}


def test_the_table_tells_the_settings_that_replace_the_machine(kept: dict[str, str]) -> None:
    """Its group makes another one from the new template."""
    replacing = {name for name, effect in kept.items() if "**replaces** `vm-group-template`" in effect}
    assert {"vm.max_requests", "vm.image", "vm.gpu", "model.name"} <= replacing
    assert "adds `vm-address`, `vm-weights`, `vm-machine`" in kept["vm.spot"]
    assert "vm-" not in kept["gateway.short_kib"]


# --- each kind of change ----------------------------------------------------------------------------------------------


def stack(inputs: dict[str, Any], token: str = MACHINE, name: str = "vm-machine", **options: Any) -> Stack:
    one = Resource(
        urn="", type=token, name=name, parent="", inputs=inputs, outputs={}, options=options, secrets=frozenset()
    )
    return Stack("dev", [one], {})


NOTHING = Stack("dev", [], {})


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (stack({"machineType": "a"}), stack({"machineType": "b"}), "changes `vm-machine`"),
        (stack({"zone": "a"}), stack({"zone": "b"}), "**replaces** `vm-machine`"),
        (
            stack({"scheduling": {"preemptible": False}}),
            stack({"scheduling": {"preemptible": True}}),
            "**replaces** `vm-machine`",
        ),
        (
            stack({"metadata": {"user-data": "a"}}, replaceOnChanges=["metadata"]),
            stack({"metadata": {"user-data": "b"}}, replaceOnChanges=["metadata"]),
            "**replaces** `vm-machine`",
        ),
        (stack({"zone": "a"}), stack({"zone": "b"}, ignoreChanges=["zone"]), "changes `vm-machine`"),
        (stack({"zone": "a"}, ignoreChanges=["zone"]), stack({"zone": "b"}, ignoreChanges=["zone"]), "nothing"),
        (stack({}, dependsOn=["a"]), stack({}, dependsOn=["b"]), "nothing"),
        (stack({}), stack({}, retainOnDelete=True), "changes `vm-machine`"),
        (NOTHING, stack({}), "adds `vm-machine`"),
        (stack({}), NOTHING, "removes `vm-machine`"),
        (
            stack({"secretData": "a"}, effects.SECRET_VERSION, "gateway-config-version"),
            stack({"secretData": "b"}, effects.SECRET_VERSION, "gateway-config-version"),
            "changes `gateway-config-version`",
        ),
        (stack({}, "pilotlight:gcp:Gateway", "gateway"), NOTHING, "nothing"),
    ],
)
def test_a_change_is_told_as_pulumi_would_make_it(before: Stack, after: Stack, told: str) -> None:
    assert effects.told(effects.changes(before, after), []) == told


def test_what_only_stands_beside_another_is_counted() -> None:
    names = ["a", "b", "c", "d"]
    added = [effects.Change("adds", MACHINE, name) for name in names]
    version = effects.Change("replaces", effects.SECRET_VERSION, "text")
    service = effects.Change("changes", "gcp:cloudrunv2/service:Service", "service")
    told = effects.told([*added, version, service], ["base_url", "model"])
    assert told == "changes `service` +1; adds `a`, `b`, `c` +1; outputs `base_url`, `model`"


# --- planted mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("rendered_anew")
def test_a_component_that_no_longer_heeds_a_setting_is_seen(
    monkeypatch: pytest.MonkeyPatch, kept: dict[str, str]
) -> None:
    def deaf(*_: object, **__: object) -> str:
        return ""

    monkeypatch.setattr(home, "traefik_values", deaf)
    found = effects.effect("gateway.timeout_s")
    assert found == kept["gateway.timeout_s"].replace("`home-traefik`, ", "") != kept["gateway.timeout_s"]


def test_an_input_that_nobody_looked_up_is_no_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "IN_PLACE", {})
    with pytest.raises(effects.UnknownEffectError, match=r"Manager versions: whether .* Look it up"):
        effects.effect("vm.image")


def test_a_setting_without_another_value_is_no_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "OTHER", {})
    with pytest.raises(effects.UnknownEffectError, match=r"vm\.zone: its type gives no other value"):
        effects.effect("vm.zone")
