"""`RESULTS.md`: the tables of a run, with the goals beside the figures.

Owns: the text around the tables, and its Markdown. Does not own: a table's content (`tables`), the plots (`plots`).
"""

import re
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


README_BEGIN: Final = "<!-- bench: made by `make bench` -->"
README_END: Final = "<!-- bench end -->"
PEERS: Final = ("plain Caddy", "HAProxy", "nginx", "vllm-router", "LiteLLM")


def headline(results: str) -> list[str]:
    """The README's lines, from the text of RESULTS.md, so that they can't say anything else."""
    requests, line, failover = (_read(results, TITLES[key]) for key in ("requests", "line", "failover"))

    def rate(name: str) -> str:
        return requests.get(name, {}).get("x plain Caddy", "-")

    def late(name: str) -> str:
        return line.get(f"{name}, 70 callers at once", {}).get("p99 by fair", "-")

    def lost(name: str) -> str:
        return failover.get(name, {}).get("mute", "-").replace("**", "").partition(" lost")[0]

    ours = ", ".join(rate(name) for name in requests if name.startswith("ours") and name.count(",") == 1)
    ours = ours or ", ".join(rate(name) for name in requests if name.startswith("ours"))
    return table(
        ["", "ours: VM, home, burst", *PEERS],
        [
            ["requests of 1 KB a second, by plain Caddy's", ours, *map(rate, PEERS)],
            ["seven times as many callers as slots: p99, by first come, first served", late("ours"), *map(late, PEERS)],
            ["home takes requests and answers none: lost", lost("ours"), *map(lost, PEERS)],
        ],
    )


def in_readme(readme: str, results: str) -> str:
    """The README with these lines in their place."""
    before, begin, rest = readme.partition(README_BEGIN)
    _, end, after = rest.partition(README_END)
    assert end, "README.md has no place for the headline"
    return "\n".join([before + begin, *headline(results), end + after])


def _read(results: str, title: str) -> dict[str, dict[str, str]]:
    """Rows of a table, by the first cell: column -> cell."""
    part = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", results, re.M | re.S)
    lines = re.findall(r"^\| (.*) \|$", part[1], re.M) if part else []
    header, *rows = ([cell.strip() for cell in line.split(" | ")] for line in lines) if lines else [[]]
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows[1:]}
