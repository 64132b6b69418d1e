"""The generated part of docs/engines.md: what every lane takes, and the differences that remain.

Owns: its form. Does not own: the kinds (`kinds`), the differences (`differences`); `make golden` writes the page.
"""

from typing import Final

from lab.read.stack import ROOT
from tests.contract.differences import DIFFERENCES
from tests.contract.kinds import KINDS

PAGE: Final = ROOT / "docs" / "engines.md"
START, END = "<!-- engines: made by `make golden` -->", "<!-- engines end -->"


def generated() -> str:
    """Every kind that is promised an answer, and each known difference with its reason."""
    lines = ["| request | every lane answers | but |", "|---|---|---|"]
    for kind in KINDS:
        if kind.status is not None:
            found = [f"{one.engine}: {one.answer}" for one in DIFFERENCES if kind.name in one.kinds]
            lines.append(f"| {kind.name} | {kind.status} | {', '.join(found)} |")
    lines += ["", "The differences that remain:", ""]
    lines += [f"- **{', '.join(one.kinds)}**: {one.engine} answers {one.answer}. {one.why}" for one in DIFFERENCES]
    return "\n".join(lines)


def page() -> str:
    """docs/engines.md with its generated part renewed."""
    before, _, rest = PAGE.read_text().partition(START)
    return f"{before}{START}\n{generated()}\n{END}{rest.partition(END)[2]}"
