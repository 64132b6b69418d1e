"""The line: who waits for a slot, and whose turn it is.

Owns: the order, and how many are let go. Does not own: holding the callers (`answers`), the count of what is taken
(`caddy`), which lanes take anything (`pilot`). No clock, no I/O.

Who is let go looks for a slot himself, in Caddy, a moment later, and comes back if he found none, to where he stood. So
nothing here has to be exact, and where slots become free faster than callers get there, some are let go ahead.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

HOLD_S: Final = 4.0
"""Nobody is held longer without a look of his own: whatever the pilot takes for full or down, Caddy decides."""
REFUSED_S: Final = 0.5
"""The same for those whom the next look refuses; Caddy asks for that as often."""
LANDING_S: Final = 0.015
"""From the turn to the slot: Caddy's pause before it looks again is 10 ms of it."""
IDLE: Final = 0.03
"""Share of the slots that may be free while somebody waits; to have less, too many would look for a slot in vain."""
LEARNING: Final = 0.05
"""How many more are let go ahead, for each slot above that share, at each look."""


@dataclass(frozen=True, eq=False)
class Place:
    """A caller in line: since when he waits, and for how long at most, s; the slots that he may take, by address."""

    since: float
    wait_s: float
    came: float
    """Not before `since`: who was let go comes again."""
    size: str
    slots: Mapping[str, int]

    def ends(self, hold_s: float) -> float:
        """When he is let go without a slot: after his wait, for Caddy to give him 503, or to look for himself."""
        wait = self.since + self.wait_s
        return min(self.came + hold_s, wait if wait > self.came else self.came + hold_s)


class Line:
    """Those in it, and those who were let go and have no slot yet."""

    def __init__(self) -> None:
        self.places: set[Place] = set()
        self.seeking = False
        """Whether somebody waits for a slot of a lane that would take him: then newcomers may not take it."""
        self._taken = Counter[str]()
        self._landing: list[tuple[float, str]] = []
        self._ahead = 0.0
        self._vain = Counter[str]()
        """Turns for an address since anything has changed there: a lane may be down, and only Caddy knows."""

    def turns(
        self,
        now: float,
        taken: Mapping[str, int],
        counted: float,
        takes: Callable[[str, str], bool],
        refuses: Callable[[str], bool],
    ) -> list[Place]:
        """Whose turn it is: by when they came first, as many as there are slots in the count of `taken`.

        `takes`: whether the lane of this address takes requests of this size.
        """
        before, self._taken = self._taken, Counter(taken)
        self._vain = Counter({dial: n for dial, n in self._vain.items() if before[dial] == self._taken[dial]})
        self._landing = [(until, dial) for until, dial in self._landing if until > counted]
        used = self._taken + Counter(dial for _, dial in self._landing)
        self.seeking, found = False, list[Place]()
        for number, place in enumerate(sorted(self.places, key=lambda place: place.since)):
            open_ = {dial: most for dial, most in place.slots.items() if takes(dial, place.size)}
            if open_ and not number:
                self._learn(open_)
            free = next((dial for dial, most in open_.items() if used[dial] < most + int(self._ahead)), "")
            if free:
                used[free] += 1
                self._vain[free] += 1
                pause = LANDING_S * 2 ** min(self._vain[free] // (2 * open_[free]), 5)
                self._landing.append((now + pause, free))
            elif now < place.ends(REFUSED_S if refuses(place.size) else HOLD_S):
                self.seeking |= bool(open_)
                continue
            found.append(place)
            self.places.discard(place)
        return found

    def _learn(self, slots: Mapping[str, int]) -> None:
        """More or fewer are let go ahead, by how many slots are free at this look, though the first one wants them."""
        free = sum(max(0, most - self._taken[dial]) for dial, most in slots.items())
        most = sum(slots.values())
        self._ahead = min(most, max(0.0, self._ahead + LEARNING * (free - IDLE * most)))

    def longest_s(self, now: float) -> float:
        """How long the first one has waited; 0 without a line."""
        return now - min((place.since for place in self.places), default=now)
