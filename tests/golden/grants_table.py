"""The tables in docs/grants.md: every right that the stack hands out, read from what it registers.

Owns: what counts as a grant, what each role lets one do, the tables' form. Does not own: the grants (their components),
what a grant must not be (`tests.unit.test_grants`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from components.delivery.roles import DEPLOY, PREVIEW, Role
from lab.read.cloud import Cloud
from lab.read.stack import ROOT, Resource, Stack, config_of, render

PAGE: Final = ROOT / "docs" / "grants.md"
START, END = "<!-- grants: made by `make golden` -->", "<!-- grants end -->"
ACCOUNT: Final = "gcp:serviceaccount/account:Account"
IDENTITY: Final = "tailscale:index/federatedIdentity:FederatedIdentity"
CONFIG: Final[Mapping[str, Any]] = {
    "lanes": ["home", "burst", "vm"],
    "tailnet": {"join": "federated", "ci_repository": "me/pilotlight"},
    "delivery": {"repository": "me/pilotlight", "environments": ["dev", "prod"]},
}
"""Every component that hands out a right; with `tailnet.join: auth_key` the gateway's key is one secret more."""

MEANS: Final[Mapping[str, str]] = {
    "roles/cloudkms.cryptoKeyDecrypter": "decrypts",
    "roles/cloudkms.viewer": "reads keys' settings",
    "roles/compute.instanceAdmin.v1": "changes machines, disks and groups",
    "roles/compute.networkAdmin": "changes networks, NAT and balancers",
    "roles/compute.securityAdmin": "changes firewalls",
    "roles/compute.viewer": "reads machines and networks",
    "roles/iam.securityReviewer": "reads who may do what",
    "roles/iam.serviceAccountUser": "runs programs as this account",
    "roles/iam.serviceAccountViewer": "reads accounts",
    "roles/iam.workloadIdentityPoolViewer": "reads pools",
    "roles/iam.workloadIdentityUser": "is this account",
    "roles/logging.configWriter": "changes metrics and saved queries of logs, and where logs go",
    "roles/logging.viewer": "reads logs and their metrics",
    "roles/monitoring.editor": "changes alerts and dashboards",
    "roles/monitoring.viewer": "reads alerts and dashboards",
    "roles/run.admin": "changes Cloud Run's services and jobs, and who may call them",
    "roles/run.invoker": "calls the service",
    "roles/run.viewer": "reads Cloud Run's services and jobs",
    "roles/secretmanager.admin": "changes and reads secrets, and who may read them",
    "roles/secretmanager.secretAccessor": "reads the secret",
    "roles/secretmanager.viewer": "reads secrets' names and settings",
    "roles/serviceusage.serviceUsageViewer": "reads which APIs are on",
    "roles/storage.bucketViewer": "reads buckets' settings",
    "roles/storage.objectUser": "reads, writes and deletes objects",
    "roles/storage.objectViewer": "reads objects",
}
"""What a role lets one do, looked up in Google's list of predefined roles. One that is missing here was not."""
PROJECT_WIDE: Final[Mapping[str, tuple[tuple[Role, ...], str]]] = {
    "delivery-deployer": (DEPLOY, "what a later commit declares is not there yet to be granted on"),
    "delivery-previewer": (PREVIEW, "a look for drift reads the settings of all that is declared, and no content"),
}
"""Accounts with roles on the whole project -> these roles, and why they are not on resources."""


@dataclass(frozen=True)
class Grant:
    """One right: who may do what, on what."""

    name: str
    """The resource's, in Pulumi."""
    kind: str
    """Type token."""
    who: str
    """The account's name in Pulumi, or the member as Google writes it."""
    role: str
    on: str

    @property
    def is_project_wide(self) -> bool:
        return self.kind.startswith(("gcp:projects/", "gcp:organizations/", "gcp:folder/", "gcp:billing/"))


def whole() -> Stack:
    """The stack of the tables."""
    cloud = Cloud(port=8787, auth_key="tskey-auth-golden")
    own = {f"pilotlight:{key}": json.dumps(value) for key, value in CONFIG.items()}
    return render("dev", {**cloud.config(), **config_of("dev"), **own}, cloud.compute)


def is_grant(resource: Resource) -> bool:
    """Any resource of a policy: one member's (`IamMember`), all of a role's (`IamBinding`), or all (`IamPolicy`)."""
    return resource.type.startswith("gcp:") and resource.type.lower().endswith(("iammember", "iambinding", "iampolicy"))


def grants(stack: Stack) -> list[Grant]:
    """Google's, in the order of their account, resource and role."""
    accounts = {str(one.outputs["member"]): one.name for one in stack.of_type(ACCOUNT)}
    found = [_grant(resource, accounts) for resource in stack.resources if is_grant(resource)]
    return sorted(found, key=lambda grant: (grant.who, grant.on, grant.role))


def on_what(resource: Resource) -> str | None:
    """The one thing that a right is on; None: the project."""
    keys = ("secretId", "bucket", "name", "cryptoKeyId", "serviceAccountId")
    return next((str(resource.inputs[key]) for key in keys if key in resource.inputs), None)


def _grant(resource: Resource, accounts: Mapping[str, str]) -> Grant:
    inputs = resource.inputs
    member = str(inputs.get("member", inputs.get("members")))
    on = on_what(resource)
    return Grant(
        name=resource.name,
        kind=resource.type,
        # A pool's name begins with the project's number.
        who=accounts.get(member, member.rpartition("/workloadIdentityPools/")[2] or member),
        role=str(inputs.get("role")),
        on="the project" if on is None else on.rsplit("/", 1)[-1].partition("@")[0],
    )


def _google(stack: Stack) -> Iterator[str]:
    yield "| account | may | on | by |"
    yield "|---|---|---|---|"
    for grant in grants(stack):
        yield f"| `{grant.who}` | {MEANS[grant.role]} (`{grant.role}`) | `{grant.on}` | `{grant.name}` |"


def _project_wide() -> Iterator[str]:
    for account, (_, why) in PROJECT_WIDE.items():
        yield f"- `{account}` has its roles on the whole project: {why}."


def _without(stack: Stack) -> Iterator[str]:
    holders = {grant.who for grant in grants(stack)}
    for account in stack.of_type(ACCOUNT):
        if account.name not in holders:
            yield f"- `{account.name}` has no right at all."


def _tailscale(stack: Stack) -> Iterator[str]:
    yield "| identity | proves itself by | may | for machines of |"
    yield "|---|---|---|---|"
    for one in stack.of_type(IDENTITY):
        issuer = str(one.inputs["issuer"]).removeprefix("https://")
        # A Google account's subject is a number that only Google knows.
        subject = str(one.inputs["subject"])
        for claim, value in one.inputs.get("customClaimRules", {}).items():
            subject += f" with `{claim}` {value}"
        proof = f"`{issuer}`, {'its account' if subject.isdigit() else subject}"
        scopes = ", ".join(f"`{scope}`" for scope in one.inputs["scopes"])
        yield f"| `{one.name}` | {proof} | {scopes} | {', '.join(f'`{tag}`' for tag in one.inputs['tags'])} |"


def tables(stack: Stack) -> str:
    """Google's grants, the accounts that have none, and Tailscale's identities."""
    return "\n".join([*_google(stack), "", *_project_wide(), *_without(stack), "", *_tailscale(stack)])


def page(stack: Stack) -> str:
    """docs/grants.md with its tables renewed."""
    before, _, rest = PAGE.read_text().partition(START)
    return f"{before}{START}\n{tables(stack)}\n{END}{rest.partition(END)[2]}"
