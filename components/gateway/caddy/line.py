"""The line of those who wait for a lane: a place in the walk after every lane, whose answer means `look again`.

Owns: a loopback listener of the same Caddy that is as good as a lane to the walk and stands for none, what is told of a
caller there, and who must stand in line before he looks for a lane. Does not own: the order of the line (`pilot.line`),
the walk (`walk`), the way to the pilot (`pilot_routes`).

Caddy's own waiting looks for a lane every `TRY_INTERVAL`, in no order, and doesn't notice that a caller has hung up.
The attempt on the line lasts until it is the caller's turn, or until he is gone: then Go ends it, as any attempt. The
line is up while the pilot is. Without it nothing is left but Caddy's own waiting.
"""

from collections.abc import Sequence
from typing import Final

from components import ports
from components.gateway.caddy.answers import Json
from components.gateway.caddy.upstreams import Upstream

DIAL: Final = ports.loopback(ports.LINE)
STATUS: Final = 598
"""An answer that no lane gives. Not a 4xx: where no time is left to look again, it is the error that Caddy raises."""
HEADER: Final = "X-Line"
"""Tells of a caller in line (`told`)."""
GATE: Final = "X-Gate"
"""Header of a request whose first attempt is the line, though a lane may have a free slot."""


NO_LANE_S: Final = "{no_lane_s}"
"""Placeholder: the header that tells of a caller in line, where the attempt is on a lane, and nothing otherwise."""


def server(hold: Json) -> Json:
    """Caddy's server; `hold` answers when it is the caller's turn.

    It must read the body, and so hands it on: else Go would not notice that the walk has hung up.
    """
    failed = {"handle": [{"handler": "static_response", "status_code": 503}]}
    return {
        "listen": [DIAL],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "read_idle_timeout": -1,
        "routes": [{"handle": [hold]}],
        "errors": {"routes": [failed]},
    }


def told(lanes: Sequence[Upstream], size: str, wait_s: int) -> str:
    """What the pilot gets to know: the request's age, ms, its longest wait, s, its size, and the slots it may take."""
    slots = [f"{dial}={most}" for upstream in lanes for dial, most in upstream.places.items()]
    return " ".join(["{http.request.duration_ms}", str(wait_s), size, *slots])


def named(by_address: Json) -> Json:
    """The map of the lanes' names and marks, with the line, which is no lane, and with `NO_LANE_S`."""
    lanes: list[Json] = [{**lane, "outputs": [*lane["outputs"], HEADER]} for lane in by_address["mappings"]]
    return {
        **by_address,
        "destinations": [*by_address["destinations"], NO_LANE_S],
        "mappings": [*lanes, {"input": DIAL, "outputs": ["gateway", "", ""]}],
        "defaults": [*by_address["defaults"], ""],
    }


def gate(mark: str) -> list[Json]:
    """Routes before the walk. While the pilot's file is there, others wait for a slot, and nobody may overtake them."""
    closed: Json = {"match": [{"file": {"root": ".", "try_files": [ports.LINE_GATE]}}]}
    return [
        {"handle": [{"handler": "headers", "request": {"delete": [GATE]}}]},
        {**closed, "handle": [{"handler": "headers", "request": {"set": {GATE: [mark]}}}]},
    ]


def policy(fallback: Json) -> Json:
    """Caddy's choice of a lane, where the gate may have a say."""
    return {"policy": "header", "field": GATE, "fallback": fallback}
