"""What is good enough, and whether it was reached.

Owns: the judgement of a figure. Does not own: the figures (`tables`), whether a figure is true on a busy machine. Pure.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A bound for one figure."""

    text: str
    figure: float
    """nan: not measured."""
    bound: float
    at_most: bool = True
    unit: str = ""

    @property
    def measured(self) -> bool:
        return not math.isnan(self.figure)

    @property
    def reached(self) -> bool:
        """Exactly the bound is reached; nothing that wasn't measured is."""
        if not self.measured:
            return False
        return self.figure <= self.bound if self.at_most else self.figure >= self.bound

    def row(self) -> list[str]:
        """Of the table of goals."""
        told = f"{number(self.figure)}{self.unit}" if self.measured else "not measured"
        bound = f"{'≤' if self.at_most else '≥'} {number(self.bound)}{self.unit}"
        return [self.text, bound, told, "yes" if self.reached else "**no**" if self.measured else "-"]


def number(value: float) -> str:
    """Three digits, as far as there is something to tell."""
    if math.isnan(value):
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def summary(goals: Iterable[Goal]) -> str:
    """How many were reached."""
    found = list(goals)
    measured = [goal for goal in found if goal.measured]
    text = f"{sum(goal.reached for goal in measured)} of {len(measured)} goals are reached"
    return text + (f", {len(found) - len(measured)} not measured." if len(measured) < len(found) else ".")
