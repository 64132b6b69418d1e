"""What the two accounts of the workflows may do in the project.

Owns: each role with what it is for. Does not own: granting them (`delivery`), rights on single resources, which stand
beside these.

Neither may make an account, grant a role on the project or change this delivery: a workflow that could, could make
itself the project's owner. So a lane that comes or goes, an API, a bucket: a person's `pulumi up`.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Role:
    """One predefined role of Google's on the project."""

    name: str
    types: tuple[str, ...]
    """Starts of the type tokens that it changes or reads."""


_MACHINES: Final = (
    "gcp:compute/address:",
    "gcp:compute/disk:",
    "gcp:compute/instance:",
    "gcp:compute/instanceTemplate:",
    "gcp:compute/regionAutoscaler:",
    "gcp:compute/regionInstanceGroupManager:",
)
_NETWORK: Final = (
    "gcp:compute/forwardingRule:",
    "gcp:compute/network:",
    "gcp:compute/regionBackendService:",
    "gcp:compute/regionHealthCheck:",
    "gcp:compute/router:",
    "gcp:compute/routerNat:",
    "gcp:compute/subnetwork:",
)
DEPLOY: Final = (
    Role("roles/run.admin", ("gcp:cloudrunv2/",)),
    Role("roles/secretmanager.admin", ("gcp:secretmanager/",)),
    Role("roles/compute.instanceAdmin.v1", _MACHINES),
    Role("roles/compute.networkAdmin", _NETWORK),
    Role("roles/compute.securityAdmin", ("gcp:compute/firewall:",)),
    Role("roles/monitoring.editor", ("gcp:monitoring/",)),
    Role("roles/logging.configWriter", ("gcp:logging/",)),
)
"""What a deployment changes. On the project, since what a later commit declares is not there to be granted on yet."""
PREVIEW: Final = (
    Role("roles/run.viewer", ("gcp:cloudrunv2/",)),
    Role("roles/secretmanager.viewer", ("gcp:secretmanager/",)),
    Role("roles/compute.viewer", ("gcp:compute/",)),
    Role("roles/monitoring.viewer", ("gcp:monitoring/",)),
    Role("roles/logging.viewer", ("gcp:logging/",)),
    Role("roles/storage.bucketViewer", ("gcp:storage/bucket:",)),
    Role("roles/cloudkms.viewer", ("gcp:kms/",)),
    Role("roles/serviceusage.serviceUsageViewer", ("gcp:projects/service:",)),
    Role("roles/iam.serviceAccountViewer", ("gcp:serviceaccount/account:",)),
    Role("roles/iam.workloadIdentityPoolViewer", ("gcp:iam/",)),
    # Reads who may do what on everything, and nothing of what it is about.
    Role("roles/iam.securityReviewer", ("gcp:projects/iAMMember:", "gcp:serviceaccount/", "gcp:storage/bucketIAM")),
)
"""What a look for drift reads: the settings of things, no content of a secret or a bucket."""
BY_HAND: Final = ("gcp:billing/", "gcp:iam/", "gcp:kms/", "gcp:projects/", "gcp:serviceaccount/", "gcp:storage/")
"""Starts of the types that only a person's `pulumi up` makes, changes or deletes."""
UNREAD: Final = ("gcp:billing/",)
"""What a look for drift leaves out (`.github/drift.sh`): the account that pays has rights of its own."""
