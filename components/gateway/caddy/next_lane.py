"""How a 500 gets to the next lane, though the lane that gave it is not left alone.

Owns: which lane a request takes after the one it had, and how often a 500 sends it on. Does not own: what else is
repeated (`walk`).

A 500 may be the request's own fault. If it marked lanes as failed, one such request would take them all from everybody;
but among lanes that are not marked, policy `first` takes the same one again. So each attempt leaves a mark in the
request's header, by which Caddy's policy `header` chooses for the next attempt: of the lanes that are up and have a
slot, the one whose address and the mark have the highest hash together. Each lane has a mark with which the hashes are
in the wanted order. A new request has none, nor has one that comes from the line, and `first` chooses.

The mark stands in `Trailer`: Caddy removes it from what callers send, and Go from what lanes get.
"""

import itertools
from collections.abc import Sequence
from typing import Final

import xxhash

from components.gateway.caddy import line, pause, refusal
from components.gateway.caddy.answers import Json
from components.gateway.caddy.upstreams import Upstream

FIELD: Final = "Trailer"
MARK: Final = "{next_lane}"
"""Placeholder: the mark of the lane that an attempt is made on."""
ONWARDS: Final = (
    f"({{http.regexp.gave_500.0}} == null || {{http.regexp.gave_500.0}} < {MARK})"
    + f" && header_regexp('gave_500', '{FIELD}', '.+')"
)
"""CEL: whether the 500 before this one, if any, was an earlier lane's; it keeps this one's lane (`header_regexp` does).
So the walk is over after as many 500s as there are lanes, also where later lanes are full."""


def policy() -> Json:
    """Caddy's choice of a lane. A new request may have to stand in line before it looks for one."""
    return {"policy": "header", "field": FIELD, "fallback": line.policy({"policy": "first"})}


def marks(lanes: Sequence[Upstream]) -> dict[str, str]:
    """The mark of each lane by its address: sorted as the lanes are, and best for the later ones, then the earlier.

    The places of further machines come after all lanes, in any order: who finds all lanes full stands in line, and
    comes back without a mark.
    """
    dials, further = [upstream.dial for upstream in lanes], _further(lanes)
    return {
        dial: _mark(place, [*dials[place:], *dials[:place]], further, [refusal.DIAL, line.DIAL, pause.DIAL])
        for place, dial in enumerate(dials, start=1)
    }


def to_line(lanes: Sequence[Upstream]) -> str:
    """The mark of a new request that stands in line first. Where the line is down, it is as if it had none."""
    return _mark(0, [line.DIAL, *(upstream.dial for upstream in lanes)], _further(lanes), [refusal.DIAL, pause.DIAL])


def _further(lanes: Sequence[Upstream]) -> list[str]:
    return [each.dial for upstream in lanes for each in upstream.further]


def _mark(place: int, first: list[str], anyhow: list[str], last: list[str]) -> str:
    """A mark that has `first` in its order before all others, and `last` in its own."""
    return next(
        mark
        for mark in (f"{place}.{number}" for number in itertools.count())
        if _hashed([*first, *last], mark) == [*first, *last]
        and (not anyhow or _hashed([first[-1], *anyhow], mark)[0] == first[-1])
    )


def _hashed(dials: Sequence[str], mark: str) -> list[str]:
    """The addresses in the order in which Caddy takes them (`hostByHashing` in its `selectionpolicies.go`)."""
    return sorted(dials, key=lambda dial: xxhash.xxh64_intdigest((dial + mark).encode()), reverse=True)
