"""`python -m lab.measure.picture OUT.svg`: a cold start as callers of text and of pictures saw it, from the matrix.

Owns: the drawing: every first token by its lane, beside what waiting for burst would have taken. Does not own: the
samples, which `make scenarios` leaves in `.lab/scenarios` (`cells`). Plain SVG, so that it stands in the README without
any tool.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.measure import side_by_side
from lab.measure.cells import COLD, REQUESTS, Cell, Seen, read
from lab.read.stack import ROOT

COLOURS: Final = {"home": "#2e7d32", "burst": "#c2410c", "vm": "#1d4ed8"}
REFUSED: Final = "#6b7280"
WIDTH: Final = 860
LEFT: Final = 60
RIGHT: Final = 20
PLOT: Final = 180
"""Height of each chart, pixels."""
GAP: Final = 60
TOP: Final = 80


@dataclass(frozen=True)
class Panel:
    """One chart: what was asked for, and what its callers saw."""

    label: str
    seen: Seen

    @property
    def ready_s(self) -> float:
        """When burst could answer."""
        return self.seen.marks[0]

    @property
    def most(self) -> float:
        """Upper end of its axis: the slowest first token, or the whole wait for burst."""
        return max(self.ready_s, *(one.first_token_s for one in self.seen.samples if not math.isnan(one.first_token_s)))


def svg(panels: Sequence[Panel], title: str) -> str:
    """The picture; all charts share the axis of time."""
    end = max(panel.seen.marks[-1] for panel in panels)
    height = TOP + len(panels) * (PLOT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        + 'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{title}</text>',
        *_legend(panels),
    ]
    for number, panel in enumerate(panels):
        parts += _chart(panel, TOP + number * (PLOT + GAP), end)
    return "\n".join([*parts, "</svg>\n"])


def _chart(panel: Panel, top: int, end: float) -> list[str]:
    most, ready = panel.most, panel.ready_s
    parts = [
        *_axes(top, most, end, f"{panel.label}, one every {panel.seen.every_s:.0f} s: first token, s"),
        f'<path d="M{_x(0, end):.1f} {_y(top, ready, most):.1f}L{_x(ready, end):.1f} {_y(top, 0, most):.1f}" '
        + 'stroke="#999" stroke-dasharray="5 4"/>',
    ]
    for one in panel.seen.samples:
        x = _x(one.sent, end)
        if math.isnan(one.first_token_s):
            y = top + PLOT
            parts.append(f'<path d="M{x - 4:.1f} {y - 4}l8 8m0 -8l-8 8" stroke="{REFUSED}" stroke-width="1.5"/>')
        else:
            y = _y(top, one.first_token_s, most)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS.get(one.lane, REFUSED)}"/>')
    return parts


def _legend(panels: Sequence[Panel]) -> list[str]:
    samples = [one for panel in panels for one in panel.seen.samples]
    begun = [one for one in samples if not math.isnan(one.first_token_s)]
    rows = [(f"{lane}: {sum(one.lane == lane for one in begun)} answers", colour) for lane, colour in COLOURS.items()]
    rows = [row for row in rows if ": 0 " not in row[0]]
    parts: list[str] = []
    for number, (text, colour) in enumerate(rows):
        x = LEFT + 130 * number
        parts.append(f'<circle cx="{x + 5}" cy="40" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 14}" y="44">{text}</text>')
    x = LEFT + 130 * len(rows)
    parts.append(f'<path d="M{x} 40h24" stroke="#999" stroke-dasharray="5 4"/>')
    parts.append(f'<text x="{x + 32}" y="44">what waiting for burst would have taken</text>')
    if len(begun) < len(samples):
        parts.append(f'<text x="{x + 290}" y="44">&#215; {len(samples) - len(begun)} without an answer</text>')
    return parts


def _axes(top: int, most: float, end: float, label: str) -> list[str]:
    bottom = top + PLOT
    parts = [
        f'<path d="M{LEFT} {top}V{bottom}H{WIDTH - RIGHT}" fill="none" stroke="#999"/>',
        f'<text x="{LEFT}" y="{top - 6}" fill="#555">{label}</text>',
        f'<text x="{LEFT - 8}" y="{top + 4}" text-anchor="end">{most:.3g}</text>',
        f'<text x="{LEFT - 8}" y="{bottom}" text-anchor="end">0</text>',
    ]
    step = 10 if end > 30 else 2
    parts += [
        f'<text x="{_x(second, end):.1f}" y="{bottom + 16}" text-anchor="middle">{second} s</text>'
        for second in range(0, int(end) + 1, step)
    ]
    return parts


def _x(seconds: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * seconds / end


def _y(top: int, value: float, most: float) -> float:
    return top + PLOT * (1 - value / max(most, 1e-9))


def main() -> None:
    """Reads the samples of one tier's cold start and writes the picture."""
    parser = argparse.ArgumentParser(prog="python -m lab.measure.picture", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--samples", type=Path, default=ROOT / ".lab" / "scenarios", help="folder of the samples")
    parser.add_argument("--tier", default="default", help="which machine of the VM lane")
    arguments = parser.parse_args()
    panels = [
        Panel(label, read(side_by_side.file_of(arguments.samples, Cell(arguments.tier, label, COLD).title)))
        for label in REQUESTS
    ]
    arguments.out.write_text(svg(panels, f"A cold start of burst, with the VM lane's {arguments.tier} machine"))


if __name__ == "__main__":
    main()
