"""`RESULTS.md`: the tables of a run, with the goals beside the figures.

Owns: the text around the tables, and its Markdown. Does not own: a table's content (`tables`), the plots (`plots`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.goals import Goal, summary

TITLES: Final = {
    "requests": "Requests of 1 KB",
    "bodies": "Bodies of 400 KB and 2 MB",
    "streams": "Streams",
    "line": "The line",
    "start": "Start",
    "render": "Render",
    "features": "What features cost",
    "failover": "Fail-over",
}
"""Every table, in order; a run that leaves one out says so in its place."""


@dataclass
class Section:
    """A table of the results with what belongs to it."""

    key: str
    text: str
    header: Sequence[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list[str])
    goals: list[Goal] = field(default_factory=list[Goal])
    plot: str = ""
    """A picture, as SVG."""


def markdown(sections: Sequence[Section], facts: Sequence[str], skipped: Sequence[str]) -> str:
    """The whole file."""
    goals = [goal for section in sections for goal in section.goals]
    lines = [
        "# Measured against peers", "",
        "<!-- written by `make bench`; don't edit -->", "",
        "Every system in one run on one machine, interleaved and repeated. `python -m bench` says how; a figure of one",
        "machine says little about another one's, a ratio of the same run more.", "",
        *(f"- {fact}" for fact in facts), "",
        *(f"- Skipped: {name}" for name in skipped), *([""] if skipped else []),
        "## Goals", "",
        f"{summary(goals)} For the line, [decision 22](../docs/decisions/22-a-fair-line.md) says why.", "",
        *table(["goal", "bound", "here", "reached"], [goal.row() for goal in goals]), "",
    ]  # fmt: skip
    found = {section.key: section for section in sections}
    for key, title in TITLES.items():
        lines += [f"## {title}", ""]
        if key not in found:
            lines += ["Left out of this run.", ""]
            continue
        section = found[key]
        lines += [section.text, "", *table(section.header, section.rows), ""]
        lines += [line for note in section.notes for line in (note, "")]
        if section.plot:
            lines += [f"![{title}]({picture(key)})", ""]
    return "\n".join(lines).rstrip() + "\n"


def picture(key: str) -> str:
    """Name of a table's picture, beside RESULTS.md."""
    return f"{key}.svg"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; the first column is text, the others are figures."""
    rule = ["---", *("---:" for _ in header[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
