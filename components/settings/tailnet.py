"""The tailnet's settings: its policy, and how the gateway and CI join.

Owns: the values, each for itself. Does not own: the user's own policy file and its limits (`tailnet.merge`), the rules
between settings (`rules`), what is built from them (`tailnet`).
"""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, field_validator

from components.settings.section import Refusal, Section

OWNER: Final = r"^([^@*:\s]+@[^@*:\s]+|autogroup:(admin|owner|it-admin|network-admin|member))$"
"""A login or a role. Not `*` and no tag: with those, the gateway itself could log in at home."""
KEY_MOST_DAYS: Final = 90
"""Longest life that Tailscale gives an auth key."""


class Join(StrEnum):
    """How the gateway proves to the tailnet who it is."""

    AUTH_KEY = "auth_key"
    FEDERATED = "federated"


class TailnetSettings(Section):
    """The tailnet that joins gateway and home."""

    policy_owner: bool = Field(
        default=True,
        description="Whether this stack owns the tailnet's policy file. A tailnet has one: exactly one "
        + "stack may own it.",
    )
    policy_file: str = Field(
        default="",
        pattern=r"^([^/~].*)?$",
        description="Your own policy (HuJSON), a path in the project. It is kept; this stack's part is added to it.",
    )
    overwrite_policy: bool = Field(
        default=False,
        description="Whether to replace a policy that was edited before. If not, Tailscale refuses the first update. "
        + "The preview names what goes away.",
    )
    reset_policy_on_destroy: bool = Field(
        default=False,
        description="Whether `destroy` gives the tailnet Tailscale's default policy, by which all reach all.",
    )
    owners: tuple[Annotated[str, Field(pattern=OWNER)], ...] = Field(
        default=("autogroup:admin",),
        min_length=1,
        description="Logins or `autogroup:` roles that keep access to home's SSH, ingress and Kubernetes API.",
    )
    join: Join = Field(
        default=Join.AUTH_KEY,
        description="How the gateway joins: `auth_key` (a secret, ends after `key_expiry_days`) or `federated` (its "
        + "Google identity; no secret, no end).",
    )
    ci_repository: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+)?$",
        description="GitHub repository, `owner/name`, whose workflows may reach home's Kubernetes "
        + "API. Empty: none.",
    )
    key_expiry_days: int = Field(
        default=KEY_MOST_DAYS, description="Life of auth keys, days: 1 to 90, Tailscale gives no more."
    )

    @field_validator("key_expiry_days")
    @classmethod
    def _possible_life(cls, days: int) -> int:
        if not 1 <= days <= KEY_MOST_DAYS:
            raise Refusal(
                f"1 to {KEY_MOST_DAYS} days, is {days}",
                "Tailscale would refuse the key half-way through the update",
                f"set {KEY_MOST_DAYS} or less, or leave it out",
            )
        return days
