"""The clients' keys: made once, random, secret, and a key of the user's own is taken as it is."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from components import clients
from components.gateway.caddy import routes
from components.settings.stack import CLIENT_KEY
from lab.read import stack as lab_stack
from lab.read.stack import Resource, Stack

Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
CLIENT_KEY_TYPE = "pulumi-python:dynamic/clients:ClientKey"
OWN = "my-own-key-0123456789"
MODES = pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource


def made() -> dict[str, Any]:
    result = clients._KeyMaker().create({"client": "a", "key": None})  # pyright: ignore[reportPrivateUsage]
    assert result.id == "a"
    assert result.outs is not None
    return result.outs


def test_every_key_made_is_another_and_fits_what_the_gateway_accepts() -> None:
    keys = {made()["key"] for _ in range(50)}
    assert len(keys) == 50
    for key in keys:
        assert CLIENT_KEY.fullmatch(key)
        assert re.search(routes.BEARER, f"Bearer {key}")
        assert len(key) - len("sk-") >= 43, "256 random bits"


def test_a_key_stays_until_its_client_is_another() -> None:
    maker = clients._KeyMaker()  # pyright: ignore[reportPrivateUsage]
    old = made()
    assert not maker.diff("a", old, {"client": "a", "key": None}).changes
    renamed = maker.diff("a", old, {"client": "b", "key": None})
    assert renamed.changes
    assert renamed.replaces == ["client"]


def test_the_names_in_every_stacks_state_stay() -> None:
    """The provider is pickled by reference: renamed, an older stack could not be destroyed."""
    maker = clients._KeyMaker  # pyright: ignore[reportPrivateUsage]
    assert (maker.__module__, maker.__qualname__) == ("components.clients", "_KeyMaker")


def check_made_key_is_secret(stack: Stack) -> None:
    for key in stack.of_type(CLIENT_KEY_TYPE):
        assert "key" in key.options["secretOutputs"], key.name


@MODES
def test_a_client_without_a_key_gets_one(stack_of: Render, preview: bool) -> None:
    stack = stack_of(preview=preview, clients=[{"name": "a"}, {"name": "b", "key": OWN}])
    assert [key.name for key in stack.of_type(CLIENT_KEY_TYPE)] == ["clients-a"]
    check_made_key_is_secret(stack)


def test_an_unmarked_key_is_seen(stack_of: Render, planted: Plant) -> None:
    with pytest.raises(AssertionError):
        check_made_key_is_secret(planted(stack_of(), "clients-demo", "options.secretOutputs", []))


def test_a_key_of_the_users_own_is_stripped_and_reaches_the_gateway(stack_of: Render) -> None:
    stack = stack_of(clients=[{"name": "b", "key": f"{OWN}\n"}])
    version = named(stack, "gateway-key-b-version")
    assert version.inputs["secretData"] == OWN
    assert stack.outputs["api_keys"] == {"b": OWN}
    [service] = stack.of_type("gcp:cloudrunv2/service:Service")
    [env] = [env for env in service.inputs["template"]["containers"][0]["envs"] if "CLIENT_KEY" in env["name"]]
    assert env["name"] == routes.key_variable("b")
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
    assert secret == {"api_keys", "home_auth_key", "home_bootstrap"}
