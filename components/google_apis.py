"""The Google APIs that the stack calls.

Owns: switching them on. Does not own: switching them off, because other things in the project may use them.
"""

from typing import Final

import pulumi
from pulumi_gcp import projects

from components.settings import Lane, Settings

ALWAYS: Final = ("cloudresourcemanager", "compute", "iam", "logging", "monitoring", "run", "secretmanager")
"""The first is the provider's own: it asks for the project whenever it reads one of these services. A person's token is
counted against gcloud's project, where it is on; one of a service account against the account's, where it is not."""
WITH_BURST: Final = ("storage",)
"""The weights bucket; Google enables storage in new projects, not in all."""
WITH_DELIVERY: Final = ("cloudkms", "iamcredentials", "storage", "sts")
"""Its key, its bucket, and the two that turn GitHub's token into an account's."""

WITH_BUDGET: Final = ("billingbudgets", "cloudbilling")
"""The second tells the provider who pays, whenever it reads a project; the budget needs the project's number."""


def needed(settings: Settings) -> tuple[str, ...]:
    """The APIs that the stack's parts call."""
    burst = WITH_BURST if Lane.BURST in settings.lanes else ()
    budget = WITH_BUDGET if settings.budget.per_month else ()
    delivery = WITH_DELIVERY if settings.owns_delivery else ()
    return tuple(dict.fromkeys((*ALWAYS, *burst, *budget, *delivery)))


class GoogleApis(pulumi.ComponentResource):
    """`enabled` lists the services; whatever calls one of these APIs depends on this component."""

    enabled: pulumi.Output[list[str]]

    def __init__(self, name: str, settings: Settings, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pilotlight:gcp:GoogleApis", name, None, opts)
        services = [
            projects.Service(
                f"{name}-{api}",
                project=settings.project,
                service=f"{api}.googleapis.com",
                disable_on_destroy=False,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for api in needed(settings)
        ]
        self.enabled = pulumi.Output.all(*(service.service for service in services))
        self.register_outputs({"enabled": self.enabled})
