"""Reading Pulumi's config: values as the engine sends them, unknown keys, the kubeconfig, nothing after a refusal."""

import json
import re
import traceback
from collections.abc import Callable
from hashlib import sha512
from typing import Any

import pulumi
import pytest
import yaml

from components.gateway.caddy import config as caddy_config
from components.settings import Lane, Settings, reading
from components.settings.reading import CONFIGURABLE, read
from components.settings.section import SettingsError
from lab.read import stack
from lab.read.cloud import Cloud

GCP = {"gcp:project": "some-project", "gcp:region": "us-central1"}
SECRET = "do-not-show-this"


def refusal(values: dict[str, str], name: str = "dev") -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        read(values, stack=name)
    return caught.value


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "field", "near"),
    [
        ("pilotlight:lane", ["vm"], "lane", "lanes"),
        ("pilotlight:client", [], "client", "clients"),
        ("pilotlight:kubeconfg", "x", "kubeconfg", "kubeconfig"),
        ("pilotlight:gateway", {"max_instance": 2}, "gateway.max_instance", "max_instances"),
        ("pilotlight:vm", {"machinetype": "e2-micro"}, "vm.machinetype", "machine_type"),
        ("pilotlight:model", {"gguf": {"sha": "0"}}, "model.gguf.sha", "sha256"),
        ("pilotlight:services", [{"name": "a", "slice": 1}], "services.0.slice", "slices"),
        ("pilotlight:tailnet", {"owner": []}, "tailnet.owner", "owners"),
        ("pilotlight:clients", [{"name": "a", "kee": SECRET}], "clients.0.kee", "key"),
        ("pilot-light:lanes", ["vm"], "pilot-light:lanes", "pilotlight:lanes"),
        ("pilotligth:lanes", ["vm"], "pilotligth:lanes", "pilotlight:lanes"),
    ],
)
def test_a_misspelt_key_is_refused_and_the_nearest_named(key: str, value: object, field: str, near: str) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    error = refusal({**GCP, key: text})
    wanted = rf"^{re.escape(field)}: is no setting\. Consequence: it would be ignored\. Fix: did you mean `{near}`\?"
    assert any(re.match(wanted, problem) for problem in error.problems), error
    assert SECRET not in str(error)


def test_a_key_near_to_nothing_is_refused_with_the_known_ones() -> None:
    assert "is no setting. Consequence: it would be ignored. Fix: known here: " + ", ".join(
        sorted(CONFIGURABLE)
    ) in str(refusal({**GCP, "pilotlight:xyzzy": "1"}))


def test_what_comes_from_the_stack_is_no_key_of_its_own() -> None:
    for key in ("stack", "project", "region"):
        assert f"{key}: is no setting" in str(refusal({**GCP, f"pilotlight:{key}": "x"}))


def test_the_providers_own_keys_are_left_to_them() -> None:
    read({**GCP, "tailscale:tailnet": "example.ts.net", "gcp:zone": "x", "kubernetes:context": "y"}, stack="dev")


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"gcp:region": "us-central1"}, ["project"]),
        ({"gcp:project": "some-project"}, ["region"]),
        ({"gcp:project": "", "gcp:region": "  \n"}, ["project", "region"]),
    ],
)
def test_project_and_region_must_be_set(values: dict[str, str], missing: list[str]) -> None:
    assert refusal(values).problems == [
        f"gcp:{key}: is not set. Consequence: Google Cloud doesn't know where to deploy. "
        + f"Fix: pulumi config set gcp:{key} <{key}>."
        for key in missing
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gcp:project", "My Project"),
        ("gcp:project", "123456789012"),
        ("gcp:project", "abc"),
        ("gcp:region", "mars"),
        ("gcp:region", "us-central1-a"),
        ("gcp:region", "US-Central1"),
    ],
)
def test_an_impossible_project_or_region_is_refused_by_its_own_name(key: str, value: str) -> None:
    [problem] = refusal({**GCP, key: value}).problems
    assert re.match(rf"{key}: is refused", problem)


@pytest.mark.parametrize("name", ["a" * 101, "Dev", "dev-", "1dev", "dev\n", "org/dev", "dév", ""])
def test_a_stack_name_that_breaks_cloud_names_is_refused(name: str) -> None:
    [problem] = refusal(GCP, name).problems
    assert re.match(r"stack: is refused.*a-z, 0-9 and dashes, 100 at most", problem)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("dev", "pilotlight-dev"),
        ("elevenchars", "pilotlight-elevenchars"),
        ("twelve-chars", "pilotlight-twelve-8dd1"),
        ("robots-of-the-second-lab-seoul", "pilotlight-robots-028e"),
        ("robots-of-the-second-lab-tokyo", "pilotlight-robots-52b5"),
        ("a" * 100, "pilotlight-aaaaaa-2816"),
    ],
)
def test_a_long_stack_name_is_cut_the_same_way_each_time(name: str, prefix: str) -> None:
    assert read(GCP, stack=name).prefix == prefix


# --- values -----------------------------------------------------------------------------------------------------------


def test_values_come_as_the_engine_sends_them() -> None:
    """Objects and arrays as JSON, what `pulumi config set` wrote as text, strings bare."""
    settings = read(
        {
            "gcp:project": " some-project\n",
            "gcp:region": "us-central1",
            "pilotlight:lanes": '["vm"]',
            "pilotlight:gateway": '{"min_instances":1,"wait_s":"200"}',
            "pilotlight:vm": '{"spot":true,"zone":""}',
            "pilotlight:model": '{"name":"some/model","gguf":null}',
            "pilotlight:clients": '[{"name":"robot","key":"0123456789abcdef"}]',
        },
        stack="dev",
    )
    assert settings.project == "some-project"
    assert settings.lanes == (Lane.VM,)
    assert (settings.gateway.min_instances, settings.gateway.wait_s) == (1, 200)
    assert (settings.vm.spot, settings.model.gguf) == (True, None)
    assert settings.model.name == "some/model"
    assert settings.clients[0].key
    assert settings.clients[0].key.get_secret_value() == "0123456789abcdef"
    # Keys that aren't named keep their defaults.
    assert settings.gateway.timeout_s == 300


def test_no_config_but_project_and_region_is_needed() -> None:
    found = read(GCP, stack="dev")
    assert found == Settings(stack="dev", project="some-project", region="us-central1", now=found.now)


def test_a_bare_string_where_a_group_belongs_is_refused() -> None:
    assert "gateway: must hold named settings" in str(refusal({**GCP, "pilotlight:gateway": "{min_instances: 1}"}))


def test_all_problems_are_shown_at_once() -> None:
    problems = refusal({**GCP, "pilotlight:lanes": "[]", "pilotlight:gateway": '{"wait_s":300,"min_instances":2}'})
    fields = [problem.split(":")[0] for problem in problems.problems]
    assert fields == ["lanes", "gateway.wait_s", "gateway.min_instances"]
    assert str(problems) == "the settings are refused; nothing was changed:\n" + "\n".join(
        f"  - {problem}" for problem in problems.problems
    )
    problems = refusal({"pilotlight:lane": "[]", "pilotlight:gatway": "{}"})
    assert [problem.split(": ")[0] for problem in problems.problems] == ["gcp:project", "gcp:region", "lane", "gatway"]
    problems = refusal({**GCP, "pilotlight:lanes": '["x"]', "pilotlight:vm": '{"zone":"x","spto":true}'}, "Dev")
    assert {problem.split(":")[0] for problem in problems.problems} == {"stack", "lanes.0", "vm.zone", "vm.spto"}


# --- the kubeconfig ---------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "clusters": [{"name": "c", "cluster": {"server": "https://home:6443"}}],
    "users": [{"name": "u", "user": {"token": SECRET}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


def without(key: str) -> str:
    return yaml.safe_dump({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize(
    "text",
    [yaml.safe_dump(GOOD), json.dumps(GOOD), yaml.safe_dump(GOOD) + "\n# 2020-99-99\nextra: 2020-99-99\n"],
)
def test_a_usable_kubeconfig_passes(text: str) -> None:
    settings = read({**GCP, "pilotlight:kubeconfig": text}, stack="dev")
    assert settings.kubeconfig
    assert settings.kubeconfig.get_secret_value() == text


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f"a: [b\ntoken: {SECRET}", "must be YAML, is broken at line 2, column 6"),
        (f"token: x: {SECRET}", "must be YAML, is broken at line 1, column 9"),
        (f"token:\n\t{SECRET}", "must be YAML, is broken at line 2, column 1"),
        (f"*{SECRET}", "must be YAML, is broken at line 1, column 1"),
        (f"{SECRET}: \x01", "must be YAML, is broken"),
        (f"a: 1\n---\n{SECRET}: 1", "must be YAML, is broken at line 2, column 1"),
        (f"? [{SECRET}]\n: b", "must be YAML, is broken at line 1, column 3"),
        ("[" * 2000 + SECRET + "]" * 2000, "must be YAML, is broken"),
        # Values that YAML's usual loader can't build: its error would quote them.
        (f"clusters: !!int {SECRET}", "lacks users, contexts, current-context"),
        (f"clusters: !!python/object/apply:os.system [{SECRET}]", "lacks users, contexts, current-context"),
        (f"[{SECRET}]", "must be a mapping"),
        (SECRET, "must be a mapping"),
        ("", "must be a mapping"),
        (" \n", "must be a mapping"),
        ("{}", "must be a mapping|lacks clusters, users, contexts, current-context"),
        *((without(key), f"lacks {key}") for key in GOOD),
        (yaml.safe_dump(GOOD | {"users": []}), "lacks users"),
        (yaml.safe_dump(GOOD | {"current-context": SECRET}), "must have the context that current-context names"),
        (yaml.safe_dump(GOOD | {"contexts": SECRET}), "must have the context that current-context names"),
        (yaml.safe_dump(GOOD | {"contexts": [SECRET]}), "must have the context that current-context names"),
        (yaml.safe_dump(GOOD | {"clusters": [{"name": SECRET}]}), "must have the cluster of its current context"),
        (yaml.safe_dump(GOOD | {"clusters": [{"name": "c", "cluster": {}}]}), "must have the cluster of its current"),
        (yaml.safe_dump(GOOD | {"users": [{"name": SECRET}]}), "must have the user of its current context"),
        (
            yaml.safe_dump(GOOD | {"users": [{"name": "u", "user": {"client-certificate-data": SECRET}}]}),
            "must have client-certificate-data in base64, is broken",
        ),
    ],
)
def test_an_unusable_kubeconfig_is_refused_without_a_word_of_it(text: str, rule: str) -> None:
    """Neither the message nor a traceback may quote it: both end in CI logs."""
    with pytest.raises(SettingsError) as caught:
        read({**GCP, "pilotlight:kubeconfig": text}, stack="dev")
    [problem] = caught.value.problems
    assert re.match(rf"kubeconfig: ({rule}).*\. Consequence: home could not be reached\. Fix: pulumi config", problem)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_only_homes_owner_may_hold_a_kubeconfig() -> None:
    values = {**GCP, "pilotlight:kubeconfig": yaml.safe_dump(GOOD), "pilotlight:home": '{"owner":false}'}
    [problem] = refusal(values).problems
    assert re.match(r"kubeconfig: only for the stack with `home.owner: true`.*undo each other.*make this", problem)


@pytest.mark.parametrize(
    "values",
    [
        {"pilotlight:clients": json.dumps([{"name": "a", "key": f"{SECRET} with blanks"}])},
        {"pilotlight:clients": json.dumps([{"name": "a", "key": [SECRET]}])},
        {"pilotlight:clients": json.dumps({"name": "a", "key": SECRET})},
        {"pilotlight:clients": f'[{{"name": "a", "key": "{SECRET}"'},
        {"pilotlight:clients": json.dumps([{"name": n, "key": f"{SECRET}-key"} for n in "ab"])},
        {"pilotlight:clients": json.dumps([{"name": "a", "key": f"{SECRET}-key"}]), "pilotlight:lanes": "[]"},
    ],
)
def test_a_refused_key_is_not_shown(values: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        read({**GCP, **values}, stack="dev")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


# --- the program ------------------------------------------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of all that the program registers while the test runs."""
    names: list[str] = []
    monitor = stack._RecordingMonitor  # pyright: ignore[reportPrivateUsage]
    true: Callable[[Any, Any], Any] = monitor.RegisterResource

    def spy(self: Any, request: Any) -> Any:
        if request.type != "pulumi:pulumi:Stack":
            names.append(request.name)
        return true(self, request)

    monkeypatch.setattr(monitor, "RegisterResource", spy)
    return names


def run(preview: bool, **changes: Any) -> stack.Stack:
    cloud = Cloud(port=8787)
    values = {f"pilotlight:{key}": json.dumps(value) for key, value in changes.items()}
    return stack.render("dev", cloud.config() | values, cloud.compute, preview=preview)


REFUSED_BY_THE_PROGRAM: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt": ({"lane": ["vm"]}, r"lane: is no setting"),
    "rule": ({"gateway": {"wait_s": 300}}, r"gateway\.wait_s: below timeout_s"),
    "over 64 KiB": (
        {"model": {"aliases": [sha512(str(number).encode()).hexdigest() for number in range(400)]}},
        r"clients: the gateway's configuration, packed, holds at most 65280 bytes, with 1 clients and 1 services it "
        r"has \d{5,}\. Consequence: Secret Manager would refuse it.*Fix: declare fewer",
    ),
}


@pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
@pytest.mark.parametrize("case", REFUSED_BY_THE_PROGRAM)
def test_refused_settings_register_nothing(registered: list[str], case: str, preview: bool) -> None:
    changes, message = REFUSED_BY_THE_PROGRAM[case]
    with pytest.raises(pulumi.RunError, match=message):
        run(preview, **changes)
    assert registered == []


def test_accepted_settings_register_something(registered: list[str]) -> None:
    """Else the test above would pass by looking at nothing."""
    run(True, lanes=["vm"])
    assert "gateway-service" in registered


@pytest.mark.parametrize("too_many", [0, 1])
def test_the_limit_of_a_secret_is_exact(monkeypatch: pytest.MonkeyPatch, too_many: int) -> None:
    settings = read(GCP, stack="dev")
    size = len(caddy_config.packed(caddy_config.document(settings, vm_address=caddy_config.WIDEST_ADDRESS)))
    monkeypatch.setattr(caddy_config, "SECRET_LIMIT", size + caddy_config.ROOM - too_many)
    if too_many:
        with pytest.raises(SettingsError, match=f"with 1 clients and 1 services it has {size}"):
            caddy_config.require_fits(settings)
    else:
        caddy_config.require_fits(settings)


def test_an_error_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only refused settings are told in a sentence; a bug must not look like the user's mistake."""

    def broken(settings: Settings) -> list[str]:
        raise KeyError(settings.stack)

    monkeypatch.setattr(reading, "read", broken)
    with pytest.raises(TypeError):
        run(True)
