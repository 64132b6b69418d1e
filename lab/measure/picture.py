"""`python -m lab.measure.picture SAMPLES.json OUT.svg`: one scenario over time, as its callers saw it.

Owns: the drawing: first-token time of every request by lane, and how many callers wait for one. Does not
own: the samples (`scenarios --samples`). Plain SVG, so that it stands in the README without any tool.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

COLOURS: Final = {"home": "#2e7d32", "burst": "#c2410c", "vm": "#1d4ed8"}
WIDTH: Final = 860
LEFT: Final = 60
RIGHT: Final = 20
PLOT: Final = 180
"""Height of each of the two charts, pixels."""
GAP: Final = 50
TOP: Final = 80

Sample = dict[str, Any]


def svg(samples: Sequence[Sample], marks: Sequence[float], title: str) -> str:
    """The picture; `marks` are the phase boundaries in seconds, `samples` as `lab.measure.load.Sample`."""
    begun = [sample for sample in samples if not math.isnan(sample["first_token_s"])]
    end = max(marks[-1], *(sample["sent"] + sample["first_token_s"] for sample in begun))
    slowest = max(sample["first_token_s"] for sample in begun)
    waiting = _waiting(begun, end)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOP + 2 * PLOT + GAP + 50}" '
        + 'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{title}</text>',
        *_legend(begun),
        *_axes(TOP, slowest, end, "first token, s"),
        *_axes(TOP + PLOT + GAP, max(waiting), end, "callers waiting for their first token, mean of a second"),
    ]
    for sample in begun:
        x, y = _x(sample["sent"], end), _y(TOP, sample["first_token_s"], slowest)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{COLOURS.get(sample["lane"], "#555")}"/>')
    path = " ".join(
        f"{_x(second + 0.5, end):.1f},{_y(TOP + PLOT + GAP, mean, max(waiting)):.1f}"
        for second, mean in enumerate(waiting)
    )
    parts.append(f'<polyline points="{path}" fill="none" stroke="#555" stroke-width="1.5"/>')
    return "\n".join([*parts, "</svg>\n"])


def _waiting(begun: Sequence[Sample], end: float) -> list[float]:
    """Callers between sending and their first token: the mean of every whole second."""
    spans = [(sample["sent"], sample["sent"] + sample["first_token_s"]) for sample in begun]
    return [
        sum(max(0.0, min(stop, second + 1) - max(start, second)) for start, stop in spans) for second in range(int(end))
    ]


def _legend(begun: Sequence[Sample]) -> list[str]:
    lanes = [lane for lane in COLOURS if any(sample["lane"] == lane for sample in begun)]
    parts: list[str] = []
    for i, lane in enumerate(lanes):
        x = LEFT + 150 * i
        count = sum(sample["lane"] == lane for sample in begun)
        parts.append(f'<circle cx="{x + 5}" cy="40" r="4" fill="{COLOURS[lane]}"/>')
        parts.append(f'<text x="{x + 14}" y="44">{lane}: {count} answers</text>')
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
    """Reads one scenario's samples and writes the picture."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source = Path(sys.argv[1])
    recorded: dict[str, Any] = json.loads(source.read_text())
    title = f"{source.stem.replace('-', ' ').capitalize()}: {len(recorded['samples'])} requests"
    Path(sys.argv[2]).write_text(svg(recorded["samples"], recorded["marks"], title))


if __name__ == "__main__":
    main()
