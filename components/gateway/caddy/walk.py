"""How a request is walked over the lanes: the proxy handlers with their retries, waiting and limits.

Owns: one handler for each size of request, what is repeated on the next lane, how long a request waits, and which
headers of the caller's a lane gets. Does not own: the lanes themselves (`upstreams`), what a check asks (`checks`),
which requests get here (`routes`).

Where there is a VM and another lane, a handler takes requests of one size: short text, long text, picture. Size stands
for how much later the VM would be, and is known from the length alone; without one, a body counts as large.

All handlers of the model share each lane's capacity and failures, because Caddy keeps both per dial address. What a
check found is each handler's own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from components import ports
from components.gateway.caddy import begun, connections, lengths, line, next_lane, pause, refusal
from components.gateway.caddy.answers import Json
from components.gateway.caddy.upstreams import (
    ALONE,
    CHECK_INTERVAL,
    CHECK_TIMEOUT,
    SIZE_HEADER,
    Upstream,
    judged,
)
from components.gateway.speeds import first_tokens_s
from components.machines.requests import KIB, Size
from components.settings import Lane, Settings

MIB: Final = 1024 * 1024

TRY_INTERVAL: Final = "10ms"
"""Pause before the next lane is tried or looked at again: what a fail-over costs."""
FAIL_DURATION: Final = "2s"
"""How long a failed lane is left alone. Must outlast the checks' own detection (interval + timeout), else `first` picks
the dead lane again before they have found it. Much longer, and one hiccup costs the lane's capacity."""
REFUSED: Final = (502, 503, 504)
"""Answers of a lane that mean `not here, not now`."""
FAILED: Final = 500
"""Answer of a lane that may be the request's own fault: repeated, but no lane is left alone for it."""
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
        """`match` of a route that comes after those of the larger sizes; the largest takes what has no known length."""
        return {} if self.above is None else {"match": [lengths.unknown(), longer_than(self.above)]}


def longer_than(limit: int) -> Json:
    """Matcher of requests with a body of more than `limit` bytes, as far as they say so."""
    return {"header_regexp": {"Content-Length": {"pattern": more_than(limit)}}}


def more_than(limit: int) -> str:
    """Pattern of the decimal numbers above `limit`: a tenth of what an expression (CEL) costs Caddy."""
    digits = str(limit)
    larger = [f"[1-9][0-9]{{{len(digits)},}}"] + [
        f"{digits[:place]}[{int(digit) + 1}-9][0-9]{{{len(digits) - place - 1}}}"
        for place, digit in enumerate(digits)
        if digit != "9"
    ]
    return f"^0*(?:{'|'.join(larger)})$"


def service_walks(settings: Settings, home: Upstream) -> list[Walk]:
    """One handler for each size of request to a service that is at home only, the larger first."""
    wait_s = min(SERVICE_WAIT_S, settings.wait_s)
    limit = settings.gateway.replay_limit_mib * MIB
    return [
        Walk("streamed", limit, _proxy(settings, [home], replay=False, wait_s=wait_s)),
        Walk("replayed", None, _proxy(settings, [home], replay=True, wait_s=wait_s)),
    ]


def pinned_walk(settings: Settings, lane: Upstream) -> Walk:
    """The handler of requests that name their lane, whatever their size: one attempt, by which its caller sees it."""
    proxy = _proxy(settings, [lane], replay=False, wait_s=settings.wait_s, asks=_asks(settings, [lane]))
    return Walk("pinned", None, proxy)


def walks(settings: Settings, lanes: Sequence[Upstream]) -> list[Walk]:
    """One handler for each size of request for the model, the largest first; `lanes` are all of the stack, or some.

    Who has not all of them is not sent where the first token comes sooner: the pilot's answer is about them all.
    """
    wait_s, limit = settings.wait_s, settings.gateway.replay_limit_mib * KIB
    never, sized = _never_in_time(settings, lanes), judged(lanes) and len(lanes) == len(settings.lanes)
    asks = _asks(settings, lanes)
    if not sized and not never:
        return [
            Walk("streamed", limit * KIB, _proxy(settings, lanes, replay=False, wait_s=wait_s, asks=asks)),
            Walk(
                "replayed",
                None,
                _proxy(settings, lanes, replay=True, wait_s=wait_s, asks=asks, lined=settings.piloted),
            ),
        ]
    found: list[Walk] = []
    short, text = settings.borders.short_kib, settings.borders.text_kib
    # Where every body that is kept can be a text, the two borders are one.
    sizes = {limit: Size.PICTURE, text: Size.PICTURE, short: Size.LONG, None: Size.SHORT}
    if Size.PICTURE in never and text < limit:
        del sizes[limit]
    for above, size in sizes.items():
        bytes_above = above and above * KIB
        if size in never:
            refuse = refusal.too_slow(settings.gateway.timeout_s, never[size])
            found.append(Walk(f"{size}-refused", bytes_above, refuse))
            continue
        replay = above != limit
        proxy = _proxy(
            settings,
            lanes,
            replay=replay,
            wait_s=wait_s,
            asks=size if sized else asks,
            may_refuse=sized,
            lined=replay and settings.piloted,
        )
        found.append(Walk(f"{size}-{'replayed' if replay else 'streamed'}", bytes_above, proxy))
    return found


def _never_in_time(settings: Settings, lanes: Sequence[Upstream]) -> Mapping[Size, float]:
    """Sizes that the VM alone can't begin to answer before the request's end, with the seconds that it would take."""
    if [upstream.lane for upstream in lanes] != [Lane.VM]:
        return {}
    known = first_tokens_s(settings, Lane.VM)
    return {size: seconds for size, seconds in known.items() if seconds > settings.gateway.timeout_s}


def _asks(settings: Settings, lanes: Sequence[Upstream]) -> str:
    """What the pilot is asked for: who is sooner, or of some of the lanes whether they are well.

    Where sizes are not told apart, one stands for all; of the only lane nothing is asked.
    """
    if len(settings.lanes) == 1:
        return ""
    return Size.SHORT if len(lanes) == len(settings.lanes) else ALONE


def _proxy(
    settings: Settings,
    lanes: Sequence[Upstream],
    *,
    replay: bool,
    wait_s: int,
    asks: str = "",
    may_refuse: bool = False,
    lined: bool = False,
) -> Json:
    """The walk over the lanes. A lane is up for it while the pilot doesn't say no to what it `asks`, usually a size;
    where that can be no to all (`may_refuse`), a refusal comes last.

    `lined`: who finds no lane stands in line, which takes a body that is in memory.

    `replay`: the body is in memory, so any failure before the answer's headers is repeated on the next lane, and counts
    against the one that failed, unless it is a 500. Otherwise the body streams through once: nothing but a refused dial
    is repeated, and failures don't count, because a caller who hangs up half-way looks like a lane that did. Checks
    find a dead lane.

    Streams need no `flush_interval`: Caddy hands on at once whatever has no known length, and `text/event-stream`.
    """
    balancing: Json = {
        "selection_policy": next_lane.policy() if lined else {"policy": "first"},
        "try_duration": f"{wait_s}s",
        "try_interval": TRY_INTERVAL,
    }
    passive: Json = {"max_fails": 1}
    asked: Json = {"X-Lane": ["{http.reverse_proxy.active.target_upstream}"]}
    slots: list[Json] = [
        {"dial": dial, "max_requests": most} for upstream in lanes for dial, most in upstream.places.items()
    ]
    if asks:
        asked[SIZE_HEADER] = [asks]
    if may_refuse:
        slots.append({"dial": refusal.DIAL})
    own = {"X-Request-Id": "{request_id}"} | connections.header(lanes)
    if lined:
        # Last of all: who is refused need not wait.
        slots.append({"dial": line.DIAL})
        own[next_lane.FIELD] = next_lane.MARK
        own[line.HEADER] = line.told(lanes, asks or Size.SHORT, wait_s)
    if replay:
        slots.append({"dial": pause.DIAL})
        own |= pause.EXPECT
    handler: Json = {
        "handler": "reverse_proxy",
        "upstreams": slots,
        "load_balancing": balancing,
        "health_checks": {
            "passive": passive,
            "active": {
                "upstream": ports.loopback(ports.CHECKS),
                "uri": "/",
                "headers": asked,
                "interval": CHECK_INTERVAL,
                "timeout": CHECK_TIMEOUT,
            },
        },
        "transport": {
            "protocol": "http",
            "dial_timeout": "1s",
            "compression": False,
            "keep_alive": connections.kept(),
        },
        "headers": {
            "request": only_needed("{http.reverse_proxy.upstream.hostport}", own),
            # Which pages may read an answer is the gateway's to say (`cors`). Traefik's cookie names the machine that
            # answered, to the pilot.
            "response": {"delete": ["Access-Control-*", *(["Set-Cookie"] if settings.home.nodes > 1 else [])]},
        },
        # Refused by the last lane, or too large to replay, or by none in time: the caller gets the gateway's own 503.
        "handle_response": [
            {
                "match": {"status_code": [*REFUSED, *([refusal.STATUS] if may_refuse else [])]},
                "routes": [{"handle": [{"handler": "error", "status_code": "{http.reverse_proxy.status_code}"}]}],
            },
            begun.handed_on(),
        ],
    }
    if lined:
        handler["headers"]["request"]["delete"].append(line.NO_LANE_S)
    if replay:
        handler["headers"]["request"]["delete"].append(pause.NO_PAUSE_S)
        handler["transport"]["expect_continue_timeout"] = pause.BODY_AFTER
        # One byte more than the largest body that comes here: Caddy takes a full buffer for an incomplete body.
        handler["request_buffers"] = settings.gateway.replay_limit_mib * MIB + 1
        passive |= {"fail_duration": FAIL_DURATION, "unhealthy_status": list(REFUSED)}
        balancing["retry_match"] = [{"expression": _worth_another_try(lanes, wait_s)}]
    return handler


def _worth_another_try(lanes: Sequence[Upstream], wait_s: int) -> str:
    """CEL. In JSON the short placeholder names `{rp.…}` never match."""
    status, age_ms = "{http.reverse_proxy.status_code}", "{http.request.duration_ms}"
    refused = f"{status} in [{', '.join(map(str, REFUSED))}]"
    another = f"{{http.reverse_proxy.upstream.hostport}} != {json.dumps(lanes[-1].address)}"
    rules = [
        "{http.reverse_proxy.is_transport_error} == true",
        f"({refused} && ({another} || {age_ms} < {LAST_REFUSAL_MS}.0))",
    ]
    if len(lanes) > 1:
        # What no time is left to repeat would be thrown away.
        rules.append(f"({status} == {FAILED} && {another} && {age_ms} < {wait_s * 1000}.0 && {next_lane.ONWARDS})")
    rules.append(f"{status} == {line.STATUS}")
    return " || ".join(rules)


def only_needed(host: str, own: dict[str, str]) -> Json:
    """Header operations of a request to a lane: nothing of the caller's goes there but what the model server needs.

    So no key, cookie, forwarded address or Host of the caller's choice can reach a lane or steer Traefik.
    """
    kept = {name: f"{{http.request.header.{name}}}" for name in ("Content-Type", "Accept", "User-Agent")}
    return {"delete": ["*"], "set": {name: [value] for name, value in ({"Host": host} | own | kept).items()}}
