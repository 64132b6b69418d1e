"""The hop to burst: a listener of the same Caddy on loopback that adds TLS, Host and Google's ID token.

Owns: the only way that the token travels, and the meaning of Cloud Run's own answers. Does not own: the token's file,
which the pilot keeps fresh, whether a request should go to burst (`checks`), retries (`walk`).
"""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from components import ports
from components.gateway.caddy import connections
from components.gateway.caddy.answers import Json
from components.gateway.caddy.walk import only_needed

TOKEN: Final = "^[A-Za-z0-9_=-]+([.][A-Za-z0-9_=-]+)+$"
"""A JWT. Anything else is not sent, least of all nothing: Cloud Run would take the caller for a stranger."""
WIDEST_URL: Final = "https://" + 63 * "x" + ".northamerica-northeast1.run.app"
PLATFORM: Final = (401, 403, 429, 502, 503, 504)
"""Cloud Run's own answers: no token, no instance, no instance yet. None of them is the caller's to see."""


def server(burst_url: str, paths: Sequence[str]) -> Json:
    """Caddy's server for `paths`. It has no access log: the outer request is logged."""
    return {
        "listen": [ports.loopback(ports.BURST_HOP)],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        # As in front of callers: a refusal must not wait for the rest of a large body.
        "read_idle_timeout": -1,
        "routes": [
            {
                "match": [{"not": [{"path": list(paths), "method": ["POST"]}]}],
                "handle": [{"handler": "static_response", "status_code": 404}],
            },
            {"handle": [{"handler": "vars", "token": f"{{file.{ports.ID_TOKEN}}}"}]},
            {"match": [{"vars_regexp": {"token": {"pattern": TOKEN}}}], "handle": [_proxy(burst_url)]},
            {"handle": [_refuse(f"no ID token in {ports.ID_TOKEN}")]},
        ],
    }


def _refuse(reason: str) -> Json:
    """503, on which the request goes on to the next lane; the reason is logged."""
    return {"handler": "error", "status_code": 503, "error": reason}


def _proxy(burst_url: str) -> Json:
    tls, host, port = _address(burst_url)
    transport: Json = {
        "protocol": "http",
        # One connection per request: a dead one takes one request with it, and not all.
        "versions": ["1.1"],
        "dial_timeout": "1s",
        "compression": False,
        "keep_alive": connections.kept(),
    }
    if tls:
        transport["tls"] = {"server_name": host, "handshake_timeout": "2s"}
    own = {
        "X-Request-Id": "{http.request.header.X-Request-Id}",
        # Not `Authorization`: Cloud Run would hand that on to the model server.
        "X-Serverless-Authorization": "Bearer {http.vars.token}",
    }
    refused = [{"handle": [_refuse("burst answered {http.reverse_proxy.status_code}")]}]
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"{host}:{port}"}],
        "transport": transport,
        "headers": {"request": only_needed(urlsplit(burst_url).netloc, own)},
        "handle_response": [
            {"match": {"status_code": list(PLATFORM)}, "routes": refused},
            # A 500 in JSON is the model server's, one in text or HTML is Cloud Run's.
            {"match": {"status_code": [500], "headers": {"Content-Type": ["text/*"]}}, "routes": refused},
        ],
    }


def _address(burst_url: str) -> tuple[bool, str, int]:
    """Whether with TLS, host and port."""
    parts = urlsplit(burst_url)
    if parts.scheme == "https" and parts.hostname:
        return True, parts.hostname, parts.port or 443
    # Without TLS on this machine only: elsewhere the token would travel in the clear, and through home's tunnel.
    if parts.scheme == "http" and parts.hostname and parts.hostname.startswith("127."):
        return False, parts.hostname, parts.port or 80
    raise ValueError(f"burst's address must be https://..., is {burst_url!r}")
