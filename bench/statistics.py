"""What is made of measured values: medians, spread, percentiles, ratios within a round.

Owns: all arithmetic over rounds. Does not own: measuring (`tables`), what is good enough (`goals`). Pure.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent don't exceed, nearest rank; nan of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


class Rounds:
    """A value for each system, measure and round."""

    def __init__(self) -> None:
        self._values: defaultdict[tuple[str, str], dict[int, float]] = defaultdict(dict)

    def add(self, system: str, measure: str, value: float, number: int) -> None:
        self._values[system, measure][number] = value

    def values(self, system: str, measure: str) -> Mapping[int, float]:
        """Round -> value; empty if it was never measured."""
        return self._values.get((system, measure), {})

    def median(self, system: str, measure: str) -> float:
        """nan if it was never measured."""
        found = self.values(system, measure)
        return statistics.median(found.values()) if found else float("nan")

    def most(self, system: str, measure: str) -> float:
        """The worst of what must not happen even once; nan if it was never measured."""
        return max(self.values(system, measure).values(), default=float("nan"))

    def spread(self, system: str, measure: str) -> float:
        """Half of the way from the least to the most, as a share of the median; nan of less than two."""
        found = list(self.values(system, measure).values())
        middle = self.median(system, measure)
        return (max(found) - min(found)) / 2 / middle if len(found) > 1 and middle else float("nan")

    def ratio(self, system: str, base: str, measure: str) -> float:
        """Median of the ratios within each round, for what disturbs a round disturbs both; nan without a common one."""
        found, other = self.values(system, measure), self.values(base, measure)
        ratios = [found[number] / other[number] for number in found.keys() & other.keys() if other[number]]
        return statistics.median(ratios) if ratios else float("nan")
