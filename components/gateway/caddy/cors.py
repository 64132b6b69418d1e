"""Which pages may call from a browser: the preflight, and the headers on every answer.

Owns: all CORS headers that a caller sees; a lane's own are taken off in front of it (`walk`). Does not own: the list of
origins (`settings.gateway`), the key, which a page needs like everybody else (`routes`).
"""

from collections.abc import Sequence
from typing import Final

from components.gateway.caddy import answers
from components.gateway.caddy.answers import Json

METHODS: Final = ("GET", "HEAD", "POST")
EXPOSED: Final = ("X-Request-Id", "X-Served-By", "Retry-After", "X-Should-Retry")
"""What a page may read of an answer besides its body. The stock SDK goes by the last two."""
MAX_AGE_S: Final = 7200
"""How long a browser may keep a preflight's answer. Chromium keeps none for longer."""


def handler(origins: Sequence[str]) -> Json:
    """Adds the headers for a page that may call, and ends a preflight.

    They are set before anything else is done, so that errors carry them, too.
    """
    asks: Json = {"method": ["OPTIONS"], "header": {"Origin": ["*"], "Access-Control-Request-Method": ["*"]}}
    refused = "Pages of this origin may not call this endpoint: its owner names those that may in gateway.cors_origins."
    refuse: Json = {"match": [asks], "handle": [answers.error(403, "origin_not_allowed", refused, hang_up=True)]}
    if not origins:
        return answers.subroute([refuse])
    origin = "*" if "*" in origins else "{http.request.header.Origin}"
    shown = {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": ", ".join(EXPOSED)}
    allowed: Json = {
        "match": [{"header": {"Origin": list(origins)}}],
        "handle": [{"handler": "vars", "page": "allowed"}, answers.headers(shown, delete=())],
    }
    preflight: Json = {"match": [{**asks, "vars": {"page": ["allowed"]}}], "handle": [_preflight()]}
    # Caches must not show one page what another got.
    vary: Json = {"handle": [answers.headers({"Vary": "Origin"}, delete=())]}
    return answers.subroute([*([] if origin == "*" else [vary]), allowed, preflight, refuse])


def _preflight() -> Json:
    return {
        "handler": "static_response",
        "status_code": 204,
        **answers.HANG_UP,
        "headers": {
            "Access-Control-Allow-Methods": [", ".join(METHODS)],
            # Whatever is asked for: no header of a caller's does anything but those that the gateway reads.
            "Access-Control-Allow-Headers": ["{http.request.header.Access-Control-Request-Headers}"],
            "Access-Control-Max-Age": [str(MAX_AGE_S)],
        },
    }
