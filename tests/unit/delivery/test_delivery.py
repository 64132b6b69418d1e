"""Who is let in by GitHub's token, what the two accounts may do, and that a state outlives its stack."""

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from components.settings import Settings
from components.settings.section import SettingsError
from lab.read.stack import UNKNOWN, Resource, Stack

Make = Callable[..., Settings]
Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
DELIVERY: dict[str, Any] = {"delivery": {"repository": "me/pilotlight", "environments": ["dev", "prod"]}}
ANOTHERS: dict[str, Any] = {"delivery": {"repository": "me/pilotlight", "owner": False}}
MAIN = {"repository": "me/pilotlight", "repository_id": "7", "event_name": "push", "ref": "refs/heads/main"}
PULL = MAIN | {"event_name": "pull_request", "ref": "refs/pull/3/merge"}
BUCKET = "gcp:storage/bucket:Bucket"


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource


class Claims(dict[str, str]):
    """A token's claims, as CEL reads them: one that is missing is an error, and an error lets nobody in."""

    def __getattr__(self, name: str) -> str:
        return self[name]


def lets_in(stack: Stack, may: str, claims: dict[str, str]) -> bool:
    """Google's verdict. The conditions use what CEL and Python write alike, but for `&&`, `||` and `has`."""
    condition = str(named(stack, f"delivery-{may}").inputs["attributeCondition"])
    text = condition.replace("&&", " and ").replace("||", " or ")
    text = re.sub(r"has\(assertion\.(\w+)\)", r"('\1' in assertion)", text)
    try:
        return bool(eval(text, {"__builtins__": {}}, {"assertion": Claims(claims)}))
    except KeyError:
        return False


TOKENS: list[tuple[str, dict[str, str], bool, bool]] = [
    ("a pull request", PULL, True, False),
    ("main without an environment", MAIN, True, False),
    ("main, scheduled", MAIN | {"event_name": "schedule"}, True, False),
    ("main, for dev", MAIN | {"environment": "dev"}, True, True),
    ("main, for prod", MAIN | {"environment": "prod"}, True, True),
    ("main, for an environment nobody declared", MAIN | {"environment": "test"}, True, False),
    ("a branch that names prod", MAIN | {"environment": "prod", "ref": "refs/heads/x"}, False, False),
    ("a pull request that names prod", PULL | {"environment": "prod"}, True, False),
    ("a tag that is called main", MAIN | {"environment": "prod", "ref": "refs/tags/main"}, False, False),
    ("another repository", PULL | {"repository": "you/pilotlight"}, False, False),
    ("a fork's main", MAIN | {"repository": "you/pilotlight", "environment": "prod"}, False, False),
    ("a longer name", MAIN | {"repository": "me/pilotlight-2", "environment": "prod"}, False, False),
    ("nothing", {}, False, False),
]


def check_who_is_let_in(stack: Stack) -> None:
    for told, claims, preview, deploy in TOKENS:
        assert lets_in(stack, "preview", claims) == preview, told
        assert lets_in(stack, "deploy", claims) == deploy, told


def check_each_way_leads_to_one_account(stack: Stack) -> None:
    pool = named(stack, "delivery-pool").outputs["name"]
    for may in ("preview", "deploy"):
        way = named(stack, f"delivery-{may}").inputs
        assert way["attributeMapping"]["attribute.may"] == f"'{may}'"
        assert way["oidc"] == {"issuerUri": "https://token.actions.githubusercontent.com"}
        identity = named(stack, f"delivery-{may}-identity").inputs
        assert identity["member"] == f"principalSet://iam.googleapis.com/{pool}/attribute.may/{may}"
        assert identity["serviceAccountId"].endswith(f"/pilotlight-{may}@lab-project.iam.gserviceaccount.com")


def check_preview_changes_nothing(stack: Stack) -> None:
    member = named(stack, "delivery-previewer").outputs["member"]
    roles = {one.inputs["role"] for one in stack.resources if one.inputs.get("member") == member}
    assert len(roles) >= 10
    reading = ("iewer", "iam.securityReviewer", "cloudkms.cryptoKeyDecrypter")
    assert [role for role in roles if not role.endswith(reading)] == []


def check_nobody_widens_rights(stack: Stack) -> None:
    """No role that makes accounts or keys of accounts, grants on the project, or acts as any account."""
    for one in stack.resources:
        role = str(one.inputs.get("role", ""))
        if one.type.startswith("gcp:projects/"):
            assert not re.search(
                r"^(owner|editor)$|[iI]am.*Admin|Creator|serviceAccountUser|KeyAdmin", role.partition("/")[2]
            )


def check_the_state_outlives_its_stack(stack: Stack) -> None:
    bucket = named(stack, "delivery-state").inputs
    assert bucket["versioning"] == {"enabled": True}
    assert bucket["forceDestroy"] is False
    assert bucket["publicAccessPrevention"] == "enforced"
    assert bucket["uniformBucketLevelAccess"] is True
    for name in ("delivery-state", "delivery-ring", "delivery-key"):
        options = named(stack, name).options
        assert options["protect"], name
        assert options["retainOnDelete"], name
        assert "location" in options["ignoreChanges"], f"{name}: another region would replace it"


CHECKS = [
    check_who_is_let_in,
    check_each_way_leads_to_one_account,
    check_preview_changes_nothing,
    check_nobody_widens_rights,
    check_the_state_outlives_its_stack,
]
PLANTED: list[tuple[Callable[[Stack], None], str, str, object]] = [
    (check_who_is_let_in, "delivery-deploy", "inputs.attributeCondition", "assertion.repository == 'me/pilotlight'"),
    (
        check_who_is_let_in,
        "delivery-deploy",
        "inputs.attributeCondition",
        "assertion.ref == 'refs/heads/main' && assertion.environment in ['dev', 'prod']",
    ),
    (
        check_who_is_let_in,
        "delivery-preview",
        "inputs.attributeCondition",
        "assertion.repository == 'me/pilotlight' && assertion.event_name == 'pull_request' || "
        "assertion.ref == 'refs/heads/main'",
    ),
    (
        check_each_way_leads_to_one_account,
        "delivery-preview",
        "inputs.attributeMapping",
        {"google.subject": "assertion.sub", "attribute.may": "'deploy'"},
    ),
    (check_each_way_leads_to_one_account, "delivery-deploy", "inputs.oidc.issuerUri", "https://gitlab.com"),
    (check_preview_changes_nothing, "delivery-preview-state", "inputs.role", "roles/storage.objectUser"),
    (check_nobody_widens_rights, "delivery-deploy-run-admin", "inputs.role", "roles/resourcemanager.projectIamAdmin"),
    (check_nobody_widens_rights, "delivery-deploy-run-admin", "inputs.role", "roles/iam.serviceAccountUser"),
    (check_the_state_outlives_its_stack, "delivery-state", "inputs.versioning.enabled", False),
    (check_the_state_outlives_its_stack, "delivery-key", "options.protect", False),
    (check_the_state_outlives_its_stack, "delivery-state", "options.retainOnDelete", ...),
]


@pytest.mark.parametrize("check", CHECKS)
def test_delivery_is_safe(stack_of: Render, check: Callable[[Stack], None]) -> None:
    check(stack_of(**DELIVERY))


@pytest.mark.parametrize(("check", "name", "path", "value"), PLANTED, ids=[f"{p[1]}.{p[2]}={p[3]}" for p in PLANTED])
def test_an_unsafe_delivery_is_seen(
    stack_of: Render, planted: Plant, check: Callable[[Stack], None], name: str, path: str, value: object
) -> None:
    with pytest.raises((AssertionError, KeyError)):
        check(planted(stack_of(**DELIVERY), name, path, value))


def test_a_repository_s_number_closes_out_a_later_one_of_its_name(stack_of: Render) -> None:
    stack = stack_of(delivery=DELIVERY["delivery"] | {"repository_id": 7})
    check_who_is_let_in(stack)
    assert not lets_in(stack, "preview", PULL | {"repository_id": "8"})
    assert not lets_in(stack, "deploy", MAIN | {"environment": "dev", "repository_id": "8"})


def test_another_branch_is_deployed_from(stack_of: Render) -> None:
    stack = stack_of(delivery=DELIVERY["delivery"] | {"branch": "release"})
    assert lets_in(stack, "deploy", MAIN | {"environment": "dev", "ref": "refs/heads/release"})
    assert not lets_in(stack, "deploy", MAIN | {"environment": "dev"})


def test_variables_are_what_a_shell_and_github_read(stack_of: Render) -> None:
    stack = stack_of(**DELIVERY)
    found = dict(word.split("=", 1) for word in shlex.split(stack.outputs["delivery"]))
    provider = named(stack, "delivery-deploy").outputs["name"]
    assert found["GCP_DEPLOY_PROVIDER"] == provider
    assert found["GCP_DEPLOY_ACCOUNT"] == "pilotlight-deploy@lab-project.iam.gserviceaccount.com"
    assert found["PULUMI_BACKEND_URL"] == f"gs://{named(stack, 'delivery-state').inputs['name']}"
    assert found["PULUMI_SECRETS_PROVIDER"] == f"gcpkms://{named(stack, 'delivery-key').outputs['id']}"
    assert json.loads(found["PULUMI_STACKS"]) == ["dev", "prod"]
    assert stack_of(preview=True, **DELIVERY).outputs["delivery"] == UNKNOWN


def test_its_apis_are_on(stack_of: Render) -> None:
    on = {str(one.inputs["service"]).partition(".")[0] for one in stack_of(lanes=["vm"], **DELIVERY).resources
          if one.name.startswith("apis-")}  # fmt: skip
    assert {"cloudkms", "iamcredentials", "storage", "sts"} <= on


def test_another_stack_only_lets_its_programs_be_deployed(stack_of: Render) -> None:
    stack = stack_of(**ANOTHERS)
    own = [one for one in stack.resources if one.name.startswith("delivery-")]
    assert {one.name for one in own} == {"delivery-runs-gateway", "delivery-runs-vm"}
    assert {one.inputs["member"] for one in own} == {
        "serviceAccount:pilotlight-deploy@lab-project.iam.gserviceaccount.com"
    }
    assert "delivery" not in stack.outputs


def test_without_a_repository_there_is_none(stack_of: Render) -> None:
    stack = stack_of()
    assert not [one.name for one in stack.resources if one.name.startswith("delivery")]
    assert not stack.of_type(BUCKET)


@pytest.mark.parametrize(
    ("repository", "fix"),
    [
        ("me", "set it to me/pilotlight"),
        ("https://github.com/me/mine", "set it to me/mine"),
        ("git@github.com:me/mine.git", "set it to me/mine"),
        ("me/mine/", "set it to me/mine"),
        ("me/*", "set it to me/pilotlight"),
        ("me/a' || true || '", "set it to me/pilotlight"),
        ("me/mine:ref:refs/heads/main", "set it to me/pilotlight"),
        (f"{'m' * 40}/mine", "set it to me/pilotlight"),
    ],
)
def test_a_repository_is_one_repository(settings_of: Make, repository: str, fix: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings_of(delivery={"repository": repository})
    [line] = refused.value.problems
    assert line.startswith(
        f"delivery.repository: one GitHub repository as owner/name, is {repository!r}. Consequence: "
    )
    assert line.endswith(f"Fix: {fix}.")


@pytest.mark.parametrize("given", [{"branch": "release"}, {"environments": ["prod"]}, {"repository_id": 7}], ids=str)
def test_who_lets_the_workflows_in_says_whom(settings_of: Make, given: dict[str, Any]) -> None:
    [name] = given
    with pytest.raises(SettingsError, match=rf"delivery\.{name}: only for the stack with `delivery.owner: true`"):
        settings_of(delivery={**ANOTHERS["delivery"], **given})


@pytest.mark.parametrize("given", [{"environments": []}, {"environments": ["a'b"]}, {"branch": "a'b"}], ids=str)
def test_nothing_ends_the_condition_s_quotes(settings_of: Make, given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"delivery\."):
        settings_of(delivery={**DELIVERY["delivery"], **given})
