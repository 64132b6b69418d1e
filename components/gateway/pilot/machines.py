"""The machines of one lane behind one address: which of them were seen, and what is counted on.

Owns: who counts as up. Does not own: asking (`lane_client`), what their slots are for (`pilot`). No clock, no I/O.

Nobody tells how many there are: each look goes by a balancer to any of them, and the answer says which. What isn't seen
isn't counted on: where a balancer always leads to the same machine, slots are missing, and never too many.
"""

from typing import Final, TypeAlias

SEEN_S: Final = 20.0
"""How long a machine counts after it was seen. For so long one that is gone may get requests, which the others then
queue; and so many looks, one a second, must have missed one that is up, for its slots to be given back: of two, taken
by chance, one in a million times. The VM's machines, of which there may be eight, are looked at twice a second."""

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
