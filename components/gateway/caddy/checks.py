"""The listener behind the lanes' active checks, because Caddy's checker can't dial through a proxy itself.

Owns: the answer that a lane must give to get requests. Does not own: how often it is asked (`upstreams`), the pilot's
answers (`pilot`).
"""

from collections.abc import Sequence
from typing import Final

from components import ports
from components.gateway.caddy import answers, connections, line, pause, pilot_routes, refusal
from components.gateway.caddy.answers import Json
from components.gateway.caddy.upstreams import (
    CHECK_TIMEOUT,
    SIZE_HEADER,
    Upstream,
    judged,
    steered,
)
from components.settings import Lane

_SIZE: Final = f"{{http.request.header.{SIZE_HEADER}}}"
"""Caddy's placeholder: who asks is its own handler, and nobody else reaches the listener."""


def server(lanes: Sequence[Upstream], *, piloted: bool = False) -> Json:
    """Caddy's server. `X-Lane` names a lane or service by its dial address, `X-Size` what the asking handler takes."""
    own: list[Json] = []
    if steered(lanes):
        own = [
            {
                "match": [{"path": [pilot_routes.READY_PATH]}],
                "handle": [{"handler": "static_response", "status_code": 200}],
            },
            *(_unless_left(upstream) for upstream in lanes if upstream.lane is not Lane.BURST),
        ]
    if judged(lanes):
        # No answer of the pilot's is no refusal.
        own.append(
            {"match": [{"header": {"X-Lane": [refusal.DIAL]}}], "handle": [pilot_routes.ask(f"/lane/refuse/{_SIZE}")]}
        )
    if piloted:
        own.append(
            {"match": [{"header": {"X-Lane": [line.DIAL]}}], "handle": [pilot_routes.ask(pilot_routes.LINE_PATH)]}
        )
    return {
        "listen": [ports.loopback(ports.CHECKS)],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "logs": {"default_logger_name": "checks"},
        "routes": [
            *own,
            *(
                {"match": [{"header": {"X-Lane": [upstream.dial]}}], "handle": [_check(upstream)]}
                for upstream in lanes
            ),
            *(
                # Who is up, the pilot alone knows: without its yes there is no such machine.
                {"match": [{"header": {"X-Lane": [more.dial]}}],
                 "handle": [pilot_routes.ask(f"/lane/{upstream.lane}/{more.machines}/{_SIZE}")]}
                for upstream in lanes
                for more in upstream.further
            ),
            {
                "match": [{"header": {"X-Lane": [pause.DIAL]}}],
                "handle": [{"handler": "static_response", "status_code": 200}],
            },
            {"handle": [{"handler": "static_response", "status_code": 404}]},
        ],
    }  # fmt: skip


def _check(upstream: Upstream) -> Json:
    if upstream.lane is Lane.BURST:
        return pilot_routes.ask(upstream.check_path)
    return {
        "handler": "reverse_proxy",
        # `tcp/` is the same address under another name: under the same one, a check would take one of the lane's slots.
        "upstreams": [{"dial": f"tcp/{upstream.dial}"}],
        "rewrite": {"method": "GET", "uri": upstream.check_path},
        "headers": {
            "request": {
                "delete": ["*"],
                "set": {"Host": [upstream.check_host or "{http.reverse_proxy.upstream.hostport}"]},
            },
        },
        "transport": {
            "protocol": "http",
            "dial_timeout": CHECK_TIMEOUT,
            "response_header_timeout": CHECK_TIMEOUT,
            "compression": False,
            "keep_alive": {"idle_timeout": connections.IDLE},
        },
    }


def _unless_left(upstream: Upstream) -> Json:
    """A size skips home or the VM while the pilot says 503. Any other answer of it, or none: the lane's own decides."""
    refuse: Json = {"handler": "static_response", "status_code": 503}
    ask = pilot_routes.ask(
        f"/lane/{upstream.lane}/{_SIZE}",
        # No routes: goes on to the lane's own check.
        handle_response=[{"match": {"status_code": [503]}, "routes": [{"handle": [refuse]}]}, {"routes": []}],
    )
    return {
        "match": [{"header": {"X-Lane": [upstream.dial], SIZE_HEADER: ["*"]}}],
        # Nor is the pilot's absence an answer.
        "handle": [answers.subroute([{"handle": [ask]}], on_error=[{"handle": []}])],
    }
