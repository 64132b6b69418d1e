"""The clients' settings: keys, and which lanes and how much of them each may have.

Owns: the values, each for itself. Does not own: the rules between them (`client_rules`), what follows from them
(`client_classes`), the keys that the stack makes (`components.clients`).
"""

import re
from enum import StrEnum
from typing import Final

from pydantic import Field, SecretStr, field_validator

from components.settings.section import Lane, Refusal, Section

CLIENT_KEY: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")


class Priority(StrEnum):
    """Whom a client leaves slots to, the first first."""

    HIGH = "high"
    NORMAL = "normal"
    BACKGROUND = "background"


class ClientSettings(Section):
    """One caller of the API."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,29}$", description="The client's name, lower case; logs show it.")
    key: SecretStr | None = Field(
        default=None,
        description="The client's bearer key, as a Pulumi secret. Left out, the stack makes one (`api_keys` output).",
    )
    priority: Priority = Field(
        default=Priority.NORMAL,
        description="`high`, `normal` or `background`: on each lane a client leaves a quarter of the slots, at least "
        + "one, to every higher priority that another client has there.",
    )
    lanes: tuple[Lane, ...] | None = Field(
        default=None,
        description="The only lanes that get this client's requests, in the stack's order; none of them: 503. "
        + "None: all.",
    )
    max_requests: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Requests of this client that run or wait for a lane at a time; further ones wait for their turn, "
        + "then get 429 with Retry-After. None: any number.",
    )

    @field_validator("key")
    @classmethod
    def _usable_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        text = key.get_secret_value().strip()
        if not text:
            raise Refusal("a key of blanks", "nobody could call with it", "leave `key` out and one is made")
        if not CLIENT_KEY.fullmatch(text):
            raise Refusal(
                "a key has 16 to 128 characters of A-Z a-z 0-9 _ -",
                "it could be guessed, or not be sent as a header",
                "leave `key` out and one is made",
            )
        return SecretStr(text)
