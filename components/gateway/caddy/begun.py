"""What the access log gets to know of a lane's answer while it begins.

Owns: the fields that are logged before the first byte of an answer goes out. Does not own: the line itself (`logging`).

Where a caller hangs up, even right after the last byte, or a lane breaks off, Caddy gives its handlers up: fields that
are added after the answer never come, `duration` is 0, and the line is written all the same. So the lane stands in the
line as soon as its headers are there. A line without one is of an answer of the gateway's own. Two fields come with the
answer's end; where they are missing, it broke off.

A slot's time is the lane's until the answer began, and from there to the end: `lane_ms` - `begun_ms` + `ended_ms`.
Caddy's own duration of an upstream would be that, too, but for a request that comes back: its upstream is the server
itself, which waits for a lane meanwhile.
"""

from collections.abc import Sequence
from typing import Final

from components import ports
from components.gateway.caddy import again, answers
from components.gateway.caddy.answers import Json

NAME: Final = "begun"
"""Name of the routes that every handler of a lane invokes."""
WHOLE: Final = "yes"
"""Of `whole`, by which metrics tell whole answers from others."""
LANE_MS: Final = "X-Lane-Ms"
"""Header of an answer that comes back to the server itself: milliseconds from the lane's taking it to its headers."""


def route() -> Json:
    """The routes that log where and when an answer begins, and hand it on."""
    return {"handle": [answers.subroute(_routes("{http.reverse_proxy.upstream.latency_ms}"))]}


def handed_on() -> Json:
    """Of a proxy's `handle_response`: every answer that was not taken before."""
    return {"routes": [{"handle": [{"handler": "invoke", "name": NAME}]}]}


def came_back(lanes: Sequence[str]) -> Json:
    """Of the `handle_response` of a proxy to the server itself: the answer of a lane, and not of the gateway."""
    return {
        "match": {"headers": {"X-Served-By": list(lanes)}},
        "routes": _routes(f"{{http.reverse_proxy.header.{LANE_MS}}}"),
    }


def _routes(lane_ms: str) -> list[Json]:
    fields = {
        "lane": "{lane}",
        # How old the request is, and the part of it that the lane took. What is left is the wait for a lane.
        "begun_ms": "{http.request.duration_ms}",
        "lane_ms": lane_ms,
        # With the line's own time, how long the answer took from here on.
        "begun_at_ms": "{time.now.unix_ms}",
    }
    early: list[Json] = [
        {"handler": "log_append", "key": key, "value": value, "early": True} for key, value in fields.items()
    ]
    late: list[Json] = [
        {"handler": "log_append", "key": key, "value": value}
        for key, value in {"ended_ms": "{http.request.duration_ms}", "whole": WHOLE}.items()
    ]
    told: Json = {"handler": "headers", "response": {"set": {LANE_MS: [lane_ms]}}}
    return [
        # Of a request that is back, the line is the outer one's, which can't see for itself when the lane took it.
        {"match": [again.back(ports.LENGTHS, ports.TURNS)], "handle": [told]},
        {"handle": [*early, *late, {"handler": "copy_response"}]},
    ]
