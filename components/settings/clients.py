"""The clients' settings: keys, old keys in grace, and which lanes and how much of them each client may have.

Owns: the values, each for itself. Does not own: the rules between them (`client_rules`), what follows from them
(`client_classes`, `client_keys`), the keys that the stack makes (`components.clients`).
"""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from components.settings.section import Lane, Refusal, Section

CLIENT_KEY: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
_GO_S_TIME: Final = re.compile(r" ([+-]\d{4}) \S+$")
"""The end of `2026-12-15 00:00:00 +0000 UTC`: how Pulumi 3.260 hands on a day that stands in YAML without quotes."""


class Priority(StrEnum):
    """Whom a client leaves slots to, the first first."""

    HIGH = "high"
    NORMAL = "normal"
    BACKGROUND = "background"


def _usable(key: SecretStr) -> SecretStr:
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


def _moment(value: object) -> object:
    """`2026-12-15`, the first moment of that day in UTC, or a moment with its zone."""
    text = _GO_S_TIME.sub(r"\1", str(value))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found and len(text) == len("2026-12-15"):
        return found.replace(tzinfo=UTC)
    if found is None or found.tzinfo is None:
        # Who mixes up the two keys of an entry has the secret here, and a refusal ends in a log.
        it_is = "it may be a key" if CLIENT_KEY.fullmatch(text) else f"it is {value!r}"
        raise Refusal(
            f"a day such as 2026-12-15, or a moment with its zone such as 2026-12-15T18:00:00Z; {it_is}",
            "nobody could tell when the old key ends",
            "write the day at whose beginning, in UTC, the old key ends",
        )
    return found.astimezone(UTC)


Key = Annotated[SecretStr, AfterValidator(_usable)]


class ClientSettings(Section):
    """One caller of the API."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,29}$", description="The client's name, lower case; logs show it.")
    key: Key | None = Field(
        default=None,
        description="The client's bearer key, as a Pulumi secret. Left out, the stack makes one (`api_keys` output).",
    )
    generation: int = Field(
        default=1,
        ge=1,
        le=9999,
        description="Which key the stack makes: one more is a new key. The old one ends, unless `old_keys` keeps it.",
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


class OldKeySettings(Section):
    """A key that was a client's, and is good for a while beside the new one."""

    client: str = Field(description="The client whose key it was.")
    generation: int | None = Field(
        default=None,
        ge=1,
        le=9999,
        description="Which of the keys that the stack made: the client's `generation` until now.",
    )
    key: Key | None = Field(
        default=None, description="The key itself, as a Pulumi secret, where it was one of your own."
    )
    until: Annotated[datetime, BeforeValidator(_moment)] = Field(
        description="When it ends: the beginning of a day, 2026-12-15, or a moment, 2026-12-15T18:00:00Z; UTC, at most "
        + "90 days ahead. From that second it gets 401; the next `pulumi up` takes it out of the stack.",
    )
