"""The two ways to join the tailnet: each declares what it needs and leaves out what the other needs."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from components.settings.section import SettingsError
from components.tailnet.tailnet import period
from lab.read import plan
from lab.read.stack import UNKNOWN, Resource, Stack

Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
KEY = "tailscale:index/tailnetKey:TailnetKey"
IDENTITY = "tailscale:index/federatedIdentity:FederatedIdentity"
FEDERATED = {"tailnet": {"join": "federated"}}
TUNNEL = "inputs.template.containers.1"


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource


def tunnel(stack: Stack) -> dict[str, Any]:
    return named(stack, "gateway-service").inputs["template"]["containers"][1]


def env(stack: Stack) -> dict[str, str]:
    return {item["name"]: item["value"] for item in tunnel(stack)["envs"]}


def check_trust(stack: Stack) -> None:
    """The gateway's own account, to make keys of its own tag, and nothing else."""
    [identity] = [found for found in stack.of_type(IDENTITY) if found.name == "tailnet-gateway-identity"]
    assert identity.inputs == {
        "description": "pilotlight-dev gateway",
        "issuer": "https://accounts.google.com",
        "subject": named(stack, "gateway-account").outputs["uniqueId"],
        "scopes": ["auth_keys"],
        "tags": ["tag:gateway"],
    }
    assert "tailnet-policy" in identity.options["dependsOn"], "the policy names who owns the tag"


def check_identity_alone(stack: Stack) -> None:
    """The entrypoint refuses a key beside an identity, and without both attributes the node is another one."""
    found, identity = env(stack), named(stack, "tailnet-gateway-identity").outputs
    assert found["TS_CLIENT_ID"] == f"{identity['id']}?ephemeral=true&preauthorized=true"
    assert found["TS_AUDIENCE"] == identity["audience"]
    assert "--advertise-tags=tag:gateway" in found["TS_EXTRA_ARGS"]
    assert not {"TS_AUTHKEY", "TS_AUTH_KEY", "TS_CLIENT_SECRET", "TS_ID_TOKEN"} & found.keys()


def check_no_secret(stack: Stack) -> None:
    assert [key.name for key in stack.of_type(KEY)] == ["tailnet-home-key"]
    assert not [resource.name for resource in stack.resources if "auth-key" in resource.name]
    volumes = named(stack, "gateway-service").inputs["template"]["volumes"]
    mounts = tunnel(stack).get("volumeMounts", [])
    assert not [entry["name"] for entry in [*volumes, *mounts] if "auth-key" in entry["name"]]


CHECKS = [check_trust, check_identity_alone, check_no_secret]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("lanes", [["home", "vm"], ["home"], ["home", "burst", "vm"]], ids=str)
def test_a_federated_gateway_needs_no_secret(
    stack_of: Render, lanes: list[str], check: Callable[[Stack], None]
) -> None:
    check(stack_of(lanes=lanes, **FEDERATED))


@pytest.mark.parametrize(
    ("check", "name", "path", "value"),
    [
        (check_trust, "tailnet-gateway-identity", "inputs.subject", "*"),
        (check_trust, "tailnet-gateway-identity", "inputs.scopes", ["all"]),
        (check_trust, "tailnet-gateway-identity", "inputs.tags", ["tag:gateway", "tag:home"]),
        (check_trust, "tailnet-gateway-identity", "options.dependsOn", ["gateway-account"]),
        (check_identity_alone, "gateway-service", f"{TUNNEL}.envs.9.value", "T1CNTRL?preauthorized=true"),
        (check_identity_alone, "gateway-service", f"{TUNNEL}.envs.10.value", "https://else"),
        (check_identity_alone, "gateway-service", f"{TUNNEL}.envs.11", {"name": "TS_AUTHKEY", "value": "tskey"}),
        (check_no_secret, "gateway-service", f"{TUNNEL}.volumeMounts", [{"name": "auth-key", "mountPath": "/x"}]),
        (check_no_secret, "gateway-service", "inputs.template.volumes.1", {"name": "auth-key"}),
    ],
)
def test_an_unsafe_way_to_join_is_seen(
    stack_of: Render, planted: Plant, check: Callable[[Stack], None], name: str, path: str, value: object
) -> None:
    with pytest.raises(AssertionError):
        check(planted(stack_of(**FEDERATED), name, path, value))


def test_a_preview_knows_no_identity_yet(stack_of: Render) -> None:
    stack = stack_of(preview=True, **FEDERATED)
    assert named(stack, "tailnet-gateway-identity").inputs["subject"] == UNKNOWN
    assert (env(stack)["TS_CLIENT_ID"], env(stack)["TS_AUDIENCE"]) == (UNKNOWN, UNKNOWN)
    check_no_secret(stack)


@pytest.mark.parametrize("preview", [True, False])
def test_a_gateway_with_a_key_trusts_no_identity(stack_of: Render, preview: bool) -> None:
    stack = stack_of(preview=preview)
    assert not stack.of_type(IDENTITY)
    assert not {"TS_CLIENT_ID", "TS_AUDIENCE"} & env(stack).keys()


def check_ci_trust(stack: Stack) -> None:
    """Workflows of one repository, whatever its subject looks like, for machines that reach Kubernetes' API alone."""
    identity = named(stack, "tailnet-ci-identity")
    assert identity.inputs == {
        "description": "pilotlight-dev ci",
        "issuer": "https://token.actions.githubusercontent.com",
        "subject": "repo:*",
        "customClaimRules": {"repository": "me/pilotlight"},
        "scopes": ["auth_keys"],
        "tags": ["tag:ci"],
    }
    assert "tailnet-policy" in identity.options["dependsOn"]
    wanted = {"client_id": identity.outputs["id"], "audience": identity.outputs["audience"]}
    assert stack.outputs["ci_tailnet"] == wanted


CI = {"tailnet": {"ci_repository": "me/pilotlight"}}


def test_ci_joins_by_an_identity_of_its_own(stack_of: Render) -> None:
    check_ci_trust(stack_of(**CI))
    assert not [key for key in stack_of(**CI).of_type(KEY) if "tag:ci" in key.inputs["tags"]]
    assert stack_of(preview=True, **CI).outputs["ci_tailnet"] == UNKNOWN
    assert not stack_of().of_type(IDENTITY)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("inputs.customClaimRules", {"repository": "me/*"}),
        ("inputs.customClaimRules", ...),
        ("inputs.tags", ["tag:ci", "tag:home"]),
        ("inputs.scopes", ["auth_keys", "devices:core"]),
        ("inputs.issuer", "https://accounts.google.com"),
        ("options.dependsOn", []),
    ],
)
def test_a_wider_trust_in_ci_is_seen(stack_of: Render, planted: Plant, path: str, value: object) -> None:
    with pytest.raises(AssertionError):
        check_ci_trust(planted(stack_of(**CI), "tailnet-ci-identity", path, value))


@pytest.mark.parametrize("repository", ["me", "me/*", "*/*", "me/a:pull_request", "me/a b", "https://github.com/me/a"])
def test_a_repository_is_one_repository(settings_of: Callable[..., Any], repository: str) -> None:
    with pytest.raises(SettingsError, match=r"tailnet.ci_repository: is refused"):
        settings_of(tailnet={"ci_repository": repository})


def check_old_key_can_be_brought_back(stack: Stack) -> None:
    """That it is given up last is the engine's order (tests/engine)."""
    version = named(stack, "gateway-auth-key-version")
    assert version.inputs["deletionPolicy"] == "DISABLE"
    assert not version.options.get("deleteBeforeReplace")
    assert not named(stack, "tailnet-gateway-key").options.get("deleteBeforeReplace")


@pytest.mark.parametrize("days", [1, 7, 90])
def test_a_key_is_renewed_in_its_last_sixth_at_the_latest(days: int) -> None:
    """Whenever it is made: `period` is another then, and one period long it is the same."""
    life = timedelta(days=days)
    first = datetime(2026, 11, 29, 9, 30, tzinfo=UTC)
    numbers = [period(first + life * step / 600, days) for step in range(1200)]
    for made, number in enumerate(numbers[:600]):
        assert numbers[made + 500] == number + 1, "another one when the last sixth begins"
    assert numbers == sorted(numbers)
    assert len(set(numbers)) <= 4, "and the same in between: 1200 steps are 2.4 periods"


def check_renewed_by_date(stack: Stack) -> None:
    """The gateway's key, not home's: one that nobody needs would let a machine in."""
    now = period(datetime.now(UTC), 90)
    assert named(stack, "tailnet-gateway-key").options["replacementTrigger"] in (now - 1, now)
    assert "replacementTrigger" not in named(stack, "tailnet-home-key").options


@pytest.mark.parametrize("preview", [True, False])
def test_the_gateway_s_key_is_renewed_by_date(stack_of: Render, preview: bool) -> None:
    check_renewed_by_date(stack_of(preview=preview))


@pytest.mark.parametrize(("name", "number"), [("tailnet-gateway-key", 1), ("tailnet-home-key", 277)])
def test_a_key_renewed_at_another_date_is_seen(stack_of: Render, planted: Plant, name: str, number: int) -> None:
    with pytest.raises(AssertionError):
        check_renewed_by_date(planted(stack_of(), name, "options.replacementTrigger", number))


def test_an_old_key_can_be_brought_back(stack_of: Render, planted: Plant) -> None:
    check_old_key_can_be_brought_back(stack_of())
    with pytest.raises(AssertionError):
        check_old_key_can_be_brought_back(
            planted(stack_of(), "gateway-auth-key-version", "inputs.deletionPolicy", "DELETE")
        )


def test_the_lab_lets_in_whom_the_stack_trusts(stack_of: Render) -> None:
    stack = stack_of(tailnet={"join": "federated", "ci_repository": "me/pilotlight"})
    found, identity = plan.read(stack), named(stack, "tailnet-gateway-identity").outputs
    assert found.tailnet.auth_key is None
    assert found.tailnet.trusted == {
        "client_id": identity["id"],
        "issuer": "https://accounts.google.com",
        "subject": found.gateway.subject,
        "audience": identity["audience"],
    }
    assert plan.read(stack_of(**CI)).tailnet.trusted is None, "CI is no gateway"
