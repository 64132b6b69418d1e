"""`python -m lab.measure.dashboard OUT.svg`: the declared dashboard, drawn of a lab's own log lines.

Owns: a run in which every chart has something to show, and the drawing. Does not own: charts and metrics, which are the
stack's own (`read.metrics`, `read.promql`). Google draws otherwise; what is drawn is the same.
"""

import argparse
import asyncio
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from lab.control import folder_of
from lab.measure.load import Load
from lab.measure.testbed import lab_up
from lab.read import metrics, usage
from lab.read.promql import Labels, Window

CONFIG: Final = (
    'lanes=["home", "burst", "vm"]',
    'home={"max_requests": 2}',
    'vm={"machine_type": "c3-highcpu-8"}',
    'clients=[{"name": "robot"}, {"name": "app"}]',
)
DASHBOARD: Final = "gcp:monitoring/dashboard:Dashboard"
STEP_S: Final = 15.0
"""One point of a chart, seconds."""
PHASE_S: Final = 45.0
"""All well, home away, all well again: seconds of each."""
COLOURS: Final = ("#1d4ed8", "#c2410c", "#2e7d32", "#7c3aed", "#b45309", "#0f766e", "#be185d", "#6b7280")
WIDTH: Final = 460
HEIGHT: Final = 150
LEFT: Final = 52
TOP: Final = 44


@dataclass(frozen=True)
class Chart:
    """One chart: for each series, by its labels, the value of each step; NaN where it has none."""

    title: str
    bars: bool
    series: dict[str, list[float]]


def charts(document: dict[str, Any], windows: Sequence[Window]) -> list[Chart]:
    """The dashboard's charts, with a value for each window."""
    found: list[Chart] = []
    for widget in document["gridLayout"]["widgets"]:
        [data] = widget["xyChart"]["dataSets"]
        values = [window.value(data["timeSeriesQuery"]["prometheusQuery"]) for window in windows]
        names = sorted({labels for value in values for labels in value})
        series = {_told(labels): [value.get(labels, math.nan) for value in values] for labels in names}
        found.append(Chart(widget["title"], data["plotType"] == "STACKED_BAR", series))
    return found


def svg(title: str, found: Sequence[Chart]) -> str:
    """All charts, two in a row."""
    rows = math.ceil(len(found) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {40 + rows * HEIGHT}" '
        + 'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="12" y="24" font-size="15">{escape(title)}</text>',
    ]
    for number, chart in enumerate(found):
        place = f"translate({number % 2 * WIDTH} {40 + number // 2 * HEIGHT})"
        parts += [f'<g transform="{place}">', *_drawn(chart), "</g>"]
    return "\n".join([*parts, "</svg>\n"])


def _told(labels: Labels) -> str:
    return ", ".join(value or "none" for _, value in labels) or "all"


def _drawn(chart: Chart) -> list[str]:
    right, bottom = WIDTH - 12, HEIGHT - 16
    columns = list(zip(*chart.series.values(), strict=True))
    tops = [sum(_known(column)) if chart.bars else max(_known(column), default=0.0) for column in columns]
    most = max(tops, default=0.0) or 1.0
    steps = max(1, len(columns))

    def x(step: float) -> float:
        return LEFT + (right - LEFT) * step / steps

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * value / most

    parts = [
        f'<text x="12" y="14" font-weight="bold">{escape(chart.title)}</text>',
        f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#999"/>',
        f'<text x="{LEFT - 4}" y="{TOP + 4}" text-anchor="end">{_short(most)}</text>',
        f'<text x="{LEFT - 4}" y="{bottom}" text-anchor="end">0</text>',
    ]
    at = [0.0] * len(columns)
    for number, (name, values) in enumerate(chart.series.items()):
        colour, place = COLOURS[number % len(COLOURS)], LEFT + 104 * (number % 4)
        parts.append(f'<rect x="{place}" y="{20 + 12 * (number // 4)}" width="8" height="8" fill="{colour}"/>')
        parts.append(f'<text x="{place + 11}" y="{28 + 12 * (number // 4)}">{escape(name)}</text>')
        last: tuple[float, float] | None = None
        for step, value in enumerate(values):
            if math.isnan(value):
                continue
            if chart.bars:
                low, at[step] = at[step], at[step] + value
                width = x(1) - x(0) - 1
                parts.append(
                    f'<rect x="{x(step):.1f}" y="{y(at[step]):.1f}" width="{width:.1f}" '
                    + f'height="{y(low) - y(at[step]):.1f}" fill="{colour}"/>'
                )
                continue
            here = x(step + 0.5), y(value)
            if last:
                line = f"M{last[0]:.1f} {last[1]:.1f}L{here[0]:.1f} {here[1]:.1f}"
                parts.append(f'<path d="{line}" stroke="{colour}" fill="none"/>')
            parts.append(f'<circle cx="{here[0]:.1f}" cy="{here[1]:.1f}" r="2" fill="{colour}"/>')
            last = here
    return parts


def _short(value: float) -> str:
    return f"{value / 1000:.3g}k" if value >= 1000 else f"{value:.3g}"


def _known(column: Sequence[float]) -> list[float]:
    return [value for value in column if not math.isnan(value)]


async def run() -> tuple[str, list[Chart]]:
    """Two clients, a stranger, burst's start, home away, and a crowd; the dashboard's title, and its charts."""
    began = time.time()
    async with lab_up(10.0, CONFIG, answer_s=1.0) as testbed:
        async with testbed.load(2.0) as steady:
            outputs = testbed.stack.outputs
            await steady.run(PHASE_S)
            async with Load(outputs["base_url"], "nobody", testbed.model, rate=1.0) as stranger:
                await stranger.run(5)
            await testbed.fault("home-refused", True)
            await steady.run(PHASE_S)
            await testbed.fault("home-refused", False)
            other = next(key for key in outputs["api_keys"].values() if key != testbed.key)
            async with Load(outputs["base_url"], other, testbed.model, rate=40.0) as crowd:
                await crowd.run(5)
            await steady.run(PHASE_S)
        stack = testbed.stack
    ended = time.time()
    lines = usage.text(None, folder_of("testbed") / "logs").splitlines()
    entries = metrics.entries(lines, "pilotlight-dev-gateway")
    points = [(metric, metric.points(entries)) for metric in metrics.declared(stack)]
    steps = math.ceil((ended + STEP_S - began) / STEP_S)
    windows = [Window(points, began + step * STEP_S, began + (step + 1) * STEP_S) for step in range(steps)]
    [board] = stack.of_type(DASHBOARD)
    document = json.loads(board.inputs["dashboardJson"])
    return f"{document['displayName']} (a lab's run of {steps * STEP_S / 60:.0f} minutes)", charts(document, windows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    out.write_text(svg(*asyncio.run(run())))
