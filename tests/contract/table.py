"""Request kind x engine -> answer, and which of the answers nobody expected.

Owns: a cell's words, the verdict, the table's form. Does not own: what is asked (`kinds`), what is known
(`differences`). Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from tests.contract.differences import Difference
from tests.contract.kinds import Answer, Kind, Promise

NO_ANSWER: Final = "no answer"


@dataclass(frozen=True)
class Column:
    """One engine as one lane declares it, with its answers by the kind's name."""

    engine: str
    lane: str
    cells: Mapping[str, str]
    messages: Mapping[str, str]
    """What the engine says to those that it refuses."""

    @property
    def title(self) -> str:
        """Engine and lane."""
        return f"{self.engine}, {self.lane}"


def cell(kind: Kind, answer: Answer, promise: Promise) -> str:
    """An answer in a few words; the status alone if nothing is wrong with it."""
    if not answer.status:
        return NO_ANSWER
    told = [str(answer.status)]
    if answer.status == 200 and kind.status == 200:
        told.append(kind.lacks(answer, promise))
    if answer.status >= 400 and message(answer) is None:
        told.append("no error object")
    if answer.fetched:
        told.append("fetched")
    return ", ".join(filter(None, told))


def message(answer: Answer) -> str | None:
    """What an answer of OpenAI's form says about an error; None: it has another form, which the SDK can't read."""
    document = answer.document
    error: Any = cast(dict[str, Any], document).get("error") if isinstance(document, dict) else None
    return cast(dict[str, str], error).get("message") if isinstance(error, dict) else None


def expected(kind: Kind, engine: str, known: Sequence[Difference]) -> str:
    """What the engine is expected to answer to a kind that is promised something."""
    for difference in known:
        if difference.engine == engine and kind.name in difference.kinds:
            return difference.answer
    return str(kind.status)


def unexpected(kinds: Sequence[Kind], columns: Sequence[Column], known: Sequence[Difference]) -> list[str]:
    """A sentence for each answer that is neither promised nor known."""
    found: list[str] = []
    for kind in kinds:
        for column in columns:
            answered = column.cells[kind.name]
            if kind.status is None or answered == (wanted := expected(kind, column.engine, known)):
                continue
            if answered == str(kind.status):
                told = f"as promised; the known difference ({wanted}) is gone: take it out of differences.py"
            else:
                told = f"{wanted} is {'promised' if wanted == str(kind.status) else 'known'}"
            said = column.messages.get(kind.name)
            found.append(
                f"{kind.name}: {column.title} answers {answered}; {told}" + (f": {said[:200]}" if said else "")
            )
    return found


def table(kinds: Sequence[Kind], columns: Sequence[Column], known: Sequence[Difference]) -> str:
    """Text for a terminal; `!` marks an unexpected answer, `~` a known difference."""
    rows = [["request", *(column.title for column in columns), "promised"]]
    for kind in kinds:
        cells = [f"{column.cells[kind.name]}{_mark(kind, column, known)}" for column in columns]
        rows.append([kind.name, *cells, "-" if kind.status is None else str(kind.status)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _mark(kind: Kind, column: Column, known: Sequence[Difference]) -> str:
    answered = column.cells[kind.name]
    if kind.status is None or answered == str(kind.status):
        return ""
    return " ~" if answered == expected(kind, column.engine, known) else " !"
