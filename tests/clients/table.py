"""Client x scenario -> what came of it, and which of it nobody expected.

Owns: the verdict, the tables' form. Does not own: what is expected (`scenarios`). Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from tests.clients.facts import Fact
from tests.clients.programs import Client
from tests.clients.scenarios import ALL, GOOD, LIMITS, expected

HEADINGS: Final = (
    "client", "HTTP", "body's end by", "requests at 503", "requests at 2 s", "gives up by itself after",
)  # fmt: skip


def unexpected(clients: Sequence[Client], cells: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A sentence for each cell that isn't as expected."""
    found: list[str] = []
    for client in clients:
        for scenario in ALL:
            cell, wanted = cells[client.name][scenario.title], expected(client.name, scenario)
            if cell != wanted:
                told = "the limit is gone: take it out of LIMITS" if cell == GOOD else f"{wanted} is expected"
                found.append(f"{client.title}, {scenario.title}: {cell}; {told}")
    return found


def matrix(clients: Sequence[Client], cells: Mapping[str, Mapping[str, str]], skipped: Mapping[str, str]) -> str:
    """Text for a terminal; `!` marks what nobody expected, `~` a known limit."""
    rows = [["client", *(scenario.title for scenario in ALL)]]
    for client in clients:
        shown = [client.title]
        for scenario in ALL:
            cell = cells[client.name][scenario.title]
            wanted = expected(client.name, scenario)
            shown.append(cell + (" !" if cell != wanted else " ~" if cell != GOOD else ""))
        rows.append(shown)
    rows += [[title, f"skipped: {why}"] for title, why in skipped.items()]
    return _aligned(rows)


def limits() -> list[str]:
    """What clients can't do, a line each."""
    return [f"- {limit.client}, {limit.scenario}: {limit.cell}. {limit.why}" for limit in LIMITS]


def facts(clients: Sequence[Client], found: Sequence[Fact]) -> str:
    """The second table."""
    titles = {client.name: f"{client.title} {client.version}".strip() for client in clients}
    rows = [[titles[one.client], one.http, one.body, str(one.tries), str(one.hurried), one.patience] for one in found]
    return _aligned([list(HEADINGS), *rows])


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    columns = max(map(len, rows))
    # A row of two cells is a sentence, and makes no column wider.
    widths = [max(len(row[i]) for row in rows if len(row) == columns or not i) for i in range(columns)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=False)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
