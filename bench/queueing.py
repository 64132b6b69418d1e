"""A line for slots, as it was and as it would be first come, first served.

Owns: the simulation, who overtook whom, and for how long a slot was free while somebody waited. Does not own: running
anything (`tables.line`). Pure.
"""

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SAME_S: Final = 0.001
"""Who came so close together came at once, seconds: nobody is overtaken by him."""


@dataclass(frozen=True)
class Served:
    """A request: when it was sent, when a slot took it, when the slot was free again. Seconds of one clock."""

    sent: float
    begun: float
    ended: float

    @property
    def service_s(self) -> float:
        return self.ended - self.begun


def first_come(arrivals: Sequence[float], services: Sequence[float], slots: int) -> list[float]:
    """Seconds from each arrival to its end, in the order given, which is the order of arrival."""
    free = [float("-inf")] * slots
    took: list[float] = []
    for arrived, service in zip(arrivals, services, strict=True):
        end = max(arrived, heapq.heappop(free)) + service
        heapq.heappush(free, end)
        took.append(end - arrived)
    return took


def first_come_by_callers(services: Sequence[float], callers: int, slots: int) -> list[float]:
    """The same for callers of whom each sends the next request with his answer."""
    free, sending = [0.0] * slots, [0.0] * callers
    took: list[float] = []
    for service in services:
        arrived = heapq.heappop(sending)
        end = max(arrived, heapq.heappop(free)) + service
        heapq.heappush(free, end)
        heapq.heappush(sending, end)
        took.append(end - arrived)
    return took


def overtaken(requests: Sequence[Served]) -> list[int]:
    """By how many that were sent later each was overtaken, in the order of sending."""
    ordered = sorted(requests, key=lambda one: one.sent)
    return [
        sum(later.begun < one.begun and later.sent > one.sent + SAME_S for later in ordered[number + 1 :])
        for number, one in enumerate(ordered)
    ]


def idle(requests: Sequence[Served], slots: int) -> tuple[float, float]:
    """Longest time that a slot was free while somebody waited, and the share of all slot time; seconds.

    Which slot took a request is not known: the one that was free for longest.
    """
    if not requests:
        return 0.0, 0.0
    times, waited = _waiting(requests)
    begin, end = min(one.sent for one in requests), max(one.begun for one in requests)
    free = [begin] * slots
    events = sorted([(one.begun, 1) for one in requests] + [(one.ended, 0) for one in requests])
    gaps: list[float] = []
    for at, begins in events:
        if not begins:
            heapq.heappush(free, at)
        elif free:
            gaps.append(_until(times, waited, at) - _until(times, waited, heapq.heappop(free)))
    whole = (end - begin) * slots
    return max(gaps, default=0.0), sum(gaps) / whole if whole else 0.0


def _waiting(requests: Sequence[Served]) -> tuple[list[float], list[float]]:
    """Moments, and for how long until each of them somebody was waiting."""
    changes = sorted([(one.sent, 1) for one in requests] + [(one.begun, -1) for one in requests])
    times, waited, waiting = [changes[0][0]], [0.0], 0
    for at, change in changes:
        waited.append(waited[-1] + (at - times[-1] if waiting else 0.0))
        times.append(at)
        waiting += change
    return times, waited


def _until(times: Sequence[float], waited: Sequence[float], at: float) -> float:
    place = bisect_right(times, at) - 1
    if place < 0:
        return 0.0
    if place + 1 >= len(times):
        return waited[place]
    share = (at - times[place]) / (times[place + 1] - times[place])
    return waited[place] + share * (waited[place + 1] - waited[place])
