"""Least privilege, read from what the program registers: no right that a single resource could carry is wider."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from components.delivery.roles import BY_HAND, DEPLOY, PREVIEW, UNREAD
from lab.read.stack import Stack
from tests.engine.behaviour import at
from tests.engine.google import POOL
from tests.golden.grants_table import ACCOUNT, CONFIG, MEANS, PROJECT_WIDE, grants, is_grant, on_what
from tests.golden.rendered import STACKS as STACKS_KEPT
from tests.golden.rendered import rendered

Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
Extra = Callable[..., Stack]
Check = Callable[[Stack], None]
PRIMITIVE = ("roles/owner", "roles/editor", "roles/viewer")
EVERYBODY = ("allUsers", "allAuthenticatedUsers")
WHOLE: dict[str, Any] = {**CONFIG, "alerts": {"email": "me@example.com"}}
STACKS: list[dict[str, Any]] = [
    WHOLE,
    {},
    {"delivery": {"repository": "me/pilotlight", "owner": False}},
    {"lanes": ["vm"]},
    {"lanes": ["vm"], "vm": {"spot": False}},
]
POOLS = "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pilotlight-github"
DEPLOYER = "serviceAccount:pilotlight-deploy@lab-project.iam.gserviceaccount.com"
PROJECT_GRANT = "gcp:projects/iAMMember:IAMMember"


def check_no_primitive_role(stack: Stack) -> None:
    for grant in grants(stack):
        assert grant.role not in PRIMITIVE, f"{grant.name}: {grant.role} holds rights on everything in the project"


def check_every_role_was_looked_up(stack: Stack) -> None:
    for grant in grants(stack):
        assert grant.role in MEANS, (
            f"{grant.name}: what does {grant.role} allow? Look it up, and say it in tests/golden/grants_table.py"
        )


def check_project_wide_has_a_reason(stack: Stack) -> None:
    for grant in grants(stack):
        if grant.is_project_wide:
            assert grant.role in {role.name for role in PROJECT_WIDE.get(grant.who, ((), ""))[0]}, (
                f"{grant.name}: {grant.role} on the whole project. Grant it on a resource, or give the reason in "
                + "tests/golden/grants_table.py"
            )


def check_nothing_is_taken_away(stack: Stack) -> None:
    """A binding is the whole list of a role's members, and a policy that of all roles: others' grants would go."""
    for resource in filter(is_grant, stack.resources):
        assert resource.type.lower().endswith("iammember"), f"{resource.name}: {resource.type} is whole"


def check_only_own_accounts_get_rights(stack: Stack) -> None:
    own = {account.name for account in stack.of_type(ACCOUNT)}
    own |= {f"pilotlight-github/attribute.may/{may}" for may in ("preview", "deploy") if stack.of_type(POOL)}
    if not stack.of_type(POOL):
        own.add(DEPLOYER)
    for grant in grants(stack):
        assert grant.who not in EVERYBODY, f"{grant.name}: everybody may {MEANS[grant.role]}"
        assert grant.who in own, f"{grant.name}: {grant.who} is no account of this stack"


def check_nothing_is_foreign(stack: Stack) -> None:
    """Rights on this stack's own things: a grant on another's would outlive a look at this code."""
    for resource in filter(is_grant, stack.resources):
        on = on_what(resource)
        assert on is None or re.search("pilotlight-(dev|deploy|preview|state)|keyRings/pilotlight/", on), (
            f"{resource.name}: on {on}"
        )


def check_programs_share_no_account(stack: Stack) -> None:
    used: dict[str, str] = {}
    for resource in stack.resources:
        for account in _accounts(resource.inputs):
            assert "compute@developer" not in account, f"{resource.name}: the default account may edit the project"
            assert used.setdefault(account, resource.name) == resource.name, f"{used[account]} and {resource.name}"
    programs = [account for account in stack.of_type(ACCOUNT) if account.name not in PROJECT_WIDE]
    assert used.keys() == {account.outputs["email"] for account in programs}, "a workflow's account runs no program"


def _accounts(inputs: dict[str, Any]) -> list[str]:
    """The accounts that a service, a job or a machine runs as; a machine without one would get the default one."""
    accounts = [*at(inputs, "template.serviceAccount"), *at(inputs, "template.template.serviceAccount")]
    return [*accounts, *at(inputs, "serviceAccount.email")]


CHECKS: list[Check] = [
    check_no_primitive_role,
    check_every_role_was_looked_up,
    check_project_wide_has_a_reason,
    check_nothing_is_taken_away,
    check_only_own_accounts_get_rights,
    check_nothing_is_foreign,
    check_programs_share_no_account,
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("changes", STACKS, ids=str)
def test_rights_are_the_least(stack_of: Render, check: Check, changes: dict[str, Any]) -> None:
    check(stack_of(**changes))


def test_the_rules_look_at_something(stack_of: Render) -> None:
    found = grants(stack_of(**WHOLE))
    assert len(found) >= 9
    assert {grant.role for grant in found} == MEANS.keys(), "a role that nobody has is left over"
    wide = {grant.who for grant in found if grant.is_project_wide}
    assert wide == PROJECT_WIDE.keys(), "a reason is left over"
    # The tables say how many there are; a role that these two have is in neither list by mistake.
    assert sum(grant.is_project_wide for grant in found) == len(DEPLOY) + len(PREVIEW)


def test_each_type_is_deployed_by_a_role_or_by_hand() -> None:
    """A new kind of resource is red here, until somebody decides who may change it and who reads it."""
    types = {one.type for name in STACKS_KEPT for one in rendered(name).resources if one.type.startswith("gcp:")}
    assert len(types) >= 20
    deployed = tuple(start for role in DEPLOY for start in role.types)
    read = tuple(start for role in PREVIEW for start in role.types)
    assert [token for token in sorted(types) if not token.startswith((*deployed, *BY_HAND))] == []
    assert [token for token in sorted(types) if token.startswith(deployed) and token.startswith(BY_HAND)] == []
    assert [token for token in sorted(types) if not token.startswith((*read, *UNREAD))] == []
    unused = {start for start in (*deployed, *read, *BY_HAND) if not any(token.startswith(start) for token in types)}
    assert unused == {"gcp:compute/regionAutoscaler:"}, "only with `vm.max_replicas`"


PLANTED: list[tuple[Check, str, str, object]] = [
    (check_no_primitive_role, "delivery-deploy-run-admin", "inputs.role", "roles/editor"),
    (check_project_wide_has_a_reason, "delivery-deploy-run-admin", "inputs.role", "roles/iam.serviceAccountUser"),
    (check_project_wide_has_a_reason, "delivery-preview-run-viewer", "inputs.role", "roles/run.admin"),
    (check_only_own_accounts_get_rights, "delivery-deploy-identity", "inputs.member", f"{POOLS}/attribute.actor/me"),
    (check_nothing_is_foreign, "delivery-runs-vm", "inputs.serviceAccountId", "1-compute@developer"),
    (check_no_primitive_role, "burst-weights-reader", "inputs.role", "roles/viewer"),
    (check_every_role_was_looked_up, "burst-weights-reader", "inputs.role", "roles/storage.admin"),
    (check_only_own_accounts_get_rights, "burst-weights-reader", "inputs.member", "allAuthenticatedUsers"),
    (check_only_own_accounts_get_rights, "burst-invoker", "inputs.member", "user:somebody@example.com"),
    (check_nothing_is_foreign, "gateway-console-reader", "inputs.secretId", "projects/lab-project/secrets/other"),
    (check_nothing_is_foreign, "burst-weights-writer", "inputs.bucket", "lab-project-backups"),
    (
        check_programs_share_no_account,
        "burst-service",
        "inputs.template.serviceAccount",
        "pilotlight-dev-gateway@lab-project.iam.gserviceaccount.com",
    ),
    (
        check_programs_share_no_account,
        "gateway-service",
        "inputs.template.serviceAccount",
        "1-compute@developer.gserviceaccount.com",
    ),
]


@pytest.mark.parametrize(("check", "name", "path", "value"), PLANTED, ids=[f"{row[1]}={row[3]}" for row in PLANTED])
def test_a_wider_right_is_seen(
    stack_of: Render, planted: Plant, check: Check, name: str, path: str, value: object
) -> None:
    with pytest.raises(AssertionError, match=name):
        check(planted(stack_of(**WHOLE), name, path, value))


@pytest.mark.parametrize(
    ("check", "kind", "role"),
    [
        (check_no_primitive_role, PROJECT_GRANT, "roles/editor"),
        (check_project_wide_has_a_reason, PROJECT_GRANT, "roles/secretmanager.secretAccessor"),
        (check_project_wide_has_a_reason, "gcp:billing/accountIamMember:AccountIamMember", "roles/run.invoker"),
        (check_nothing_is_taken_away, "gcp:projects/iAMBinding:IAMBinding", "roles/run.invoker"),
        (check_nothing_is_taken_away, "gcp:storage/bucketIAMPolicy:BucketIAMPolicy", "roles/storage.objectViewer"),
    ],
)
def test_one_right_more_is_seen(stack_of: Render, with_extra: Extra, check: Check, kind: str, role: str) -> None:
    stack = stack_of(**WHOLE)
    [account] = [one for one in stack.of_type(ACCOUNT) if one.name == "gateway-account"]
    more = with_extra(stack, kind, "planted", role=role, member=account.outputs["member"], project="lab-project")
    with pytest.raises(AssertionError, match="planted"):
        check(more)
