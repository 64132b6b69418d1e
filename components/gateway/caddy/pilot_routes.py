"""Every question that Caddy asks the pilot: whether to start, and the state of the lanes.

Owns: every route that leads to the pilot. Does not own: the pilot's answers (`pilot`), the decision that a lane's check
makes of them (`checks`). A pilot that is dead, late or stuck costs burst and the judgement of the lanes.
"""

from collections.abc import Sequence
from typing import Final

from components import paths, ports
from components.gateway.caddy import answers, line
from components.gateway.caddy.answers import Json
from components.gateway.caddy.upstreams import CHECK_INTERVAL

PILOT: Final = ports.loopback(ports.PILOT)
READY_PATH: Final = "/ready"
"""Startup probe. Not `/healthz`: Cloud Run reserves some paths that end in z."""
PATIENCE: Final = "300ms"
"""The pilot answers from memory; one that takes longer is taken for wedged."""
UNREADY_CHECKS: Final = 8
"""Checks, one per `CHECK_INTERVAL`, after which the gateway starts without the pilot: home and vm don't need it."""


LINE_PATH: Final = "/line"
LINE_PATIENCE: Final = "5s"
"""The pilot holds nobody for more than four seconds: one that takes longer is taken for wedged."""


def _gateway_s_own() -> Json:
    """Marks an answer of the pilot as the gateway's."""
    return answers.headers({"X-Served-By": "gateway"}, deferred=True, delete=["Server", "Via"])


def ask(path: str, *, dial: str = PILOT, handle_response: Sequence[Json] = ()) -> Json:
    """A proxy handler that brings the pilot's answer to `path`, or an error."""
    handler: Json = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": dial}],
        "rewrite": {"method": "GET", "uri": path},
        "headers": {"request": {"delete": ["*"], "set": {"Host": [PILOT]}}},
        "transport": {
            "protocol": "http",
            "dial_timeout": PATIENCE,
            "response_header_timeout": PATIENCE,
            "read_timeout": PATIENCE,
            "compression": False,
        },
    }
    return {**handler, "handle_response": list(handle_response)} if handle_response else handler


def ready() -> list[Json]:
    """Handlers of the startup probe: the pilot's answer, held for half a second if it is no; 200 without a pilot.

    Caddy takes every lane for healthy until its first check. So Cloud Run sends no request before the pilot was asked
    about the lanes. `fails` counts from Caddy's start on, whoever asks and however often.
    """
    # Anybody may call this: one request at a time reaches the pilot, the rest is told 200. `tcp/` is another name for
    # the same address, so that checks and status requests don't count.
    pilot, without = {"dial": f"tcp/{PILOT}", "max_requests": 1}, {"dial": ports.loopback(ports.CHECKS)}
    no = "{http.reverse_proxy.is_transport_error} == true || {http.reverse_proxy.status_code} != 200"
    handler: Json = {
        **ask(READY_PATH),
        "upstreams": [pilot, without],
        "load_balancing": {
            "selection_policy": {"policy": "first"},
            "try_duration": "500ms",
            "try_interval": "20ms",
            "retry_match": [{"expression": no}],
        },
        "health_checks": {
            "active": {"uri": READY_PATH, "interval": CHECK_INTERVAL, "timeout": PATIENCE, "fails": UNREADY_CHECKS}
        },
    }
    return [_gateway_s_own(), handler]


def hold() -> Json:
    """A proxy handler that holds a request in line, and says when it may look for a lane again; 503 without a pilot."""
    own = {"Host": [PILOT], line.HEADER: [f"{{http.request.header.{line.HEADER}}}"]}
    turn: Json = {"handler": "static_response", "status_code": line.STATUS}
    return {
        **ask(LINE_PATH),
        "rewrite": {"uri": LINE_PATH},
        "headers": {"request": {"delete": ["*"], "set": own}},
        "transport": {
            "protocol": "http",
            "dial_timeout": PATIENCE,
            "response_header_timeout": LINE_PATIENCE,
            "compression": False,
            "keep_alive": {"enabled": False},
        },
        "handle_response": [
            {"match": {"status_code": [204]}, "routes": [{"handle": [turn]}]},
            {"routes": [{"handle": [{"handler": "static_response", "status_code": 503}]}]},
        ],
    }


def status() -> list[Json]:
    """Routes of the status endpoint; a key is asked for before."""
    away = answers.error(
        503, "no_status", "The pilot is away; requests are served without it.", retry_after=answers.RETRY_AFTER_S
    )
    show = ask("/status", handle_response=[{"match": {"status_code": [3, 4, 5]}, "routes": [{"handle": [away]}]}])
    return [
        {
            "match": [{"path": [paths.LANES], "method": list(answers.READ)}],
            "handle": [answers.subroute([{"handle": [_gateway_s_own(), show]}], on_error=[{"handle": [away]}])],
        },
        {"match": [{"path": [paths.LANES]}], "handle": [answers.wrong_method(*answers.READ)]},
    ]
