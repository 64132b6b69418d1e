"""How a request is walked over the lanes: the proxy handlers with their retries, waiting and limits.

Owns: one handler for each size of request, what is repeated on the next lane, how long a request waits, and which
headers of the caller's a lane gets. Does not own: the lanes themselves (`upstreams`), what a check asks (`checks`),
which requests get here (`routes`).

All handlers of the model share each lane's capacity and failures, because Caddy keeps both per dial address. What a
check found is each handler's own.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from components import ports
from components.gateway.caddy.answers import Json
from components.gateway.caddy.upstreams import (
    CHECK_INTERVAL,
    CHECK_TIMEOUT,
    IDLE_CONNECTION,
    LARGE,
    Upstream,
)
from components.settings import Lane, Settings

MIB: Final = 1024 * 1024

TRY_INTERVAL: Final = "10ms"
"""Pause before the next lane is tried or looked at again: what a fail-over costs."""
FAIL_DURATION: Final = "2s"
"""How long a failed lane is left alone. Must outlast the checks' own detection (interval + timeout), else `first` picks
the dead lane again before they have found it. Much longer, and one hiccup costs the lane's capacity."""
REFUSED: Final = (502, 503, 504)
"""Answers of a lane that mean `not here, not now`."""
LAST_REFUSAL_MS: Final = 10_000
"""Age of a request from which the last lane's refusal is final, ms. A lane that is full or away is waited for
(`wait_s`); one that passes its checks and still says no isn't."""
SERVICE_WAIT_S: Final = 10
"""How long a request waits for a service that is at home only, seconds: longer than a failed check or a tunnel that is
just starting, and not `wait_s`, for nobody else will answer."""


@dataclass(frozen=True)
class Walk:
    """The handler for requests of one size. `above` is the largest body, in bytes, that does not belong here."""

    name: str
    above: int | None
    handler: Json

    @property
    def match(self) -> Json:
        """`match` of a route that comes after those of the larger sizes."""
        return {} if self.above is None else {"match": [longer_than(self.above)]}


def longer_than(limit: int) -> Json:
    """Matcher of requests with a body of more than `limit` bytes."""
    return {"expression": f"int({{http.request.header.Content-Length}}) > {limit}"}


def service_walks(settings: Settings, home: Upstream) -> list[Walk]:
    """One handler for each size of request to a service that is at home only, the larger first."""
    wait_s = min(SERVICE_WAIT_S, settings.gateway.wait_s)
    limit = settings.gateway.replay_limit_mib * MIB
    return [
        Walk("streamed", limit, _proxy(settings, [home], replay=False, large=False, wait_s=wait_s)),
        Walk("replayed", None, _proxy(settings, [home], replay=True, large=False, wait_s=wait_s)),
    ]


def walks(settings: Settings, lanes: Sequence[Upstream]) -> list[Walk]:
    """One handler for each size of request for the model, the largest first."""
    wait_s = settings.gateway.wait_s
    replay_limit = settings.gateway.replay_limit_mib * MIB
    large_limit = settings.vm.large_request_mib * MIB if Lane.BURST in settings.lanes else None
    found: list[Walk] = []
    for limit in sorted({replay_limit, large_limit or replay_limit}, reverse=True):
        large = large_limit is not None and limit >= large_limit
        replay = limit < replay_limit
        name = f"{LARGE if large else 'small'}-{'replayed' if replay else 'streamed'}"
        found.append(Walk(name, limit, _proxy(settings, lanes, replay=replay, large=large, wait_s=wait_s)))
    last = _proxy(settings, lanes, replay=True, large=False, wait_s=wait_s)
    return [*found, Walk("small-replayed", None, last)]


def _proxy(settings: Settings, lanes: Sequence[Upstream], *, replay: bool, large: bool, wait_s: int) -> Json:
    """The walk over the lanes.

    `replay`: the body is in memory, so any failure before the answer's headers is repeated on the next lane, and counts
    against the one that failed. Otherwise the body streams through once: nothing but a refused dial is repeated, and
    failures don't count, because a caller who hangs up half-way looks like a lane that did. Checks find a dead lane.
    """
    balancing: Json = {
        "selection_policy": {"policy": "first"},
        "try_duration": f"{wait_s}s",
        "try_interval": TRY_INTERVAL,
    }
    passive: Json = {"max_fails": 1}
    asks: Json = {"X-Lane": ["{http.reverse_proxy.active.target_upstream}"]}
    handler: Json = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": upstream.dial, "max_requests": upstream.max_requests} for upstream in lanes],
        "load_balancing": balancing,
        "health_checks": {
            "passive": passive,
            "active": {
                "upstream": ports.loopback(ports.CHECKS),
                "uri": "/",
                "headers": {**asks, "X-Handler": [LARGE]} if large else asks,
                "interval": CHECK_INTERVAL,
                "timeout": CHECK_TIMEOUT,
            },
        },
        "transport": {
            "protocol": "http",
            "dial_timeout": "1s",
            "compression": False,
            "keep_alive": {"max_idle_conns_per_host": 256, "idle_timeout": IDLE_CONNECTION},
        },
        "flush_interval": -1,
        "headers": {"request": only_needed("{http.reverse_proxy.upstream.hostport}", {"X-Request-Id": "{request_id}"})},
        # Refused by the last lane, or too large to replay: the caller gets the gateway's own 503.
        "handle_response": [
            {
                "match": {"status_code": list(REFUSED)},
                "routes": [{"handle": [{"handler": "error", "status_code": 503}]}],
            }
        ],
    }
    if replay:
        # One byte more than the largest body that comes here: Caddy takes a full buffer for an incomplete body.
        handler["request_buffers"] = settings.gateway.replay_limit_mib * MIB + 1
        passive |= {"fail_duration": FAIL_DURATION, "unhealthy_status": list(REFUSED)}
        balancing["retry_match"] = [{"expression": _worth_another_try(lanes)}]
    return handler


def _worth_another_try(lanes: Sequence[Upstream]) -> str:
    """CEL. In JSON the short placeholder names `{rp.…}` never match."""
    refused = f"{{http.reverse_proxy.status_code}} in [{', '.join(map(str, REFUSED))}]"
    another = f"{{http.reverse_proxy.upstream.hostport}} != {json.dumps(lanes[-1].address)}"
    young = f"{{http.request.duration_ms}} < {LAST_REFUSAL_MS}.0"
    return f"{{http.reverse_proxy.is_transport_error}} == true || ({refused} && ({another} || {young}))"


def only_needed(host: str, own: dict[str, str]) -> Json:
    """Header operations of a request to a lane: nothing of the caller's goes there but what the model server needs.

    So no key, cookie, forwarded address or Host of the caller's choice can reach a lane or steer Traefik.
    """
    kept = {name: f"{{http.request.header.{name}}}" for name in ("Content-Type", "Accept", "User-Agent")}
    return {"delete": ["*"], "set": {name: [value] for name, value in ({"Host": host} | own | kept).items()}}
