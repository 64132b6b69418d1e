"""A body whose length nobody says (chunked): how it becomes known before a lane is chosen, and whose fault its end is.

Owns: the way of such a request out of the server and back into it. Does not own: all that follows (`routes`, `walk`).

Caddy chooses a handler, and with it what the lanes' checks are asked, before it reads a byte of the body. So the server
is its own upstream: the proxy here keeps the body, knows its length, and sends the request, key included, to a loopback
address of the same server, where it is a request like any other. No lane is an upstream of this proxy: a malformed
chunk, which looks to Caddy like a failure of the upstream, counts against none. The second time it is a caller who
hangs up.

A body that is kept twice takes twice the memory: so it is kept up to half of `replay_limit_mib`, and what the settings
set aside is enough. A larger one comes back without a length, too, and streams through once.
"""

from collections.abc import Sequence

from components import ports
from components.gateway.caddy import again, answers, begun
from components.gateway.caddy.answers import Json


def unknown() -> Json:
    """Matcher of requests without a known length."""
    return {"header": {"Content-Length": None}}


def route(
    again_at: Sequence[int],
    lanes: Sequence[str],
    request_limit: int,
    replay_limit: int,
    too_large: Json,
    before: Sequence[Json],
) -> Json:
    """Route of a request without a length that isn't back at one of the ports, after the handlers `before`.

    The limits in bytes.
    """
    proxy: Json = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": again.listen(ports.LENGTHS)}],
        # One byte more than the largest body that is kept: Caddy takes a full buffer for an incomplete body.
        "request_buffers": replay_limit // 2 + 1,
        # Without its origin, or a page would get every header for pages twice, which browsers refuse.
        "headers": {
            "request": {"set": {"X-Request-Id": ["{request_id}"]}, "delete": ["Expect", "Origin"]},
            "response": {"delete": [begun.LANE_MS]},
        },
        "handle_response": [begun.came_back(lanes)],
        "transport": {
            "protocol": "http",
            # HTTP/1 would say chunked again, though the length is known: Go hands on how the request came.
            "versions": ["h2c"],
            "compression": False,
            # One connection per request: a body that waits for a lane would hold up all others on its connection.
            "keep_alive": {"enabled": False},
        },
    }
    status, message = "{http.error.status_code}", "{http.error.message}"
    found = [
        {"match": [{"expression": f"{status} == 413"}], "handle": [too_large]},
        # Go's words for what can be malformed in a chunk or after the last, and for a line of more than 4 KiB between.
        {"match": [{"expression": f"{message}.matches('chunk|trailer|MIME|line too long')"}], "handle": [_error(400)]},
        {"handle": [_error(status)]},
    ]
    handlers = [*before, {"handler": "request_body", "max_size": request_limit}, proxy]
    return {
        "match": [{**unknown(), "not": [again.back(*again_at)]}],
        "handle": [answers.subroute([{"handle": handlers}], on_error=found)],
    }


def _error(status: int | str) -> Json:
    """Leaves the error to the server's own answers, with this status."""
    return {"handler": "error", "status_code": status, "error": "{http.error.message}"}
