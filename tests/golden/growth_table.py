"""The table of docs/growth.md: how many requests a minute each choice answers, and what it costs.

Owns: the table's form and its arithmetic. Does not own: speeds (`components.machines`), costs (`cost_table`).
"""

from typing import Final

from components.machines.requests import TEXT_TOKENS, answer_s, first_token_s
from components.machines.speeds import CARDS, Speed, machine
from components.models.catalogue import STANDARD
from lab.read.stack import ROOT
from tests.golden import cost_table

PAGE: Final = ROOT / "docs" / "growth.md"
START, END = "<!-- growth: made by `make golden` -->", "<!-- growth end -->"
HOUR_MONTH: Final = 730
MACHINES: Final = {
    "`vm`: t2d-standard-8, the default": ("t2d-standard-8", "", "the default: `lanes: [home, vm]`"),
    "`vm: {gpu: t4, spot: true}`": ("n1-standard-2", "t4", "`vm: {gpu: t4, spot: true}`"),
    "`vm: {gpu: l4, spot: true}`": ("g2-standard-4", "l4", "`vm: {gpu: l4, spot: true}`"),
}
"""What serves -> its row in the table of machines, and the stack of `cost_table` that has it."""
SLOTS: Final = {"home": 8, "burst": 16, "vm": 2}
"""Each lane's `max_requests` by default."""


def table() -> str:
    """Per minute: one request after another, and all slots at once if they cost each other nothing."""
    head = "| one of | texts a minute: one by one | all slots | with a picture: one by one | all slots | USD a month |"
    rows = [head, "|---|---:|---:|---:|---:|---:|"]
    rows.append(_row("`home`: an RTX 3090", CARDS["rtx-3090"], SLOTS["home"], "electricity"))
    rows.append(_row("`burst`: an L4 that is awake", CARDS["nvidia-l4"], SLOTS["burst"], _burst()))
    for title, (name, gpu, stack) in MACHINES.items():
        found = machine(name, gpu)
        assert found is not None
        rows.append(_row(title, found.speed, SLOTS["vm"], _month(stack)))
    return "\n".join(rows)


def page() -> str:
    """docs/growth.md with its table renewed."""
    before, found, rest = PAGE.read_text().partition(START)
    assert found
    return f"{before}{START}\n{table()}\n{END}{rest.partition(END)[2]}"


def _row(title: str, speed: Speed, slots: int, usd: str) -> str:
    cells: list[str] = []
    for tokens in (0, STANDARD.picture_tokens):
        alone = 60 / (first_token_s(speed, TEXT_TOKENS, tokens) + answer_s(speed))
        cells += [_count(alone), _count(slots * alone)]
    return f"| {title} | {' | '.join(cells)} | {usd} |"


def _count(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


def _month(stack: str) -> str:
    """What the stack costs over one without a VM."""
    own, bare = (cost_table.bill_of(one, cost_table.HERE) for one in (stack, "`lanes: [home, burst]`"))
    assert own
    assert bare
    return f"{own.month_usd - bare.month_usd:.0f}"


def _burst() -> str:
    found = cost_table.bill_of("`lanes: [home, burst, vm]`", cost_table.HERE)
    assert found
    [hour] = [line.use_usd for line in found.lines if line.what == "lane burst"]
    return f"{hour:.2f} an hour, {hour * HOUR_MONTH:.0f} always awake"
