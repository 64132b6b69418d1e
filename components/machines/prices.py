"""What things cost: list prices, read from `prices.csv` beside this file, each with its date and its source.

Owns: the prices by item and region, those of the machines by kind of capacity, and which of them are old. Does not own:
a choice (`choice`), what a stack has of each item (the lab's `read.cost`).
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from components.machines.speeds import Machine

HOURS: Final = 730
"""Of a month, as Google counts them."""
EVERYWHERE: Final = "*"
"""Stands for the region of a price that all regions have."""
SPOT: Final = ", spot"
"""What follows a machine's title where its price is that of spot capacity."""
OLD_DAYS: Final = 365
"""A price that is older is no answer any more."""


@dataclass(frozen=True)
class Rate:
    """One row: USD for one `per` of the item, beyond the `free` ones that every month has."""

    item: str
    region: str
    per: str
    usd: float
    free: float
    read: date
    """The day the source is of; of a source without a date, the day it was read."""
    source: str


@dataclass(frozen=True)
class Price:
    """USD for a month of 730 hours. `on_demand` has Google's discount for a machine that runs all month."""

    on_demand: float
    spot: float | None
    """None: the catalogue has none."""


def rate(item: str, region: str) -> Rate | None:
    """The item's price in the region; None where it isn't known."""
    table = rates()
    return table.get((item, region)) or table.get((item, EVERYWHERE))


def price(machine: Machine, region: str) -> Price | None:
    """None where the catalogue has no such machine in the region."""
    table = rates()
    there, spot = table.get((machine.title, region)), table.get((machine.title + SPOT, region))
    return Price(there.usd, spot.usd if spot else None) if there else None


def regions() -> list[str]:
    """Regions that the catalogue was read for."""
    return sorted({region for _, region in rates()} - {EVERYWHERE})


def old(now: date) -> list[Rate]:
    """Prices that are older than a year, the oldest first."""
    return sorted((row for row in rates().values() if (now - row.read).days > OLD_DAYS), key=lambda row: row.read)


@cache
def rates() -> Mapping[tuple[str, str], Rate]:
    """Every row, by item and region."""
    return MappingProxyType(parsed((Path(__file__).parent / "prices.csv").read_text()))


def parsed(text: str) -> dict[tuple[str, str], Rate]:
    """The file's rows. One that stands twice is a `ValueError`: one of the two would never be seen."""
    found: dict[tuple[str, str], Rate] = {}
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        key = row["item"], row["region"]
        if key in found:
            raise ValueError(f"prices.csv: {key} stands twice")
        usd, free = float(row["usd"]), float(row["free"] or 0)
        found[key] = Rate(*key, row["per"], usd, free, date.fromisoformat(row["read"]), row["source"])
    return found


BALANCER_USD: Final = HOURS * rates()["forwarding rule", EVERYWHERE].usd
"""A month of an internal load balancer's forwarding rule, which a group stands behind."""
