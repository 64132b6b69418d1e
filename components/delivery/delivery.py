"""The Google side of the workflows: whom it lets in, and where the states lie.

Owns: the pool with its two ways in, the two accounts and their rights, the bucket of the states, the key of their
secrets. Does not own: the roles on the project (`roles`), moving a state into the bucket (docs/ship.md).

There is one of it in a Google project, so the names have no stack's in them. The other stacks (`delivery.owner: false`)
let its deploying account run their programs as their accounts, and make nothing else.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Final

import pulumi
from pulumi_gcp import iam, kms, projects, serviceaccount, storage

from components.delivery.roles import DEPLOY, PREVIEW, Role
from components.settings import Settings
from components.settings.stack import PULUMI_PROJECT

ISSUER: Final = "https://token.actions.githubusercontent.com"
DEPLOYER: Final = f"{PULUMI_PROJECT}-deploy"
PREVIEWER: Final = f"{PULUMI_PROJECT}-preview"
KEPT_VERSIONS: Final = 100
"""Older states of each stack that stay in the bucket; each is some 500 KB, estimated from a state of 90 resources."""


class Delivery(pulumi.ComponentResource):
    """`variables` are the repository's variables for its workflows, as lines `NAME=value`; None: another stack's."""

    variables: pulumi.Output[str] | None = None

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        accounts: Mapping[str, serviceaccount.Account],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pilotlight:gcp:Delivery", name, None, opts)
        self._name, self._settings = name, settings
        self._own = pulumi.ResourceOptions(parent=self)
        deployer: pulumi.Input[str] = f"serviceAccount:{DEPLOYER}@{settings.project}.iam.gserviceaccount.com"
        if settings.owns_delivery:
            account = self._account(DEPLOYER, "changes what the stacks declare")
            deployer = account.member
            self._foundation(account, self._account(PREVIEWER, "reads, changes nothing"))
        for whose, account in accounts.items():
            serviceaccount.IAMMember(
                f"{name}-runs-{whose}",
                service_account_id=account.name,
                role="roles/iam.serviceAccountUser",
                member=deployer,
                opts=self._own,
            )
        self.register_outputs({"variables": self.variables})

    def _foundation(self, deployer: serviceaccount.Account, previewer: serviceaccount.Account) -> None:
        settings = self._settings
        pool = iam.WorkloadIdentityPool(
            f"{self._name}-pool",
            project=settings.project,
            workload_identity_pool_id=f"{PULUMI_PROJECT}-github",
            display_name="pilotlight: GitHub's workflows",
            opts=self._own,
        )
        branch = f"assertion.ref == 'refs/heads/{settings.delivery.branch}'"
        environments = ", ".join(f"'{one}'" for one in settings.delivery.environments)
        bucket, key = self._state(), self._key()
        preview = self._way_in(pool, "preview", f"(assertion.event_name == 'pull_request' || {branch})")
        deploy = self._way_in(
            pool,
            "deploy",
            f"{branch} && has(assertion.environment) && assertion.environment in [{environments}]",
        )
        self._grant("preview", previewer, pool, bucket, key, PREVIEW)
        self._grant("deploy", deployer, pool, bucket, key, DEPLOY)
        found = {
            "GCP_PREVIEW_PROVIDER": preview.name,
            "GCP_PREVIEW_ACCOUNT": previewer.email,
            "GCP_DEPLOY_PROVIDER": deploy.name,
            "GCP_DEPLOY_ACCOUNT": deployer.email,
            "PULUMI_BACKEND_URL": bucket.name.apply(lambda bucket: f"gs://{bucket}"),
            "PULUMI_SECRETS_PROVIDER": key.id.apply(lambda key: f"gcpkms://{key}"),
            "PULUMI_STACKS": json.dumps(settings.delivery.environments),
        }
        self.variables = pulumi.Output.all(**found).apply(
            lambda found: "\n".join(f"{name}={shlex.quote(value)}" for name, value in found.items())
        )

    def _account(self, account_id: str, what: str) -> serviceaccount.Account:
        return serviceaccount.Account(
            f"{self._name}-{account_id.removeprefix(f'{PULUMI_PROJECT}-')}er",
            account_id=account_id,
            project=self._settings.project,
            display_name=f"pilotlight workflows: {what}",
            opts=self._own,
        )

    def _way_in(self, pool: iam.WorkloadIdentityPool, may: str, condition: str) -> iam.WorkloadIdentityPoolProvider:
        """Lets in those of the repository's workflows that meet the condition, and marks them with what they may.

        Not by the subject: repositories made since July 2026 have numbers in it (GitHub's immutable subject claims).
        """
        delivery = self._settings.delivery
        whose = f"assertion.repository == '{delivery.repository}'"
        if delivery.repository_id:
            whose += f" && assertion.repository_id == '{delivery.repository_id}'"
        return iam.WorkloadIdentityPoolProvider(
            f"{self._name}-{may}",
            project=self._settings.project,
            workload_identity_pool_id=pool.workload_identity_pool_id,
            workload_identity_pool_provider_id=may,
            display_name=f"pilotlight: {may}",
            oidc={"issuer_uri": ISSUER},
            # The subject stands in Google's logs and has 127 bytes at most, which a repository's long name exceeds.
            attribute_mapping={
                "google.subject": "assertion.repository_id + ':' + assertion.run_id",
                "attribute.may": f"'{may}'",
            },
            attribute_condition=f"{whose} && {condition}",
            opts=self._own,
        )

    def _grant(
        self,
        may: str,
        account: serviceaccount.Account,
        pool: iam.WorkloadIdentityPool,
        bucket: storage.Bucket,
        key: kms.CryptoKey,
        roles: tuple[Role, ...],
    ) -> None:
        """Lets what came in by one way be one account, and that account do its work."""
        name, member = f"{self._name}-{may}", account.member
        serviceaccount.IAMMember(
            f"{name}-identity",
            service_account_id=account.name,
            role="roles/iam.workloadIdentityUser",
            member=pool.name.apply(lambda pool: f"principalSet://iam.googleapis.com/{pool}/attribute.may/{may}"),
            opts=self._own,
        )
        state_role = "roles/storage.objectUser" if may == "deploy" else "roles/storage.objectViewer"
        storage.BucketIAMMember(f"{name}-state", bucket=bucket.name, role=state_role, member=member, opts=self._own)
        # Pulumi's own key lies encrypted beside the state; only who makes a new stack encrypts one.
        kms.CryptoKeyIAMMember(
            f"{name}-key", crypto_key_id=key.id, role="roles/cloudkms.cryptoKeyDecrypter", member=member, opts=self._own
        )
        for role in roles:
            projects.IAMMember(
                f"{name}-{role.name.removeprefix('roles/').replace('.', '-')}",
                project=self._settings.project,
                role=role.name,
                member=member,
                opts=self._own,
            )

    def _state(self) -> storage.Bucket:
        """The bucket of the states. Without it nobody knows what is deployed: it outlives the stack that made it."""
        return storage.Bucket(
            f"{self._name}-state",
            # Bucket names are unique in the whole world: the project's is, too.
            name=f"{self._settings.project}-{PULUMI_PROJECT}-state",
            project=self._settings.project,
            location=self._settings.region.upper(),
            storage_class="STANDARD",
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            versioning={"enabled": True},
            lifecycle_rules=[
                {
                    "action": {"type": "Delete"},
                    "condition": {"num_newer_versions": KEPT_VERSIONS, "with_state": "ARCHIVED"},
                }
            ],
            force_destroy=False,
            opts=self._kept(),
        )

    def _key(self) -> kms.CryptoKey:
        """The key of the states' secrets. Not rotated: each version costs, and all of them stay needed."""
        ring = kms.KeyRing(
            f"{self._name}-ring",
            name=PULUMI_PROJECT,
            project=self._settings.project,
            location=self._settings.region,
            opts=self._kept(),
        )
        return kms.CryptoKey(
            f"{self._name}-key", name="state", key_ring=ring.id, purpose="ENCRYPT_DECRYPT", opts=self._kept()
        )

    def _kept(self) -> pulumi.ResourceOptions:
        """Neither replaced nor deleted: not by another region, nor by a setting that goes, nor by `destroy`."""
        return pulumi.ResourceOptions(
            parent=self, protect=True, retain_on_delete=True, ignore_changes=["location", "project"]
        )
