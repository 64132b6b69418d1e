"""What no fault excuses: each promise held against what callers were told and what the lanes wrote down.

Owns: the promises, which errors are documented, and what a fault excuses. Does not own: the faults' windows
(`schedule`), reading answers (`callers`), the lanes' logs (`evidence`). Pure.

A request may be begun by a lane more than once only where a fault of that lane swallowed the answer before the gateway
had its headers: nobody else can know that it was begun. Once its caller has an answer, nobody begins it any more.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lab.measure.evidence import Arrival
from lab.measure.soak.callers import Told
from lab.measure.soak.gauges import Held, Look
from lab.measure.soak.schedule import ENDING_S, LANES, Happened, cut
from lab.run.instances import QUEUE_S

WAITED_OUT: Final = {(503, "no_lane"), (429, "rate_limit_exceeded")}
"""Answers of the gateway that follow a wait of its whole length (docs/errors.md)."""
FRONT: Final = (429, "Rate exceeded.")
"""Google's front has no room within its own time (docs/errors.md)."""
GRACE_S: Final = 1.0
"""Between the clocks of a caller and of a lane's log, on a busy machine."""
GOROUTINES, HEAP_MIB, DESCRIPTORS = 60, 32.0, 40
"""How much more there may be afterwards: idle connections, which are pooled for longer than a soak waits."""


@dataclass(frozen=True)
class Limits:
    """Of the declaration."""

    wait_s: float
    timeout_s: float
    replay: int
    """Largest body that is repeated, bytes."""

    @property
    def longest_s(self) -> float:
        """Nobody who stays waits longer for the end of his answer: Google's front, the line, the next look, and an
        answer under a fault.
        """
        return min(self.timeout_s, QUEUE_S + self.wait_s + ENDING_S) + GRACE_S


@dataclass(frozen=True)
class Violation:
    """A promise that was not kept."""

    kind: str
    """`lost`, `broken`, `crossed`, `twice`, `late`, `undocumented`, `memory`, `descriptors` or `left over`."""
    text: str


def outcome(told: Told, happened: Sequence[Happened], limits: Limits) -> tuple[str, str]:
    """What became of a request, and what is wrong with it (empty: nothing).

    Outcomes: `answered`, `left` (its caller hung up), `told to wait` (a documented error in its due time), `cut off` (a
    fault excuses it), else a violation's kind.
    """
    if told.crossed:
        return "crossed", told.crossed
    if told.ended - told.sent > limits.longest_s:
        return "late", f"its end came after {told.ended - told.sent:.1f} s, the longest is {limits.longest_s:.1f} s"
    if told.left:
        return "left", ""
    excused = _excused(told, happened, limits)
    if told.status == 200:
        if not told.broken:
            return "answered", ""
        return ("cut off", "") if excused else ("broken", f"{told.lane} broke off: {told.broken}")
    return _refused(told, limits, excused)


def _refused(told: Told, limits: Limits, excused: bool) -> tuple[str, str]:
    waited, answer = told.ended - told.sent, (told.status, told.code)
    if answer == FRONT and waited >= QUEUE_S - GRACE_S:
        return "told to wait", ""
    if answer in WAITED_OUT and waited >= limits.wait_s - GRACE_S:
        return "told to wait", ""
    if excused:
        return "cut off", ""
    said = f"HTTP {told.status} {told.code} by {told.lane or 'nobody'}" if told.status else told.broken
    documented = answer in WAITED_OUT or answer == FRONT
    kind = "undocumented" if told.status and not documented else "lost"
    return kind, f"{said} after {waited:.1f} s, {told.length} bytes"


def _excused(told: Told, happened: Sequence[Happened], limits: Limits) -> bool:
    """Whether a fault may have cost this request its answer."""
    life = (told.sent, told.ended)
    if any(one.fault == "gateway-ended" and one.on <= told.ended and told.sent <= one.off for one in happened):
        return True
    if told.status == 200:
        # An answer that had begun, by the lane that it was begun by.
        return cut(happened, told.lane, *life)
    if told.status == 500 and told.lane in LANES:
        return cut(happened, told.lane, *life, named="-500")
    # A body that streams through once is gone with the lane that had it.
    once = told.length > (limits.replay // 2 if told.chunked else limits.replay)
    return once and any(cut(happened, lane, *life) for lane in LANES)


def judge(
    told: Sequence[Told], received: Iterable[Arrival], happened: Sequence[Happened], limits: Limits
) -> list[Violation]:
    """Every promise that was not kept to one of these callers."""
    found: list[Violation] = []
    reached: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in sorted(received, key=lambda one: one.time):
        reached[arrival.request].append(arrival)
    for one in told:
        kind, text = outcome(one, happened, limits)
        if text:
            found.append(Violation(kind, f"{one.request} ({one.kind}): {text}"))
        for text in _twice(one, reached[one.request], happened):
            found.append(Violation("twice", f"{one.request} ({one.kind}): {text}"))
    return found


def _twice(told: Told, arrivals: Sequence[Arrival], happened: Sequence[Happened]) -> list[str]:
    """Begun once; again only where the answer was swallowed; and by nobody any more when the caller has it or left."""
    found: list[str] = []
    begun = [arrival for arrival in arrivals if arrival.begun]
    ends = [*(arrival.time for arrival in begun[1:]), told.ended]
    for arrival, end in zip(begun[:-1], ends, strict=False):
        if not cut(happened, arrival.lane, arrival.time, end):
            found.append(f"begun by {arrival.lane}, and {end - arrival.time:.1f} s later by another one, too")
    last = told.begun if told.begun is not None else told.ended
    for arrival in arrivals:
        late = arrival.time > last + GRACE_S
        if late and (arrival.begun or not cut(happened, arrival.lane, last, arrival.time)):
            did = "begun by" if arrival.begun else "sent to"
            found.append(f"{did} {arrival.lane} {arrival.time - last:.1f} s after its caller had his answer or left")
    if told.status == 200 and told.lane in LANES and told.lane not in {arrival.lane for arrival in begun}:
        found.append(f"its caller was told {told.lane}, which never began it: begun by {[a.lane for a in begun]}")
    return found


def flat(before: Held, after: Held) -> list[Violation]:
    """Whether Caddy holds no more than at first, when everybody is gone."""
    found: list[Violation] = []
    if after.goroutines > before.goroutines + GOROUTINES:
        found.append(Violation("memory", f"Caddy has {after.goroutines} goroutines, {before.goroutines} before"))
    if after.heap_mib > before.heap_mib + HEAP_MIB:
        found.append(Violation("memory", f"Caddy holds {after.heap_mib:.0f} MiB, {before.heap_mib:.0f} before"))
    return found


def open_still(before: Mapping[str, Look], after: Mapping[str, Look]) -> list[Violation]:
    """Processes that have more open than at first, by title; who came later has no `before`."""
    return [
        Violation("descriptors", f"{title}: {now.descriptors}, {before[title].descriptors} before")
        for title, now in after.items()
        if title in before and now.descriptors > before[title].descriptors + DESCRIPTORS
    ]
