"""A text or a program that one identity may read: a secret, its version, and the volume that mounts it as a file.

Owns: the secret, its versions, and the grant of its one reader. Does not own: the content, or the container that mounts
it. Secret Manager is also the place that Cloud Run mounts a plain file from without an image being built.
"""

from dataclasses import dataclass, replace

import pulumi
from pulumi_gcp import cloudrunv2, secretmanager

from components.grants import Grants


@dataclass(frozen=True)
class MountedSecret:
    """A reader has to wait for `grant`, and until it counts (`grants`)."""

    secret: secretmanager.Secret
    version: secretmanager.SecretVersion
    grant: secretmanager.SecretIamMember

    def further(
        self, name: str, content: pulumi.Input[str], *, parent: pulumi.Resource, once_replaced: str | None = None
    ) -> "MountedSecret":
        """The same secret with another content in a version of its own, beside the first."""
        version = _version(name, self.secret.id, content, parent=parent, once_replaced=once_replaced)
        return replace(self, version=version)

    def volume(self, name: str, file: str) -> cloudrunv2.ServiceTemplateVolumeArgsDict:
        """The volume that holds it as `file`, in the version that it was tested with."""
        item: cloudrunv2.ServiceTemplateVolumeSecretItemArgsDict = {"path": file, "version": self.version.version}
        return {
            "name": name,
            # Cloud Run's own default: left out, its answer would be a change for the provider, at every `up`.
            "secret": {"secret": self.version.secret, "items": [item], "default_mode": 0o444},
        }


def mounted_secret(
    name: str,
    secret_id: str,
    content: pulumi.Input[str],
    *,
    project: str,
    reader: pulumi.Input[str],
    grants: Grants,
    parent: pulumi.Resource,
    encoded: bool = False,
    once_replaced: str | None = None,
    suffix: str = "",
) -> MountedSecret:
    """Keeps `content` for `reader` alone; `encoded`: it is base64 of the bytes to keep.

    `once_replaced` is the fate of an old version; Google's default: deleted. `suffix` ends the version's name.
    """
    own = pulumi.ResourceOptions(parent=parent)
    secret = secretmanager.Secret(name, secret_id=secret_id, project=project, replication={"auto": {}}, opts=own)
    version = _version(
        f"{name}-version{suffix}", secret.id, content, parent=parent, encoded=encoded, once_replaced=once_replaced
    )
    grant = secretmanager.SecretIamMember(
        f"{name}-reader",
        project=project,
        secret_id=secret.id,
        role="roles/secretmanager.secretAccessor",
        member=reader,
        opts=pulumi.ResourceOptions(parent=parent, hooks=grants.made),
    )
    return MountedSecret(secret, version, grant)


def _version(
    name: str,
    secret: pulumi.Input[str],
    content: pulumi.Input[str],
    *,
    parent: pulumi.Resource,
    encoded: bool = False,
    once_replaced: str | None = None,
) -> secretmanager.SecretVersion:
    return secretmanager.SecretVersion(
        name,
        secret=secret,
        secret_data=pulumi.Output.secret(content),
        is_secret_data_base64=encoded or None,
        deletion_policy=once_replaced,
        # A revision that still serves reads the version it pins, so the old one goes last.
        opts=pulumi.ResourceOptions(parent=parent, delete_before_replace=False),
    )
