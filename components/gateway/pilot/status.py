"""What the pilot shows of itself and the lanes, for people and for Prometheus.

Owns: the words and names of `/status` and `/metrics`. Does not own: who may ask (`components.gateway`), any number.
"""

import math
import time
from typing import Any

from .expect import SIZES, expected
from .pilot import Pilot
from .prometheus import exposition
from .state import Phase


def status(pilot: Pilot) -> dict[str, Any]:
    """Everything that is known."""
    now, wall = time.monotonic(), time.time()
    traffic = pilot.caddy.traffic
    lanes: dict[str, dict[str, Any]] = {
        name: {
            "state": lane.phase.value,
            "since": round(wall - (now - lane.since), 3),
            "seconds": round(now - lane.since, 3),
            "reason": lane.reason,
            "first_token_s": None if lane.first_token_s is None else round(lane.first_token_s, 4),
            "in_flight": traffic.in_flight.get(name),
            "error": lane.error,
        }
        for name, lane in pilot.lanes.items()
    }
    if "vm" in lanes:
        lanes["vm"]["capacity"] = pilot.slots("vm")
    if burst := pilot.lanes.get("burst"):
        wake_s = None if burst.wake_s is None else round(burst.wake_s, 3)
        lanes["burst"] |= {"wake_s": wake_s, "wakes": burst.wakes}
    for name, seconds in _expected(pilot).items():
        rounded = {size: None if value is None else round(value, 2) for size, value in seconds.items()}
        lanes[name] |= {"expected_first_token_s": rounded, "capacity": pilot.slots(name)}
    return {
        "time": round(wall, 3),
        "lanes": lanes,
        "waiting": traffic.waiting,
        "line": {"waiting": len(pilot.line.places), "longest_s": round(pilot.line.longest_s(now), 3)},
        "caddy": {"seen": pilot.caddy.seen, "error": pilot.caddy.error},
        "token": {"expires": round(pilot.token.expires) or None, "error": pilot.token.error},
        "tunnel": {"shutdowns": _shutdowns(pilot)},
    }


def metrics(pilot: Pilot) -> str:
    """The same in Prometheus' format."""
    traffic, burst = pilot.caddy.traffic, pilot.lanes.get("burst")
    rows: list[tuple[str, str, float | None]] = [
        *(
            (f'lane_state{{lane="{name}",state="{phase}"}}', "gauge", float(phase is lane.phase))
            for name, lane in pilot.lanes.items()
            for phase in Phase
        ),
        *((f'lane_in_flight{{lane="{name}"}}', "gauge", count) for name, count in traffic.in_flight.items()),
        *(
            (f'lane_first_token_seconds{{lane="{name}"}}', "gauge", lane.first_token_s)
            for name, lane in pilot.lanes.items()
        ),
        *((f'lane_slots{{lane="{name}"}}', "gauge", pilot.slots(name)) for name in pilot.lanes),
        ("requests_waiting", "gauge", traffic.waiting),
        *(
            (f'expected_first_token_seconds{{lane="{lane}",size="{size}"}}', "gauge", value)
            for lane, seconds in _expected(pilot).items()
            for size, value in seconds.items()
        ),
        ("vm_correction", "gauge", pilot.correction if "vm" in pilot.lanes else None),
        ("burst_wake_seconds", "gauge", burst and burst.wake_s),
        ("burst_wakes_total", "counter", burst and burst.wakes),
        ("tunnel_shutdowns_total", "counter", _shutdowns(pilot)),
        ("id_token_expiry_seconds", "gauge", pilot.token.expires or None),
        *(
            (f'lane_transitions_total{{lane="{lane}",from="{old}",to="{new}"}}', "counter", count)
            for (lane, old, new), count in pilot.moves.counts.items()
        ),
    ]
    return exposition(rows)


def _shutdowns(pilot: Pilot) -> int:
    return pilot.tunnel.shutdowns if pilot.tunnel else 0


def _expected(pilot: Pilot) -> dict[str, dict[str, float | None]]:
    """Seconds to a first token, by lane and size of request; None on a lane that can't come."""
    scene, declared = pilot.scene(), pilot.declared
    by_size = {size: expected(size, declared, scene) for size in SIZES}
    return {
        lane: {size: seconds[lane] if seconds[lane] < math.inf else None for size, seconds in by_size.items()}
        for lane in pilot.lanes
        if lane in declared.paces
    }
