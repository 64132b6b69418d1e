"""The program under the real Pulumi engine: what mocks can't show (unknown outputs, diffs, stored secrets, config).

The providers accept anything, so this proves the program and not the clouds' opinion of it.
"""

import json
import re
from collections.abc import Generator
from typing import Any, Final

import pytest

from lab.read.cloud import Cloud
from lab.read.stack import ROOT, Stack, render
from tests.engine.pulumi_cli import (
    HOME_TOKEN,
    KUBECONFIG,
    NEEDS_THE_CLI,
    PROJECT,
    REGION,
    TUNNEL_KEY,
    Engine,
    Factory,
    Snapshot,
    engines,
    types_and_names,
    unknown,
)

pytestmark = NEEDS_THE_CLI

CLIENT_KEY: Final = re.compile(r"sk-[A-Za-z0-9]{43}")
SMALL: Final = {"pilotlight:lanes": ["vm"]}
REFUSED: Final[dict[str, tuple[dict[str, Any], list[str]]]] = {
    "misspelt key": ({"pilotlight:gatway": {}}, ["gatway: is no setting", "did you mean `gateway`?"]),
    "misspelt nested key": (
        {"pilotlight:gateway": {"wait_seconds": 5}},
        ["gateway.wait_seconds: is no setting", "it would be ignored"],
    ),
    "no client, no lane, too little memory": (
        {"pilotlight:clients": [], "pilotlight:lanes": [], "pilotlight:gateway": {"memory_mib": 512}},
        ["clients: at least one client", "lanes: at least one lane", "gateway.memory_mib: at least", "Fix: "],
    ),
    "policy file that is not there": (
        {"pilotlight:tailnet": {"policy_file": "nowhere.hujson"}},
        ["tailnet.policy_file: must be a file of the project, nowhere.hujson", "Fix: "],
    ),
    "broken kubeconfig": (
        {"pilotlight:kubeconfig": f"users: [\ntoken: {HOME_TOKEN}\n"},
        ["kubeconfig: must be YAML, is broken at line", "pulumi config set --secret kubeconfig"],
    ),
}


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Generator[Factory]:
    settings = {path: path.read_bytes() for path in ROOT.glob("Pulumi*.yaml")}
    with engines(tmp_path_factory.mktemp("engine")) as factory:
        yield factory
    assert {path: path.read_bytes() for path in ROOT.glob("Pulumi*.yaml")} == settings, "a run wrote to the repository"


@pytest.fixture(scope="module")
def dev(factory: Factory) -> Engine:
    return factory.stack("dev")


@pytest.fixture(scope="module")
def previewed(dev: Engine) -> list[dict[str, Any]]:
    """The steps of the first preview of a stack that doesn't exist yet."""
    return dev.read("preview", "--json")["steps"]


@pytest.fixture(scope="module")
def deployed(dev: Engine, previewed: list[dict[str, Any]]) -> Snapshot:
    """The stack after its first `up`, home not joined."""
    assert previewed
    return dev.up()


@pytest.fixture(scope="module")
def joined(dev: Engine, deployed: Snapshot) -> Snapshot:
    """The stack after the kubeconfig came, set as `next_steps` says."""
    assert deployed
    dev.run("config", "set", "--secret", "kubeconfig", text=KUBECONFIG)
    return dev.up()


def in_the_lab(**config: Any) -> Stack:
    """What the lab sees of a stack with the same settings."""
    provider = {"gcp:project": PROJECT, "gcp:region": REGION}
    given = {f"pilotlight:{key}": v if isinstance(v, str) else json.dumps(v) for key, v in config.items()}
    return render("dev", {**provider, **given}, Cloud(port=8787).compute)


def urns(resources: list[dict[str, Any]]) -> list[str]:
    return [resource["urn"] for resource in resources]


def types(resources: list[dict[str, Any]]) -> set[str]:
    return {resource["type"] for resource in resources}


def test_preview_of_a_new_stack_passes_with_unknown_outputs(previewed: list[dict[str, Any]]) -> None:
    assert {step["op"] for step in previewed} == {"create"}
    inputs = {step["urn"].rsplit("::", 1)[-1]: step["newState"].get("inputs") for step in previewed}
    assert types_and_names(urns(previewed)) == types_and_names([r.urn for r in in_the_lab().resources])
    # Were these known, the program would have built them from an address that nobody assigned yet.
    assert unknown(inputs["vm-group-template"]["networkInterfaces"])
    caddy = inputs["gateway-service"]["template"]["containers"][0]
    assert unknown({env["name"]: env for env in caddy["envs"]}["NO_PROXY"])
    assert inputs["gateway-caddy-config-version"]["secretData"] == "[secret]"
    assert "Qwen" in json.dumps(inputs["vm-group-template"]["metadata"])


def test_up_registers_what_the_lab_serves(deployed: Snapshot) -> None:
    lab = in_the_lab()
    assert types_and_names(urns(deployed.resources)) == types_and_names([r.urn for r in lab.resources])
    seen = {r["urn"].rsplit("::", 1)[-1]: set(r.get("inputs", {})) for r in deployed.resources if r["custom"]}
    wanted = {r.name: set(r.inputs) for r in lab.resources if r.name in seen}
    assert {name: keys - {"__internal"} for name, keys in seen.items()} == wanted


def test_outputs_are_those_of_the_lab(deployed: Snapshot) -> None:
    assert deployed.outputs.keys() == in_the_lab().outputs.keys()
    assert deployed.outputs["base_url"] == "https://gateway.test/v1"
    assert deployed.outputs["api_keys"].keys() == {"demo"}
    assert CLIENT_KEY.fullmatch(deployed.outputs["api_keys"]["demo"])
    assert re.fullmatch(rf"{TUNNEL_KEY}-any-\w+", deployed.outputs["home_auth_key"]), "the newline was to be stripped"


def test_keys_are_masked_unless_asked_for(deployed: Snapshot) -> None:
    assert deployed.masked.keys() == deployed.outputs.keys()
    hidden = {key for key, value in deployed.masked.items() if value == "[secret]"}
    assert hidden == {"api_keys", "client_env", "home_auth_key", "home_bootstrap"}


def test_next_steps_say_that_home_waits_for_its_kubeconfig(deployed: Snapshot) -> None:
    steps = " ".join(deployed.outputs["next_steps"])
    assert "the stack has no kubeconfig" in steps
    assert "pulumi config set --secret kubeconfig" in steps
    assert not any(
        token.startswith(("kubernetes:", "pulumi:providers:kubernetes")) for token in types(deployed.resources)
    )


def test_nothing_at_google_is_made_before_its_apis_are_on(deployed: Snapshot) -> None:
    order = [r["type"] for r in deployed.resources if r["type"].startswith("gcp:")]
    last_api = max(i for i, token in enumerate(order) if token == "gcp:projects/service:Service")
    assert set(order[: last_api + 1]) == {"gcp:projects/service:Service"}


def test_second_up_changes_nothing(dev: Engine, deployed: Snapshot) -> None:
    again = dev.up("--expect-no-changes")
    assert again.outputs == deployed.outputs, "a key was made anew"


def test_kubeconfig_adds_home_and_nothing_else(deployed: Snapshot, joined: Snapshot) -> None:
    before = {resource["urn"]: resource.get("inputs") for resource in map(without_ciphertext, deployed.resources)}
    after = {resource["urn"]: resource.get("inputs") for resource in map(without_ciphertext, joined.resources)}
    assert {urn: after[urn] for urn in before} == before
    added = [r for r in joined.resources if r["urn"] not in before]
    home = ("pilotlight:home:Home", "pulumi:providers:kubernetes", "kubernetes:")
    assert added
    assert all(token.startswith(home) for token in types(added))
    renewal, budget = joined.outputs["next_steps"]
    assert "`pulumi stack output gateway_key_expires`" in renewal
    assert "`budget.per_month`" in budget
    assert joined.outputs["api_keys"] == deployed.outputs["api_keys"]
    lab = in_the_lab(kubeconfig=KUBECONFIG)
    assert types_and_names(urns(joined.resources)) == types_and_names([r.urn for r in lab.resources])


def test_preview_with_home_shows_no_change(dev: Engine, joined: Snapshot) -> None:
    assert joined
    dev.run("preview", "--expect-no-changes")


def test_no_secret_is_stored_in_plain_text(dev: Engine, joined: Snapshot) -> None:
    secrets = [joined.outputs["api_keys"]["demo"], TUNNEL_KEY, HOME_TOKEN]
    shown = dev.run("stack", "export", "--show-secrets").out
    assert [text for text in secrets if text not in shown] == [], "the state doesn't hold them at all"
    assert [text for text in secrets if text in joined.state] == []
    assert HOME_TOKEN not in (dev.tree / "Pulumi.dev.yaml").read_text()


def test_a_federated_gateway_joins_without_a_secret(factory: Factory) -> None:
    stack = factory.stack("federated")
    stack.write_config({"pilotlight:lanes": ["home"], "pilotlight:tailnet": {"join": "federated"}})
    steps = {step["urn"].rsplit("::", 1)[-1]: step["newState"] for step in stack.read("preview", "--json")["steps"]}
    assert unknown(steps["tailnet-gateway-identity"]["inputs"]["subject"])
    assert unknown(steps["gateway-service"]["inputs"]["template"]["containers"][1]["envs"])
    up = {resource["urn"].rsplit("::", 1)[-1]: resource for resource in stack.up().resources}
    identity = up["tailnet-gateway-identity"]
    assert identity["inputs"]["subject"] == "1234567890"
    envs = up["gateway-service"]["inputs"]["template"]["containers"][1]["envs"]
    found = {env["name"]: env["value"] for env in envs}
    assert found["TS_CLIENT_ID"] == f"{identity['id']}?ephemeral=true&preauthorized=true"
    assert found["TS_AUDIENCE"] == f"api.tailscale.com/{identity['id']}"
    assert not [name for name in up if "auth-key" in name or name == "tailnet-gateway-key"]


def test_destroy_empties_the_stack_and_keeps_the_tailnets_policy(dev: Engine, joined: Snapshot) -> None:
    assert "tailscale:index/acl:Acl" in types(joined.resources)
    dev.run("destroy", "--yes", "--skip-preview")
    assert "resources" not in dev.read("stack", "export")["deployment"]
    deleted = set(dev.provider.deleted)
    # Without a policy, a tailnet lets everything reach everything.
    assert "tailscale:index/acl:Acl" not in deleted
    assert {"gcp:cloudrunv2/service:Service", "kubernetes:core/v1:Namespace"} <= deleted


def test_a_stack_with_the_vm_alone(factory: Factory) -> None:
    # A model nobody else names shows that Pulumi.yaml's own defaults reach the program.
    stack = factory.stack("small", schema_defaults={"model": {"name": "a-model-of-the-schema"}})
    own = "a-key-that-the-client-brought"
    stack.run("config", "set", "--path", "lanes[0]", "vm")
    stack.run("config", "set", "--path", "clients[0].name", "demo")
    stack.run("config", "set", "--path", "clients[1].name", "own")
    stack.run("config", "set", "--path", "--secret", "clients[1].key", own)
    small = stack.up()
    lab = in_the_lab(lanes=["vm"], clients=[{"name": "demo"}, {"name": "own", "key": own}])
    assert types_and_names(urns(small.resources)) == types_and_names([r.urn for r in lab.resources])
    assert not any(token.startswith(("tailscale:", "kubernetes:")) for token in types(small.resources))
    assert small.outputs.keys() == lab.outputs.keys()
    assert small.outputs["model"] == "a-model-of-the-schema"
    [budget] = small.outputs["next_steps"]
    assert "`budget.per_month`" in budget
    assert small.outputs["api_keys"]["own"] == own
    assert CLIENT_KEY.fullmatch(small.outputs["api_keys"]["demo"])
    assert own not in small.state


def test_the_schemas_defaults_are_the_settings_own(dev: Engine) -> None:
    config = {key: entry.get("value") for key, entry in dev.read("config", "--json").items()}
    assert json.loads(config["pilotlight:clients"]) == [{"name": "demo", "generation": 1, "priority": "normal"}]
    assert json.loads(config["pilotlight:lanes"]) == ["home", "vm"]
    assert json.loads(config["pilotlight:gateway"]) == {}


@pytest.fixture(scope="module")
def refusing(factory: Factory) -> tuple[Engine, str]:
    stack = factory.stack("refused")
    return stack, (stack.tree / "Pulumi.refused.yaml").read_text()


@pytest.mark.parametrize("case", REFUSED)
def test_bad_settings_are_refused_before_any_resource(refusing: tuple[Engine, str], case: str) -> None:
    stack, good = refusing
    bad, messages = REFUSED[case]
    (stack.tree / "Pulumi.refused.yaml").write_text(good)
    stack.write_config({**SMALL, **bad} if "pilotlight:kubeconfig" not in bad else bad)
    # `up`, not only `preview`: a resource that came before the check would now exist.
    done = stack.run("up", "--yes", "--skip-preview", refused=True)
    for message in messages:
        assert message in done.everything
    assert "Traceback" not in done.everything
    assert HOME_TOKEN not in done.everything
    assert stack.resources() == []


def test_config_of_the_wrong_type_is_refused_by_the_schema(refusing: tuple[Engine, str]) -> None:
    stack, good = refusing
    (stack.tree / "Pulumi.refused.yaml").write_text(good)
    stack.write_config({"pilotlight:lanes": "vm"})
    done = stack.run("preview", refused=True)
    assert "must be of type 'array<string>'" in done.everything


def without_ciphertext(resource: dict[str, Any]) -> dict[str, Any]:
    """The same secret is encrypted differently every time it is written."""
    text = re.sub(r'"ciphertext": "[^"]*"', '"ciphertext": ""', json.dumps(resource))
    return json.loads(text)
