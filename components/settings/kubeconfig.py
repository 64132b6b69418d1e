"""What a kubeconfig's text says: whether it will do, and how long its client's certificate is good.

Owns: the text, and the words about it, which hold nothing of it: it is secret. Does not own: whose it may be (`rules`),
what follows from a certificate's end (`home`).
"""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import yaml
from cryptography import x509


class Unusable(ValueError):
    """Why a kubeconfig won't do."""


@dataclass(frozen=True)
class Life:
    """How long a certificate is good; the API server refuses it before and after."""

    begins: datetime
    ends: datetime

    @property
    def expires(self) -> str:
        """The end, RFC 3339."""
        return rfc3339(self.ends)

    def holds(self, now: datetime) -> bool:
        """Whether the certificate is good."""
        return self.begins <= now < self.ends


def rfc3339(moment: datetime) -> str:
    """`2027-02-20T03:00:00Z`."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def fault(text: str) -> str:
    """What is wrong with the text, empty if it will do."""
    try:
        life(text)
    except Unusable as found:
        return str(found)
    return ""


def life(text: str) -> Life | None:
    """Of the certificate with which the current context's user proves who he is; None where a token does, or what the
    text doesn't hold (a file, a program). Raises `Unusable`."""
    user = _user(text)
    data = user.get("client-certificate-data")
    if user.get("token") or not data:
        return None
    try:
        # Go, too, reads base64 over line breaks.
        pem = base64.b64decode("".join(str(data).split()), validate=True)
    except ValueError:
        raise Unusable("must have client-certificate-data in base64, is broken") from None
    try:
        # K3s adds the certificate of its authority: the first one is the client's.
        certificate = x509.load_pem_x509_certificates(pem)[0]
        return Life(certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except (ValueError, x509.InvalidVersion):
        raise Unusable("must have a certificate in PEM as client-certificate-data, is broken") from None


def _user(text: str) -> dict[str, Any]:
    """The current context's user, where the whole text will do."""
    try:
        # Every scalar stays text: numbers and dates that can't be built would quote themselves in an error.
        loaded: object = yaml.load(text, yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        # Not the mark's own text: it quotes the line.
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Unusable(f"must be YAML, is broken{place}") from None
    except (yaml.YAMLError, RecursionError):
        raise Unusable("must be YAML, is broken") from None
    if not isinstance(loaded, dict):
        raise Unusable("must be a mapping")
    config = cast(dict[str, Any], loaded)
    missing = [key for key in ("clusters", "users", "contexts", "current-context") if not config.get(key)]
    if missing:
        raise Unusable(f"lacks {', '.join(missing)}")
    context = _entry(config, "contexts", config["current-context"]).get("context")
    if not isinstance(context, dict):
        raise Unusable("must have the context that current-context names")
    chosen = cast(dict[str, Any], context)
    cluster = _entry(config, "clusters", chosen.get("cluster")).get("cluster")
    if not isinstance(cluster, dict) or not cast(dict[str, Any], cluster).get("server"):
        raise Unusable("must have the cluster of its current context, with a server")
    entry = _entry(config, "users", chosen.get("user"))
    if not entry:
        raise Unusable("must have the user of its current context")
    user = entry.get("user")
    return cast(dict[str, Any], user) if isinstance(user, dict) else {}


def _entry(config: dict[str, Any], key: str, name: object) -> dict[str, Any]:
    """The item of the list `key` that has this name, or nothing."""
    items = cast(list[Any], config[key]) if isinstance(config[key], list) else []
    named = (cast(dict[str, Any], item) for item in items if isinstance(item, dict))
    return next((item for item in named if item.get("name") == name), dict[str, Any]())
