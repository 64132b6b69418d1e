"""The settings of what deploys the stack: a GitHub repository's workflows.

Owns: the values, each for itself. Does not own: the rules between settings (`rules`, `siblings`), what is built from
them (`delivery`), the workflows (`.github/workflows`).
"""

import re
from typing import Annotated, Final

from pydantic import Field, field_validator

from components.settings.section import Refusal, Section

GITHUB_REPOSITORY: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}")
"""Owner and name. Both stand between quotes in a condition of Google's, so no quote may be in them."""


class DeliverySettings(Section):
    """Previews and deployments by GitHub's workflows, without a stored key."""

    repository: str = Field(
        default="",
        description="GitHub repository, `owner/name`, whose workflows preview and deploy this stack. Empty: none.",
    )
    repository_id: int | None = Field(
        default=None,
        ge=1,
        description="Its number (`gh api repos/owner/name --jq .id`): a later repository of that name has another. "
        + "None: the name alone counts.",
    )
    owner: bool = Field(
        default=True,
        description="Whether this stack makes what all stacks of its Google project are deployed with; exactly one "
        + "does.",
    )
    branch: str = Field(
        default="main",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$",
        description="The branch that is deployed from, and that drift is looked for on.",
    )
    environments: tuple[Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,98}[a-z0-9])?$")], ...] = Field(
        default=("dev",),
        min_length=1,
        description="GitHub environments that may deploy, each named as its stack, in the order of deployment.",
    )

    @field_validator("repository")
    @classmethod
    def _one_repository(cls, repository: str) -> str:
        if repository and not GITHUB_REPOSITORY.fullmatch(repository):
            short = re.sub(r"^(https?://|git@)?github\.com[/:]|\.git$|/$", "", repository)
            fits = GITHUB_REPOSITORY.fullmatch(short)
            raise Refusal(
                f"one GitHub repository as owner/name, is {repository!r}",
                "Google would let in nobody, or another repository than yours",
                f"set it to {short if fits else 'me/pilotlight'}",
            )
        return repository
