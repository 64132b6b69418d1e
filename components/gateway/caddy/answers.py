"""The gateway's own answers: error bodies and response headers, as parts of Caddy's JSON.

Owns: the form of every answer that no lane gave. Does not own: when it is given (`routes`, `config`).
"""

import json
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

RETRY_AFTER_S: Final = 5
READ: Final = ("GET", "HEAD")
"""Methods of what is read. Go leaves the body out for HEAD."""

Json: TypeAlias = dict[str, Any]

HANG_UP: Final[Json] = {"close": True}
"""Of an answer to somebody whose key nobody knows: the connection ends with it.

Else Go reads what it lacks of a body, up to 256 KiB, before it answers, however slowly that comes (`writeHeader` in its
`net/http/server.go`), and the caller keeps one of the instance's `concurrency` until Cloud Run's timeout.
"""


def errors() -> list[Json]:
    """Errors that Caddy raises: a lane's fault is a 503, for the stock SDK retries that after `Retry-After`."""
    reason: Json = {"handler": "log_append", "key": "error", "value": "{http.error.message}"}
    return [
        {
            "match": [{"expression": "{http.error.status_code} >= 400 && {http.error.status_code} < 500"}],
            "handle": [reason, error(400, "bad_request", "The request could not be read.")],
        },
        {
            "handle": [
                reason,
                error(503, "no_lane", "No model server could answer in time. Try again.", retry_after=RETRY_AFTER_S),
            ]
        },
    ]


def no_body() -> Json:
    """Matcher of requests without a body."""
    return {
        "not": [{"header": {"Transfer-Encoding": ["*"]}}, {"header_regexp": {"Content-Length": {"pattern": "[1-9]"}}}]
    }


def wrong_method(*allowed: str) -> Json:
    """405 for every method but those."""
    return error(405, "method_not_allowed", f"Use {' or '.join(allowed)} here.", allow=", ".join(allowed))


def error(status: int, code: str, message: str, *, hang_up: bool = False, **headers: str | int) -> Json:
    """An answer that the stock `openai` SDK turns into its own exception. `hang_up`: it is not worth a body's wait."""
    kind = "server_error" if status >= 500 else "requests" if status == 429 else "invalid_request_error"
    body = json_body({"error": {"message": message, "type": kind, "param": None, "code": code}})
    body["headers"] |= {name.replace("_", "-").title(): [str(value)] for name, value in headers.items()}
    return {"handler": "static_response", "status_code": status, **body, **(HANG_UP if hang_up else {})}


def json_body(content: Json) -> Json:
    """Body and type of a static answer."""
    return {"headers": {"Content-Type": ["application/json"]}, "body": json.dumps(content)}


def headers(values: dict[str, str], *, deferred: bool = False, delete: Sequence[str] = ("Server",)) -> Json:
    """Response headers; `deferred` waits for the lane's own and wins over them."""
    changes: Json = {"set": {name: [value] for name, value in values.items()}, "delete": list(delete)}
    return {"handler": "headers", "response": {**changes, "deferred": deferred}}


def subroute(routes: Sequence[Json], *, on_error: Sequence[Json] = ()) -> Json:
    """Routes as a handler. `on_error` takes what they raise, before the server's own error bodies would."""
    found: Json = {"handler": "subroute", "routes": list(routes)}
    return {**found, "errors": {"routes": list(on_error)}} if on_error else found
