"""Classes of clients in Caddy: the handlers of each, and how a request finds its own.

Owns: which handlers there are beside each other, the names by which a request is led to one, the pin (`X-Lane`). Does
not own: a handler itself (`walk`), who is in which class and how many slots it may take (`client_classes`).

A handler is made only where a declared client, or a pin of one, can come to it: each asks its lanes twice a second.
Pins share one handler for each lane and priority.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from components.gateway.caddy import answers
from components.gateway.caddy.answers import Json
from components.gateway.caddy.upstreams import Upstream
from components.gateway.caddy.walk import Walk, more_than, pinned_walk, walks
from components.settings import Lane, Settings
from components.settings.client_classes import ClientClass, classes, limit, pins
from components.settings.clients import Priority

PIN: Final = "X-Lane"
"""Header by which a caller names the one lane of a request. It never reaches a lane (`walk.only_needed`)."""


@dataclass(frozen=True)
class Way:
    """The handlers of one class of requests, one for each size, the largest first."""

    name: str
    taken_by: ClientClass
    walks: Sequence[Walk]

    def marks(self, walk: Walk, borders: Sequence[int]) -> list[str]:
        """What the variable `size` can hold of a request on its way to the handler, with all `borders` in bytes."""
        larger = [other.above for other in self.walks if other.above and other.above > (walk.above or 0)]
        own = [border for border in (*borders, 0) if (walk.above or 0) <= border < min(larger, default=math.inf)]
        return [f"{self.name}/{border}" for border in own]


def name(settings: Settings, one: ClientClass) -> str:
    """What the variable `class` holds: `all`, or the lanes; `!` for a pin; the priority where it isn't normal."""
    lanes = "all" if one.lanes == settings.lanes and not one.pinned else "+".join(one.lanes)
    priority = "" if one.priority is Priority.NORMAL else f".{one.priority}"
    return lanes + ("!" if one.pinned else "") + priority


def ways(settings: Settings, lanes: Sequence[Upstream]) -> list[Way]:
    """Every way that some request can take to the model's lanes."""
    found: list[Way] = []
    for one in _all(settings):
        own = [_limited(settings, upstream, one.priority) for upstream in lanes if upstream.lane in one.lanes]
        handlers = [pinned_walk(settings, own[0])] if one.pinned else walks(settings, own)
        found.append(Way(name(settings, one), one, handlers))
    return found


def pinned(settings: Settings) -> list[Json]:
    """Routes of requests with `X-Lane`: on to that lane's handler, or back with the lanes that this client may name."""
    known = classes(settings)
    asked = "{http.vars.class}/{http.request.header." + PIN + "}"
    allowed: list[Json] = [
        {
            "match": [{"vars": {"asked": [f"{name(settings, one)}/{pin.lanes[0]}" for one in known
                                          if one.priority is pin.priority and pin.lanes[0] in one.lanes]}}],
            "handle": [{"handler": "vars", "class": name(settings, pin)}],
        }
        for pin in pins(settings)
    ]  # fmt: skip
    refused: list[Json] = []
    for lanes in dict.fromkeys(one.lanes for one in known):
        names = [name(settings, one) for one in known if one.lanes == lanes]
        others = [lane for lane in settings.lanes if lane not in lanes]
        may = f"This key may name: {', '.join(lanes)}."
        if others:
            refused.append(
                {
                    "match": [{"vars": {"asked": [f"{one}/{lane}" for one in names for lane in others]}}],
                    "handle": [answers.error(403, "lane_not_allowed", f"{PIN} names a lane not for this key. {may}")],
                }
            )
        refused.append(
            {
                "match": [{"vars": {"class": names}}],
                "handle": [answers.error(400, "unknown_lane", f"{PIN} names no lane of this endpoint. {may}")],
            }
        )
    inside = [{"group": "pin", **route} for route in (*allowed, *refused)]
    remembered: Json = {"handle": [{"handler": "vars", "asked": asked}]}
    return [{"match": [{"header": {PIN: ["*"]}}], "handle": [answers.subroute([remembered, *inside])]}]


def only_with_home(settings: Settings, paths: Sequence[str]) -> list[Json]:
    """Route in front of the services that are at home only, and everything below their `paths`."""
    away = [name(settings, one) for one in _all(settings) if Lane.HOME not in one.lanes]
    message = f"This service is at home only, and this request may not go there: by its key, or by {PIN}."
    refuse = answers.error(403, "lane_not_allowed", message)
    below = [path + end for path in paths for end in ("", "/*")]
    return [{"match": [{"path": below, "vars": {"class": away}}], "handle": [refuse]}] if away and paths else []


def to_walks(found: Sequence[Way]) -> list[Json]:
    """Handlers that leave the mark by which a request finds its handler among the server's own routes: its class, and
    the largest border below the length of its body. What has no known length is larger than all."""
    larger = [(more_than(border), border) for border in _borders(found)]
    unknown = [("^$", largest) for _, largest in larger[:1]]
    border: Json = {
        "handler": "map",
        "source": "{http.request.header.Content-Length}",
        "destinations": ["{border}"],
        "mappings": [{"input_regexp": pattern, "outputs": [str(above)]} for pattern, above in (*unknown, *larger)],
        "defaults": ["0"],
    }
    return [border, {"handler": "vars", "size": "{http.vars.class}/{border}"}]


def handlers(settings: Settings, found: Sequence[Way]) -> list[Json]:
    """Routes to the lanes, each a route of the server's own: that is how Caddy counts who has or wants a lane."""
    return [
        {
            "match": [{"vars": {"size": way.marks(walk, _borders(found))}}],
            "handle": [*_counted_as(settings, way.taken_by.lanes), walk.handler],
        }
        for way in found
        for walk in way.walks
    ]


def _borders(found: Sequence[Way]) -> list[int]:
    """All lengths of bodies, in bytes, above which another handler takes a request in some way; the largest first."""
    return sorted({walk.above for way in found for walk in way.walks if walk.above}, reverse=True)


def _limited(settings: Settings, upstream: Upstream, priority: Priority) -> Upstream:
    """The lane with the slots of the class; a place without any would be one without a limit."""
    further = (
        replace(each, max_requests=limit(settings, upstream.lane, priority, each.max_requests))
        for each in upstream.further
    )
    own = limit(settings, upstream.lane, priority)
    return replace(upstream, max_requests=own, further=tuple(each for each in further if each.max_requests))


def _all(settings: Settings) -> Sequence[ClientClass]:
    """Every class that a request can have; a pin to a client's only lane is that client's own."""
    return list(dict.fromkeys((*classes(settings), *pins(settings))))


def _counted_as(settings: Settings, lanes: Sequence[Lane]) -> list[Json]:
    """A first handler that does nothing: Caddy counts a route's requests under its name, and the pilot tells by it who
    could do with burst (`pilot.demand`)."""
    if Lane.BURST not in settings.lanes:
        return []
    if Lane.BURST in lanes:
        return [] if Lane.HOME in lanes or Lane.HOME not in settings.lanes else [{"handler": "rewrite"}]
    return [{"handler": "headers"}] if Lane.VM in lanes else [{"handler": "request_body"}]
