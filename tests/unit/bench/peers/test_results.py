"""RESULTS.md: every table of the comparison is in it, with the goals, and pictures that are there."""

import re
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

from bench import __main__ as program
from bench.goals import Goal
from bench.plots import Bar, bars
from bench.results import TITLES, Section, headline, in_readme, markdown, picture

HERE = Path(program.__file__).parent
RESULTS = HERE / "RESULTS.md"


def section(key: str, **more: object) -> Section:
    return Section(key, f"About {key}.", ["system", "s"], [["ours", "1.5"]], **more)  # pyright: ignore[reportArgumentType]


def missing(text: str) -> list[str]:
    """Titles of the tables that have no rows in `text`."""
    parts = dict(re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", text, re.M | re.S))
    return [title for title in TITLES.values() if not re.search(r"^\| ---", parts.get(title, ""), re.M)]


def test_every_table_is_in_what_is_kept() -> None:
    assert missing(RESULTS.read_text()) == []


def test_a_table_that_was_left_out_is_seen() -> None:
    """The planted mistake to the test above."""
    whole = [section(key) for key in TITLES]
    assert missing(markdown(whole, [], [])) == []
    assert missing(markdown(whole[1:], [], [])) == [TITLES["requests"]]


def test_the_kept_goals_say_what_was_not_reached_in_bold() -> None:
    rows = re.findall(r"^\| .+ \| [≤≥] .+ \| (.+) \| (.+) \|$", RESULTS.read_text(), re.M)
    assert len(rows) >= 20, "every goal has a row"
    assert {verdict for _, verdict in rows} <= {"yes", "**no**", "-"}


def test_the_readme_quotes_what_was_measured() -> None:
    readme = (HERE.parent / "README.md").read_text()
    assert in_readme(readme, RESULTS.read_text()) == readme, "make bench writes both"


def test_the_headline_follows_the_results() -> None:
    """Planted figures come out, and a table that is missing gives none."""
    rates = [["ours, VM lane", "0.54"], ["ours, burst", "0.2"], ["ours, VM lane, 100 clients", "0.1"], ["nginx", "5"]]
    results = markdown(
        [
            Section("requests", "", ["system", "x plain Caddy"], rates),
            Section("line", "", ["system, load", "p99 by fair"], [["ours, 70 callers at once", "1.1"]]),
        ],
        [], [],
    )  # fmt: skip
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in headline(results)[2:]]
    assert [row[1] for row in rows] == ["0.54, 0.2", "1.1", "-"]
    assert rows[0][2:] == ["-", "-", "5", "-", "-"]


def test_every_picture_that_is_shown_is_there() -> None:
    shown = re.findall(r"!\[.*?\]\((.+?)\)", RESULTS.read_text())
    assert shown
    for name in shown:
        assert xml.parse(HERE / name).getroot().tag.endswith("svg"), name


def test_goals_stand_before_the_tables_and_skipped_systems_by_name() -> None:
    text = markdown(
        [section("start", goals=[Goal("start, ours", 0.9, 0.5, unit=" s")])], ["a machine"], ["nginx: none"]
    )
    assert "| start, ours | ≤ 0.50 s | 0.90 s | **no** |" in text
    assert text.index("0 of 1 goals") < text.index("## Requests")
    assert "- Skipped: nginx: none" in text
    assert text.count("Left out of this run.") == len(TITLES) - 1


def test_a_picture_is_named_by_its_table() -> None:
    assert f"]({picture('line')})" in markdown([section("line", plot="<svg/>")], [], [])


def test_every_table_on_the_command_line_makes_known_ones() -> None:
    made = {"requests": ["requests", "bodies"]} | {name: [name] for name in program.TABLES if name != "requests"}
    assert sorted(key for keys in made.values() for key in keys) == sorted(TITLES)


def test_bars_are_as_long_as_their_figures() -> None:
    root = xml.fromstring(
        bars("t", "ms", [Bar("a & b", 50), Bar("ours", 100, ours=True, goal=80), Bar("none", float("nan"))])
    )
    widths = [float(one.get("width", "0")) for one in root.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert widths[1] == pytest.approx(2 * widths[0])
    assert len(widths) == 2, "what was not measured has no bar"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) == 1
