"""The product's promises, judged by the fake lanes' own logs and by the answers that callers saw.

Owns: reading the logs, and the list of broken promises. Does not own: writing the logs (`programs.fake_model`,
`run.burst`), sending (`load`). The pilot's and the gateway's own words count for nothing here.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, cast

from lab.measure.load import Sample
from lab.run.burst import BurstRequest

REFUSALS: Final = (401, 403, 429, 500, 502, 503, 504)
"""A lane that answers so has not begun: the request may go on to the next."""
AGAIN_S: Final = 1.0
"""A lane that refused a request is not asked again for it within this, seconds; declared is 2 (`fail_duration`)."""
TOKEN: Final = "X-Serverless-Authorization"
FRONT: Final = "burst's front"


@dataclass(frozen=True)
class Arrival:
    """One request as it reached a lane."""

    lane: str
    request: str
    """`X-Request-Id`; empty where the pilot asked."""
    time: float
    """Unix time."""
    headers: tuple[tuple[str, str], ...] = ()
    begun: bool = False
    """The headers of an answer that is no refusal were sent."""
    process: str = ""
    """Which of the lane's processes it reached."""
    finished: float = math.inf
    """When the last token of its answer came; Unix time."""


def arrivals(lane: str, journal: Path) -> list[Arrival]:
    """The lane's log; a request stands in it once more for each thing that became of it."""
    last: dict[str, dict[str, Any]] = {}
    for line in journal.read_text().splitlines() if journal.exists() else ():
        entry = cast(dict[str, Any], json.loads(line))
        last[entry["key"]] = entry
    return [_arrival(lane, entry) for entry in last.values()]


def _arrival(lane: str, entry: Mapping[str, Any]) -> Arrival:
    headers = tuple((name, value) for name, value in entry["headers"])
    request = next((value for name, value in headers if name.lower() == "x-request-id"), "")
    begun = entry["status"] is not None and entry["status"] not in REFUSALS
    process = cast(str, entry["key"]).partition("-")[0]
    finished = entry["finished"] or math.inf
    return Arrival(lane, request, entry["time"], headers, begun, process, finished)


def broken_promises(
    samples: Sequence[Sample],
    received: Sequence[Arrival],
    at_burst: Sequence[BurstRequest],
    *,
    key: str,
    cut_off: str = "",
) -> list[str]:
    """A sentence for each promise that was not kept to one of these callers.

    `cut_off` is the lane whose answers a fault swallowed on their way: it may believe to have begun what the gateway
    never heard of, and rightly asked of another lane.
    """
    return [
        *_cold(at_burst),
        *_secrets(received, key),
        *_patience(received, at_burst),
        *_once(samples, received, cut_off),
    ]


def _cold(at_burst: Iterable[BurstRequest]) -> list[str]:
    count = sum(bool(one.request) and not one.ready for one in at_burst)
    return [f"{count} requests of callers were sent to a cold burst"] if count else []


def _secrets(received: Iterable[Arrival], key: str) -> list[str]:
    found: set[str] = set()
    for arrival in received:
        if any(key in value for _, value in arrival.headers):
            found.add(f"{arrival.lane} was told a client's key")
        if arrival.lane != "burst" and any(name.lower() == TOKEN.lower() for name, _ in arrival.headers):
            found.add(f"{arrival.lane} was told the ID token, which is for burst alone")
    return sorted(found)


def _patience(received: Iterable[Arrival], at_burst: Iterable[BurstRequest]) -> list[str]:
    seen = [(arrival.lane, arrival.request, arrival.time) for arrival in received]
    seen += [(FRONT, one.request, one.time) for one in at_burst]
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for lane, request, time in sorted(seen, key=lambda one: one[2]):
        if request:
            times[lane, request].append(time)
    hasty: dict[str, int] = defaultdict(int)
    for (lane, _), found in times.items():
        hasty[lane] += sum(later - earlier < AGAIN_S for earlier, later in pairwise(found))
    return [
        f"{lane} was asked again {count} times at once for what it had refused"
        for lane, count in hasty.items()
        if count
    ]


def _once(samples: Iterable[Sample], received: Iterable[Arrival], cut_off: str) -> list[str]:
    """Begun once, by the lane that the caller was told, and sent nowhere else after that."""
    by_request: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in sorted(received, key=lambda arrival: arrival.time):
        by_request[arrival.request].append(arrival)
    found: list[str] = []
    for sample in samples:
        reached = [arrival for arrival in by_request[sample.request] if arrival.lane != cut_off]
        begun = [arrival for arrival in reached if arrival.begun]
        told = [sample.lane] if sample.outcome not in ("lost", "refused") and sample.lane != cut_off else []
        lanes = [arrival.lane for arrival in begun]
        if lanes != told:
            found.append(
                f"request {sample.request}: begun by {lanes or 'nobody'}, its caller was told {told or 'nothing'}"
            )
        elif begun and reached[-1] is not begun[0]:
            found.append(f"request {sample.request}: begun by {lanes[0]}, and then sent to {reached[-1].lane}, too")
    return found
