"""The console, a page for people at the endpoint's own address, as a part of Caddy's JSON.

Owns: the route to the page, and the headers that bound what the page may do. Does not own: the page
(`../console/index.html`), its secret and mount (`gateway.service`), what it asks: the same API as every caller, by key.
"""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Final

from components.gateway.caddy import answers
from components.gateway.caddy.answers import Json

FOLDER: Final = "/etc/pilotlight/console"
FILE: Final = "index.html"
FOLDER_VARIABLE: Final = "CONSOLE_FOLDER"
"""Caddy's variable for the folder: the configuration names no path of the container."""
SOURCE: Final = Path(__file__).parents[1] / "console" / FILE


def page() -> str:
    """The page as it is mounted and served: its styles and scripts stand in the place of the links to them."""
    html = SOURCE.read_text()
    for link, element in (
        (r'<link rel="stylesheet" href="(\w+\.css)">', "style"),
        (r'<script src="(\w+\.js)"></script>', "script"),
    ):
        html = re.sub(
            link, lambda found, name=element: f"<{name}>\n{SOURCE.with_name(found[1]).read_text()}</{name}>", html
        )
    return html


def policy(html: str) -> str:
    """The page's Content-Security-Policy: its own style and script by their sums, its own origin, and nothing else.

    `trusted-types 'none'`: a script that makes markup of a text is stopped by the browser (where it knows the rule).
    """
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src {_sums('style', html)}",
            f"script-src {_sums('script', html)}",
            "connect-src 'self'",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def routes() -> list[Json]:
    """`GET` and `HEAD` of `/`, without a key. The folder is asked for its index alone: nothing else has a path."""
    html = page()
    headers = {
        "Content-Security-Policy": policy(html),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        # Asked for again each time, and sent again only if it is another one: a new revision is seen at once.
        "Cache-Control": "no-cache",
        # By its text: instances and revisions mount it at different times, of which Caddy would make one.
        "Etag": f'"{sha256(html.encode()).hexdigest()[:32]}"',
    }
    serve: Json = {
        "handler": "file_server",
        "root": f"{{env.{FOLDER_VARIABLE}}}",
        "index_names": [FILE],
        # Another spelling of `/` is answered, too: a caller can have nobody sent elsewhere.
        "canonical_uris": False,
    }
    return [
        {
            "match": [{"path": ["/"], "method": ["GET", "HEAD"], **answers.no_body()}],
            "handle": [answers.subroute([{"handle": [answers.headers(headers), serve]}])],
        }
    ]


def _sums(element: str, html: str) -> str:
    """The sources that stand for the text of each such element."""
    texts: list[str] = re.findall(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts)
