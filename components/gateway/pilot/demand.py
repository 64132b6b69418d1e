"""Demand: what Caddy's numbers say about the traffic, and whether there is work for burst in it.

Owns: reading the numbers, what counts as demand. Does not own: asking for them (`caddy`), what follows (`lane`). Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .environment import Settings, address
from .lane import DOWN_AFTER
from .prometheus import samples
from .state import Lane, Load, Phase, Policy

_ERRORS: Final = "caddy_http_request_duration_seconds_count"
"""Counts answers as the total does, and by status, too."""
_CADDY: Final[Mapping[str, str]] = {
    "caddy_http_requests_in_flight": "", "caddy_http_requests_total": "", _ERRORS: ""
}  # fmt: skip
_API: Final = 'server="api"'
_NO_HOME, _NO_BURST, _HOME_ONLY = (f'handler="{name}"' for name in ("rewrite", "headers", "request_body"))
_LANES: Final = {'handler="reverse_proxy"', _NO_HOME, _NO_BURST, _HOME_ONLY}
"""Caddy counts per top-level route, under the name of its first handler: these are the routes to the lanes, the last
three of callers who may go to burst and not home, to the VM and not burst, and home alone (`caddy.classes`)."""
_HOP: Final = {'handler="reverse_proxy"', 'server="burst"'}
_REFUSAL: Final = {'server="refusal"'}


@dataclass(frozen=True)
class Traffic:
    """The requests at one moment, and what ended up to then."""

    in_flight: Mapping[str, int] = field(default_factory=dict[str, int])
    """By lane."""
    at_home: int = 0
    """Requests at home, its other services' included: Caddy keeps those under other spellings of its address."""
    waiting: int = 0
    """In line, and beside it."""
    beside: int = 0
    """Requests that nobody holds in line, because their bodies are not kept or still on their way."""
    no_home: int = 0
    """Of those who wait: callers who may go to burst and not home."""
    no_burst: int = 0
    """Callers who may not go to burst, of those who wait."""
    on_vm: int = 0
    """Requests on the VM of such callers, at most."""
    counted: int = 0
    """Those beside it by one count alone. The two answers of Caddy are not from the same moment: only what is seen
    twice is waiting."""
    fails: int = 0
    """Burst's failed requests that Caddy still remembers."""
    failing: frozenset[str] = frozenset()
    """Lanes that a request failed on a moment ago."""
    ended: tuple[float, float, float] | None = None
    """Answers by burst, by the other lanes, and by none: refused, because they would come too late."""
    errors: float | None = None
    """Answers of 500 that callers got."""

    def unseen(self) -> "Traffic":
        """What is left of it where Caddy does not answer."""
        return replace(self, in_flight={}, at_home=0, waiting=0, beside=0, failing=frozenset())


def traffic(
    before: Traffic, rows: Sequence[Mapping[str, Any]], text: str, settings: Settings, in_line: int = 0
) -> Traffic:
    """Read the upstreams' `rows` and the metrics' `text` (empty: not asked this time)."""
    seen = {row["address"]: row for row in rows}
    rows_of = {lane: [seen[dial] for dial in settings.places(lane) if dial in seen] for lane in settings.dials}
    in_flight = {lane: sum(row["num_requests"] for row in found) for lane, found in rows_of.items() if found}
    after = replace(
        before,
        in_flight=in_flight,
        waiting=in_line + before.beside,
        at_home=sum(row["num_requests"] for row in rows if _leads_to(row["address"], settings.home)),
        failing=frozenset(lane for lane, found in rows_of.items() if any(row["fails"] for row in found)),
        fails=sum(row["fails"] for row in rows_of.get("burst", ())),
    )
    if not text:
        return after
    served, elsewhere, refused, errors = 0.0, 0.0, 0.0, 0.0
    begun = dict.fromkeys(_LANES, 0)
    for name, labels, value in samples(text, _CADDY):
        known = set(labels.split(","))
        route = known & _LANES if _API in known else set[str]()
        if name == "caddy_http_requests_in_flight":
            begun |= dict.fromkeys(route, int(value))
        elif name == _ERRORS:
            errors += value if route and 'code="500"' in known else 0
        elif known >= _HOP:
            served, elsewhere = served + value, elsewhere - value
        elif known >= _REFUSAL:
            refused, elsewhere = refused + value, elsewhere - value
        elif route:
            elsewhere += value
    home, burst, vm = (in_flight.get(lane, 0) for lane in ("home", "burst", "vm"))
    # Who hangs in the line is on no lane.
    counted = sum(begun.values()) - sum(in_flight.values()) - in_line
    beside = max(0, min(counted, before.counted))
    waiting = in_line + beside
    return replace(
        after,
        waiting=waiting,
        beside=beside,
        no_home=min(waiting, max(0, begun[_NO_HOME] - burst - vm)),
        no_burst=min(waiting, max(0, begun[_HOME_ONLY] - home) + max(0, begun[_NO_BURST] - vm)),
        on_vm=min(vm, begun[_NO_BURST]),
        counted=counted,
        ended=(served, elsewhere, refused),
        errors=errors,
    )


def loads(
    before: Traffic, after: Traffic, settings: Settings, home: Lane | None, vm_slots: int, home_full: int
) -> dict[str, Load]:
    """What the traffic means for each lane. From `home_full` requests on home has no slot for some caller.

    Requests shorter than a sample are use, too. What burst did not serve was the VM's only where home can't have: where
    there is none, or it failed for some time, or is slow. Answers of 500 that callers see are a reason to ask home and
    the VM: the VM's engine counts none, and home's own count is looked at too late for a caller's second try.
    """
    homeless = home is None or home.failures >= DOWN_AFTER or home.phase is Phase.SLOW
    new = after.ended or (0.0, 0.0, 0.0)
    old = before.ended or new
    ended = new[1] > old[1]
    running_on_vm = max(after.in_flight.get("vm", 0), int(homeless and ended))
    home_free = home is not None and home.takes and after.in_flight.get("home", 0) < home_full
    errors = max(0, int((after.errors or 0) - (after.errors or 0 if before.errors is None else before.errors)))
    burst = Load(
        in_flight=max(after.in_flight.get("burst", 0), int(new[0] > old[0])),
        # Who was refused would have waited.
        wanted=demand(
            settings.policy,
            running_on_vm - after.on_vm,
            vm_slots,
            after.waiting - after.no_burst + int(new[2] > old[2]),
            home_free=home_free and not after.no_home,
        ),
        failures=max(0, after.fails - before.fails),
    )
    at_home = max(after.in_flight.get("home", 0), int(not homeless and ended))
    found = {"home": Load(at_home, errors=errors), "burst": burst, "vm": Load(running_on_vm, errors=errors)}
    return {lane: found[lane] for lane in settings.dials}


def demand(policy: Policy, vm_running: int, vm_slots: int, waiting: int, *, home_free: bool = False) -> bool:
    """Whether there is work for burst that home does not take. Without a VM (no slots) it shows as waiting.

    While home is up and has a free slot (`home_free`) nobody waits for a lane: who seems to is still sending a body.
    """
    if policy.wake == "never":
        return False
    enough = 1 if policy.wake == "first-fallback" else vm_slots
    return (waiting > 0 and not home_free) or (vm_slots > 0 and vm_running >= enough)


def _leads_to(dial: str, target: tuple[str, int] | None) -> bool:
    """Whether a dial address of Caddy's leads there."""
    try:
        return address(dial) == target
    except ValueError:
        return False
