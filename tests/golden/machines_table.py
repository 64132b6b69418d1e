"""The tables in docs/machines.md: what each machine costs, how soon it answers, and where its speed comes from.

Owns: the tables' form. Does not own: speeds, prices, the choice (`components.machines`).
"""

from typing import Final

from components.machines.choice import Choice, fastest, offered, wait_s
from components.machines.prices import price, regions
from components.machines.requests import TEXT_TOKENS, first_token_s
from components.machines.speeds import Machine
from components.models.catalogue import STANDARD
from lab.read.stack import ROOT

PAGE: Final = ROOT / "docs" / "machines.md"
START, END = "<!-- machines: made by `make golden` -->", "<!-- machines end -->"


def tables() -> str:
    """The default of each region, the machines with the fastest first, and the source of each speed."""
    seen: dict[str, Machine] = {row.title: row for region in regions() for row in offered(region)}
    rows = sorted(seen.values(), key=lambda row: (wait_s(row), row.title))
    lines = ["| region | default machine | USD a month | first token: text | with a picture | answer, tokens/s |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for region in regions():
        if found := fastest(region):
            lines.append(f"| {region} | {_named(found)} | {_usd(found, region)} | {_speeds(found.machine)} |")
    head = " | ".join(f"{region}: on demand, spot" for region in regions())
    lines += ["", f"| machine | cores, GiB | first token: text | with a picture | answer, tokens/s | speed | {head} |",
              "|---|---|---|---|---|---|" + "---|" * len(regions())]  # fmt: skip
    for row in rows:
        usd = " | ".join(_both(row, region) for region in regions())
        source = f"{row.speed.source}"
        lines.append(
            f"| {row.title} | {row.cores}, {row.memory_gib:g} | {_speeds(row)} | {source} | {usd} |"
        )  # fmt: skip
    sources: dict[str, list[str]] = {}
    for row in rows:
        sources.setdefault(row.speed.told, []).append(row.title)
    lines += ["", *(f"- {', '.join(titles)}: {told}." for told, titles in sources.items())]
    return "\n".join(lines)


def page() -> str:
    """docs/machines.md with its tables renewed."""
    before, _, rest = PAGE.read_text().partition(START)
    return f"{before}{START}\n{tables()}\n{END}{rest.partition(END)[2]}"


def _named(choice: Choice) -> str:
    return f"{choice.machine.title}{', spot' if choice.spot else ''}"


def _usd(choice: Choice, region: str) -> str:
    usd = choice.month_usd(region)
    return "-" if usd is None else f"{usd:.0f}"


def _both(row: Machine, region: str) -> str:
    """On demand and spot; `-` where the catalogue has no price."""
    return ", ".join(_usd(Choice(row, spot), region) for spot in (False, True)) if price(row, region) else "-"


def _speeds(row: Machine) -> str:
    text, picture = (first_token_s(row.speed, TEXT_TOKENS, tokens) for tokens in (0, STANDARD.picture_tokens))
    return " | ".join(f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" for seconds in (text, picture)) + (
        f" | {row.speed.answer:.0f}"
    )
