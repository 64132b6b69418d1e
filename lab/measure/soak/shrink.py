"""The shortest schedule that still breaks a promise: delta debugging over the events.

Owns: which events are left out next. Does not own: running a schedule (`run`).
"""

from collections.abc import Awaitable, Callable, Sequence

from lab.measure.soak.schedule import Event

Fails = Callable[[tuple[Event, ...]], Awaitable[bool]]


async def shortest(events: Sequence[Event], fails: Fails, time_is_up: Callable[[], bool]) -> tuple[Event, ...]:
    """`events` less what can be left out: no single one of them can, unless time was up before that was known.

    By Zeller's ddmin: a part alone, then all without a part, in ever smaller parts. A run that fails once in several
    tries may be missed, and then the schedule stays longer than it need be.
    """
    kept, parts = tuple(events), 2
    while kept and not time_is_up():
        cut = [kept[len(kept) * n // parts : len(kept) * (n + 1) // parts] for n in range(parts)]
        tries = [*(cut if parts > 2 or len(kept) > 1 else ()), *(tuple(e for e in kept if e not in c) for c in cut)]
        # None at all is a try, too: then no event is needed.
        for tried in dict.fromkeys(one for one in tries if len(one) < len(kept)):
            if time_is_up():
                return kept
            if await fails(tried):
                kept, parts = tried, 2 if len(tried) * 2 <= len(kept) else max(2, parts - 1)
                break
        else:
            if parts >= len(kept):
                break
            parts = min(len(kept), parts * 2)
    return kept
