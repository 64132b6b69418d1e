"""The pictures beside RESULTS.md: bars, ours apart from the others, and a line for the goal.

Owns: SVG as text. Does not own: which figures are drawn (`tables`). Pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from bench.goals import number

WIDTH: Final = 760
NAMES: Final = 220
"""Room for the names, px."""
ROW, TOP, BOTTOM = 26, 56, 18
OURS, OTHERS, GOAL = "#1f6feb", "#9aa4b2", "#c2410c"
FONT: Final = "font-family='DejaVu Sans, Verdana, sans-serif'"


@dataclass(frozen=True)
class Bar:
    """One system's figure; nan is left out."""

    name: str
    value: float
    ours: bool = False
    goal: float = math.nan
    """Where its goal is."""


def bars(title: str, unit: str, given: Sequence[Bar]) -> str:
    """A whole SVG. `unit` is said under the title."""
    rows = [bar for bar in given if not math.isnan(bar.value)]
    most = max((max(bar.value, 0 if math.isnan(bar.goal) else bar.goal) for bar in rows), default=1.0) or 1.0
    room = WIDTH - NAMES - 80
    height = TOP + ROW * len(rows) + BOTTOM
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' "
        + f"viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{escape(title, {chr(39): '&apos;'})}'>",
        f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>",
        _text(12, 22, title, size=15, bold=True),
        _text(12, 41, unit, size=12, color="#57606a"),
    ]
    for place, bar in enumerate(rows):
        y = TOP + ROW * place
        width = max(1.0, bar.value / most * room)
        color = OURS if bar.ours else OTHERS
        lines += [
            _text(NAMES - 8, y + 15, bar.name, anchor="end"),
            f"<rect x='{NAMES}' y='{y + 3}' width='{width:.1f}' height='{ROW - 9}' fill='{color}'/>",
            _text(NAMES + width + 6, y + 15, number(bar.value)),
        ]
        if not math.isnan(bar.goal):
            x = NAMES + bar.goal / most * room
            lines.append(f"<path d='M{x:.1f} {y} v{ROW - 3}' stroke='{GOAL}' stroke-width='2'/>")
    return "\n".join([*lines, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", bold: bool = False,
          color: str = "#1f2328") -> str:  # fmt: skip
    weight = " font-weight='bold'" if bold else ""
    return (
        f"<text x='{x:.1f}' y='{y}' {FONT} font-size='{size}' text-anchor='{anchor}'{weight} fill='{color}'>"
        + f"{escape(text)}</text>"
    )
