"""The machines of one lane behind one address: which of them were seen, what is counted on, and whether they all stand.

Owns: who counts as up, and what looks at single machines say of the lane. Does not own: asking (`lane_client`), what
their slots are for (`pilot`), what a look at one engine says (`engine`). No clock, no I/O.

Nobody tells how many there are: each look goes by a balancer to any of them, and the answer says which. What isn't seen
isn't counted on: where a balancer always leads to the same machine, slots are missing, and never too many.
"""

from typing import Final, TypeAlias

from .engine import Engine, moved

SEEN_S: Final = 20.0
"""How long a machine counts after it was seen. For so long one that is gone may get requests, which the others then
queue; and so many looks, one a second, must have missed one that is up, for its slots to be given back: of two, taken
by chance, one in a million times. The VM's machines, of which there may be eight, are looked at twice a second."""

ENGINES: Final = 16
"""That are remembered: more than a lane may have."""

Name: TypeAlias = str | float
"""Of a machine: what it calls itself, or when its engine started."""


class Machines:
    """When each was seen last."""

    def __init__(self) -> None:
        self._seen: dict[Name, float] = {}

    def saw(self, name: Name, now: float) -> None:
        """That it answered."""
        self._seen[name] = now
        self._seen = {each: at for each, at in self._seen.items() if now - at <= SEEN_S}

    def up(self, now: float) -> int:
        """How many are counted on."""
        return sum(now - at <= SEEN_S for at in self._seen.values())


class Looks:
    """The latest look at each engine. What one of them does says nothing about another."""

    def __init__(self) -> None:
        self._latest: dict[float, Engine] = {}
        self._still: set[float] = set()
        """Those that were found still since anything moved, or a token was asked for."""

    def before(self, after: Engine) -> Engine | None:
        """The look before at the same engine."""
        return self._latest.get(after.identity)

    def begin(self) -> None:
        """From now on all must be found still again, for the lane to stand."""
        self._still.clear()

    def add(self, after: Engine) -> bool | None:
        """Whether the lane moves: this engine does, or they all stand; None: another one may be at work."""
        before = self._latest.pop(after.identity, None)
        self._latest = dict([*self._latest.items()][1 - ENGINES :]) | {after.identity: after}
        if moved(before, after):
            self._still.clear()
            return True
        self._still.add(after.identity)
        return None if self._up(after.at) - self._still else False

    def without_answer(self, now: float) -> bool | None:
        """The same of a look that nobody answered: only of one that is alone it's known whose it was."""
        return None if len(self._up(now)) > 1 else False

    def _up(self, now: float) -> set[float]:
        """Who counts."""
        return {name for name, one in self._latest.items() if now - one.at <= SEEN_S}
