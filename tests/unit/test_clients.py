"""The clients' keys: made once, random, secret, and a key of the user's own is taken as it is."""

import json
import math
import re
import secrets
import string
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from components.gateway.caddy import routes
from components.settings import client_keys
from components.settings.clients import CLIENT_KEY
from lab.errors import LabError
from lab.read import plan
from lab.read import stack as lab_stack
from lab.read.cloud import CHARACTERS, random_password
from lab.read.stack import Resource, Stack

Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
Check = Callable[[Stack], None]
CLIENT_KEY_TYPE = "random:index/randomPassword:RandomPassword"
OWN = "my-own-key-0123456789"
MODES = pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource


def drawn_from(key: Resource) -> str:
    """The characters that the provider draws this key from."""
    return "".join(characters for kind, characters in CHARACTERS.items() if key.inputs.get(kind, True))


def check_made_key_is_accepted(stack: Stack) -> None:
    for key in stack.of_type(CLIENT_KEY_TYPE):
        for character in drawn_from(key):
            worst = "sk-" + character * key.inputs["length"]
            assert CLIENT_KEY.fullmatch(worst), f"{key.name} may hold {character}"
            assert re.search(routes.BEARER, f"Bearer {worst}")


def check_made_key_cannot_be_guessed(stack: Stack) -> None:
    for key in stack.of_type(CLIENT_KEY_TYPE):
        bits = key.inputs["length"] * math.log2(len(drawn_from(key)))
        assert bits >= 256, f"{key.name} has {bits:.0f} random bits"


def check_made_key_is_secret(stack: Stack) -> None:
    for key in stack.of_type(CLIENT_KEY_TYPE):
        assert "result" in key.options["secretOutputs"], key.name


CHECKS = [check_made_key_is_accepted, check_made_key_cannot_be_guessed, check_made_key_is_secret]
PLANTED: list[tuple[Check, str, object]] = [
    (check_made_key_is_accepted, "inputs.special", True),
    (check_made_key_is_accepted, "inputs.length", 126),
    (check_made_key_cannot_be_guessed, "inputs.length", 42),
    (check_made_key_cannot_be_guessed, "inputs.upper", False),
    (check_made_key_is_secret, "options.secretOutputs", []),
]


@pytest.mark.parametrize("check", CHECKS)
def test_a_made_key_is_safe(stack_of: Render, check: Check) -> None:
    check(stack_of(clients=[{"name": "a"}, {"name": "b"}]))


@pytest.mark.parametrize(("check", "path", "value"), PLANTED, ids=[f"{row[1]}={row[2]}" for row in PLANTED])
def test_a_planted_mistake_is_seen(stack_of: Render, planted: Plant, check: Check, path: str, value: object) -> None:
    with pytest.raises(AssertionError):
        check(planted(stack_of(), "clients-demo", path, value))


def test_the_lab_draws_a_password_as_the_provider_does() -> None:
    source = secrets.SystemRandom()
    drawn = {random_password({"length": 20, "special": False}, source) for _ in range(100)}
    assert len(drawn) == 100
    assert {len(password) for password in drawn} == {20}
    assert set("".join(drawn)) == set(string.ascii_letters + string.digits)
    with pytest.raises(LabError, match="minUpper: the lab does not understand that"):
        random_password({"length": 20, "minUpper": 1}, source)


def test_a_key_is_its_clients_alone(stack_of: Render) -> None:
    """Neither another client nor the order of the list makes a key anew."""
    alone, three = stack_of(clients=[{"name": "a"}]), stack_of(clients=[{"name": "c"}, {"name": "a"}, {"name": "b"}])
    [key] = alone.of_type(CLIENT_KEY_TYPE)
    same = named(three, "clients-a")
    assert (same.urn, same.inputs, same.options) == (key.urn, key.inputs, key.options)
    assert len(set(three.outputs["api_keys"].values())) == 3
    for client, text in three.outputs["api_keys"].items():
        assert text == "sk-" + named(three, f"clients-{client}").outputs["result"]


@MODES
def test_a_client_without_a_key_gets_one(stack_of: Render, preview: bool) -> None:
    stack = stack_of(preview=preview, clients=[{"name": "a"}, {"name": "b", "key": OWN}])
    assert [key.name for key in stack.of_type(CLIENT_KEY_TYPE)] == ["clients-a"]


def test_a_key_of_the_users_own_is_stripped_and_reaches_the_gateway(stack_of: Render) -> None:
    stack = stack_of(clients=[{"name": "b", "key": f"{OWN}\n"}])
    version = named(stack, "gateway-key-b-version")
    assert version.inputs["secretData"] == OWN
    assert stack.outputs["api_keys"] == {"b": OWN}
    [service] = stack.of_type("gcp:cloudrunv2/service:Service")
    [env] = [env for env in service.inputs["template"]["containers"][0]["envs"] if "CLIENT_KEY" in env["name"]]
    assert env["name"] == client_keys.variable("b")
    assert env["valueSource"]["secretKeyRef"]["secret"] == version.inputs["secret"]


@MODES
def test_keys_leave_the_stack_as_secrets_only(monkeypatch: pytest.MonkeyPatch, stack_of: Render, preview: bool) -> None:
    """`pulumi stack output` shows what isn't marked, and CI prints it."""
    secret: set[str] = set()
    true: Callable[[Any, set[str]], dict[str, Any]] = lab_stack._plain_struct  # pyright: ignore[reportPrivateUsage]

    def spy(struct: Any, secrets: set[str]) -> dict[str, Any]:
        own: set[str] = set()
        found = true(struct, own)
        if "base_url" in found:
            secret.update(own)
        secrets.update(own)
        return found

    monkeypatch.setattr(lab_stack, "_plain_struct", spy)
    stack_of(preview=preview, clients=[{"name": "a"}, {"name": "outputs", "key": OWN}])
    assert secret == {"api_keys", "client_env", "home_auth_key", "home_bootstrap"}


# --- a new key, and a grace for the old one ---------------------------------------------------------------------------

TWO = [{"name": "a", "generation": 2}, {"name": "b"}]


def in_grace(days: int = 7) -> dict[str, object]:
    return {"client": "a", "generation": 1, "until": f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}"}


def touched(before: Stack, after: Stack) -> set[str]:
    """The resources that one of the two has and the other hasn't, or that say something else."""
    old, new = ({one.name: (one.inputs, one.options) for one in stack.resources} for stack in (before, after))
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


def test_a_grace_touches_one_client_alone(stack_of: Render) -> None:
    """In a preview: the keys themselves are drawn anew by each rendering."""
    before = stack_of(preview=True, clients=[{"name": "a"}, {"name": "b"}])
    during = stack_of(preview=True, clients=TWO, old_keys=[in_grace()])
    after = stack_of(preview=True, clients=TWO)
    shared = {"gateway-service", "gateway-caddy-config-version"}
    assert touched(before, during) - shared == {"clients-a_2", "gateway-key-a-version_2"}
    assert touched(during, after) - shared == {"clients-a", "gateway-key-a-version"}
    old, kept = named(before, "clients-a"), named(during, "clients-a")
    assert (kept.urn, kept.inputs) == (old.urn, old.inputs), "the old key would be made anew"
    assert touched(after, stack_of(preview=True, clients=TWO, old_keys=[in_grace(-1)])) == set()


def test_each_variable_of_the_gateway_holds_its_own_key(stack_of: Render) -> None:
    """Both keys of a client are versions of one secret."""
    stack = stack_of(clients=TWO, old_keys=[in_grace(), {**in_grace(), "client": "b", "key": OWN, "generation": None}])
    env = plan.read(stack).gateway.containers[0].env
    made = {name: "sk-" + named(stack, f"clients-{name}").outputs["result"] for name in ("a", "a_2", "b")}
    assert {name: value for name, value in env.items() if "KEY" in name} == {
        "CLIENT_KEY_A": made["a_2"], "CLIENT_OLD_KEY_1_A": made["a"],
        "CLIENT_KEY_B": made["b"], "CLIENT_OLD_KEY_0_B": OWN,
    }  # fmt: skip
    assert stack.outputs["api_keys"] == {"a": made["a_2"], "b": made["b"]}
    shown = json.dumps(stack.outputs["keys_in_grace"])
    assert not [key for key in (*made.values(), OWN) if key in shown]


def test_a_client_s_env_is_what_the_stock_client_reads(stack_of: Render) -> None:
    stack = stack_of(clients=[{"name": "a"}, {"name": "b", "key": OWN}])
    assert stack.outputs["client_env"].keys() == {"a", "b"}
    assert stack.outputs["client_env"]["b"] == (
        f"OPENAI_BASE_URL={stack.outputs['base_url']}\nOPENAI_API_KEY={OWN}\nOPENAI_MODEL={stack.outputs['model']}\n"
    )
