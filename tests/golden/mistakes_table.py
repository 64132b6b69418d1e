"""The list of planted mistakes in docs/grants.md."""

from pathlib import Path
from typing import Final

from lab.read.stack import ROOT
from tests.unit.security.mistakes import MISTAKES

PAGE: Final[Path] = ROOT / "docs" / "grants.md"
START, END = "<!-- mistakes: made by `make golden` -->", "<!-- mistakes end -->"


def table() -> str:
    """A row for each mistake, with the rule that must catch it."""
    rows = [f"| {one.what} | {one.caught_by.replace('_', ' ')} |" for one in MISTAKES]
    return "\n".join(["| mistake | caught by the rule |", "|---|---|", *rows])


def page(text: str) -> str:
    """The page's text with the list renewed."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table()}\n{END}{after}"
