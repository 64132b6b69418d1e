"""The entrypoint's other way in: an identity token of Google's in place of an auth key.

Owns: the reasons for which the real entrypoint (v1.102.5) and Tailscale's token exchange would refuse. Does not own:
the token's signature, which nobody checks: only the lab's own metadata server gives tokens out.
"""

import http.client
import json
import urllib.parse
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any, cast

PATH = "/computeMetadata/v1/instance/service-accounts/default/identity"
ATTRIBUTES = [("ephemeral", "true"), ("preauthorized", "true")]


def refusal(env: Mapping[str, str], trusted: Mapping[str, str]) -> str:
    """Return why this identity may not join, or nothing.

    `trusted` has client_id, issuer, subject and audience; GCE_METADATA_HOST is where tokens come from, as with Google.
    """
    client_id, _, attributes = env["TS_CLIENT_ID"].partition("?")
    if sorted(urllib.parse.parse_qsl(attributes)) != ATTRIBUTES:
        return f"the node would not be ephemeral and preauthorized: {attributes!r}"
    if "--advertise-tags=" not in env.get("TS_EXTRA_ARGS", ""):
        return "federated identity authkeys require --advertise-tags"
    try:
        claims = _claims(env.get("GCE_METADATA_HOST", "metadata.google.internal"), env.get("TS_AUDIENCE", ""))
    except (OSError, ValueError) as error:
        return f"no identity token: {error}"
    seen = {"client_id": client_id, "issuer": claims["iss"], "subject": claims["sub"], "audience": claims["aud"]}
    wrong = sorted(name for name, value in seen.items() if trusted.get(name) != value)
    return f"token exchange failed with status 403: another {', '.join(wrong)}" if wrong else ""


def _claims(host: str, audience: str) -> dict[str, Any]:
    """What the metadata server at `host` says of this container's identity."""
    query = urllib.parse.urlencode({"audience": audience, "format": "full"})
    connection = http.client.HTTPConnection(host, timeout=5)
    connection.request("GET", f"{PATH}?{query}", headers={"Metadata-Flavor": "Google"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    if answer.status != http.client.OK:
        raise ValueError(f"{answer.status} {text}")
    payload = text.split(".")[1]
    return cast("dict[str, Any]", json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
