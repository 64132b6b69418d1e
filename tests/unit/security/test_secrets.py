"""Planted secrets are found nowhere in plain text: not in what the program registers, in outputs, goldens, the lab's
plan, or in what a refusal says."""

import base64
import bz2
import json
import traceback
from typing import Any

import pytest

from components.settings.reading import read
from components.settings.section import SettingsError
from lab.read import plan, tables, unproven
from lab.read.cost import bill
from lab.read.stack import Stack
from tests.golden import rendered
from tests.unit.security import leaks
from tests.unit.security.mistakes import PLANTED, stack

GCP = {"gcp:project": "some-project", "gcp:region": "us-central1"}
KEY = PLANTED["a client's key"]
TOKEN = PLANTED["the home cluster's token"]


@pytest.fixture(scope="module")
def planted() -> Stack:
    return stack()


def test_every_planted_secret_is_registered(planted: Stack) -> None:
    """Else the search would look for what never was there."""
    whole = json.dumps([[one.inputs, one.outputs] for one in planted.resources]).encode()
    assert leaks.holds(whole, PLANTED.values()) == set(PLANTED.values())


def test_each_place_that_holds_one_is_marked_as_secret(planted: Stack) -> None:
    made = leaks.keys_of(planted)
    assert {"clients-demo, made", "tailnet-gateway-key, made", "tailnet-home-key, made", "kubeconfig"} <= made.keys()
    assert leaks.shown(planted, {**made, **PLANTED}) == []


def test_a_preview_marks_them_too() -> None:
    assert leaks.shown(stack(preview=True), PLANTED) == []


def test_secrets_are_in_these_outputs_and_in_no_other(planted: Stack) -> None:
    assert planted.secret_outputs == {"api_keys", "client_env", "home_auth_key", "home_bootstrap"}


def test_an_inventory_as_the_goldens_keep_it_shows_none(planted: Stack) -> None:
    values = {**leaks.keys_of(planted), **PLANTED}
    assert leaks.holds(rendered.inventory(planted).encode(), values.values()) == set()


def test_what_the_lab_prints_of_a_declaration_shows_none(planted: Stack) -> None:
    found = plan.read(planted)
    at = {pod.name: "127.0.0.1:0" for pod in found.pods}
    told = tables.addresses(found, port=1, instance_port=2, pods_at=at, traefik_port=3)
    text = "\n".join([tables.tables(found, told), *unproven.full(found.unproven), repr(bill.read(planted))])
    assert len(text) > 10_000
    assert leaks.holds(text.encode(), {**leaks.keys_of(planted), **PLANTED}.values()) == set()


REFUSED: dict[str, dict[str, Any]] = {
    "a character too many": {"clients": [{"name": "a", "key": f"{KEY}!"}]},
    "a key in a list": {"clients": [{"name": "a", "key": [KEY]}]},
    "a key as Pulumi's file has it": {"clients": [{"name": "a", "key": {"secure": KEY}}]},
    "a key under a wrong name": {"clients": [{"name": "a", "keys": KEY}]},
    "name and key swapped": {"clients": [{"name": KEY, "key": "a"}]},
    "a list of keys": {"clients": [KEY]},
    "keys by name": {"clients": {"a": KEY}},
    "no JSON": {"clients": f"a={KEY}"},
    "one key twice": {"clients": [{"name": "a", "key": KEY}, {"name": "b", "key": KEY}]},
    "an old key without its end": {"old_keys": [{"client": "demo", "key": KEY}]},
    "an old key of nobody": {"old_keys": [{"client": "nobody", "key": KEY, "until": "2999-01-01"}]},
    "an old key that is not usable": {"old_keys": [{"client": "demo", "key": f"{KEY} {KEY}", "until": "2999-01-01"}]},
    "an old key in the place of its end": {"old_keys": [{"client": "demo", "generation": 1, "until": KEY}]},
    "an old key in the place of its number": {
        "old_keys": [{"client": "demo", "generation": KEY, "until": "2999-01-01"}]
    },
    "a key at the top": {"client_key": KEY},
    "a kubeconfig that is no YAML": {"kubeconfig": f"users: [\ntoken: {TOKEN}"},
    "a kubeconfig that is a token": {"kubeconfig": TOKEN},
    "a kubeconfig with a broken certificate": {
        "kubeconfig": f"{{clusters: [{{name: a, cluster: {{server: x}}}}], current-context: a, contexts: [{{name: a, "
        f"context: {{cluster: a, user: a}}}}], users: [{{name: a, user: {{client-certificate-data: {TOKEN}}}}}]}}"
    },
    "a kubeconfig as a map": {"kubeconfig": {"users": [{"user": {"token": TOKEN}}]}},
}


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_shows_no_secret(given: dict[str, Any]) -> None:
    """Neither in its words nor in a traceback: both end in CI's logs."""
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in given.items()}
    with pytest.raises(SettingsError) as refused:
        read({**GCP, **{f"pilotlight:{key}": text for key, text in texts.items()}}, stack="dev")
    said = f"{refused.value}\n{''.join(traceback.format_exception(refused.value))}"
    assert "Fix: " in said
    assert leaks.holds(said.encode(), [KEY, TOKEN]) == set()


# --- the search itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"Authorization: Bearer {KEY}",
        json.dumps({"a": json.dumps([KEY])}),
        "Basic " + base64.b64encode(f"x:{KEY}".encode()).decode(),
        base64.b64encode(bz2.compress(KEY.encode() * 3)).decode(),
        KEY.encode().hex(),
    ],
    ids=["plain", "within", "in JSON", "base64 at another place", "packed", "hex"],
)
def test_a_secret_is_found_in_each_form(text: str) -> None:
    assert leaks.holds(f"before {text} after".encode(), [KEY, TOKEN]) == {KEY}
    assert leaks.holds(b"before and after", [KEY, TOKEN]) == set()
