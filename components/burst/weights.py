"""The burst lane's weights: a bucket, and the Cloud Run job that fills it once.

Owns: the bucket, its grants, the job with its script and identity. Does not own: how a file is checked
(`fetch_weights`, which is the job's whole program).

The job starts by itself when it is created and when model, commit, image or script change; `up` doesn't wait for it.
If it fails four times, the lane stays cold until the owner starts it again (`next_steps` has the command).
"""

import hashlib
from pathlib import Path
from typing import Final, cast

import pulumi
from pulumi_gcp import cloudrunv2, serviceaccount, storage

from components.burst import container
from components.grants import Grants
from components.mounted_secret import mounted_secret
from components.settings import Settings

SCRIPT_FOLDER: Final = "/etc/pilotlight/weights"
SCRIPT_FILE: Final = "fetch_weights.py"
MEMORY: Final = "8Gi"
"""Cloud Run holds a file in the container's memory until it is written to the bucket; shards have 5 GB at most."""


def script() -> str:
    """The job's program."""
    return (Path(__file__).parent / SCRIPT_FILE).read_text()


def arguments(settings: Settings) -> list[str]:
    """The job's command line, after `python3`."""
    model = settings.contract.model
    return [f"{SCRIPT_FOLDER}/{SCRIPT_FILE}", model.weights, model.revision, container.FOLDER]


def token(settings: Settings) -> str:
    """Suffix of the execution's name: another model, commit, image or script is another execution, all else is none."""
    text = "\0".join((settings.burst.fetch_image, *arguments(settings), script()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class WeightStore(pulumi.ComponentResource):
    """`bucket` is the bucket's name; `grants` are what a reader has to wait for."""

    bucket: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        reader: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pilotlight:gcp:WeightStore", name, None, opts)
        self._name, self._settings = name, settings
        self._own = pulumi.ResourceOptions(parent=self)
        self._new_grants = Grants(name)
        self._cloud_name = f"{settings.prefix}-weights"
        bucket = storage.Bucket(
            f"{name}-bucket",
            # Bucket names are unique in the whole world: the project's is, too.
            name=f"{settings.project}-{self._cloud_name}",
            project=settings.project,
            # Beside the GPU. Upper case is what Google answers; otherwise every preview would show a difference.
            location=settings.region.upper(),
            storage_class="STANDARD",
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            # Everything in it can be fetched again, so nothing is kept twice and `destroy` may delete it as it is.
            versioning={"enabled": False},
            soft_delete_policy={"retention_duration_seconds": 0},
            force_destroy=True,
            opts=self._own,
        )
        account = serviceaccount.Account(
            f"{name}-account",
            account_id=self._cloud_name,
            project=settings.project,
            display_name="pilotlight weights job: writes the weights bucket, nothing else",
            opts=self._own,
        )
        self.bucket, self.account = bucket.name, account
        self.grants: list[pulumi.Resource] = [self._grant("reader", "roles/storage.objectViewer", reader)]
        writer = self._grant("writer", "roles/storage.objectUser", account.member)
        self._job(account, writer)
        self.register_outputs({"bucket": self.bucket})

    def _grant(self, who: str, role: str, member: pulumi.Input[str]) -> storage.BucketIAMMember:
        return storage.BucketIAMMember(
            f"{self._name}-{who}",
            bucket=self.bucket,
            role=role,
            member=member,
            opts=pulumi.ResourceOptions(parent=self, hooks=self._new_grants.made),
        )

    def _job(self, account: serviceaccount.Account, writer: pulumi.Resource) -> None:
        settings = self._settings
        program = mounted_secret(
            f"{self._name}-script",
            f"{self._cloud_name}-script",
            script(),
            project=settings.project,
            reader=account.member,
            grants=self._new_grants,
            parent=self,
        )
        job: cloudrunv2.JobTemplateTemplateContainerArgsDict = {
            "name": "fetch",
            "image": settings.burst.fetch_image,
            "commands": ["python3"],
            "args": arguments(settings),
            # 8 GiB want two CPUs.
            "resources": {"limits": {"cpu": "2", "memory": MEMORY}},
            "volume_mounts": [
                {"name": "script", "mount_path": SCRIPT_FOLDER},
                {"name": "weights", "mount_path": container.FOLDER},
            ],
        }
        cloudrunv2.Job(
            f"{self._name}-job",
            name=self._cloud_name,
            project=settings.project,
            location=settings.region,
            deletion_protection=False,
            start_execution_token=token(settings),
            template={
                "task_count": 1,
                "template": {
                    "service_account": account.email,
                    "execution_environment": "EXECUTION_ENVIRONMENT_GEN2",
                    "timeout": "3600s",
                    "max_retries": 3,
                    "containers": [job],
                    "volumes": [
                        # A job's volume has the fields of a service's; the SDK has a type for each.
                        cast(cloudrunv2.JobTemplateTemplateVolumeArgsDict, program.volume("script", SCRIPT_FILE)),
                        {
                            "name": "weights",
                            "gcs": {"bucket": self.bucket, "read_only": False, "mount_options": ["implicit-dirs"]},
                        },
                    ],
                },
            },
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[writer, program.grant], hooks=self._new_grants.counted
            ),
        )
