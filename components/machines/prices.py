"""What the machines cost: Google's list prices, read from `prices.csv` beside this file.

Owns: the prices by machine, region and kind of capacity, with the date and the basis of each. Does not own: a choice.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from components.machines.speeds import Machine

HOURS: Final = 730
"""Of a month, as Google counts them."""
BALANCER_USD: Final = 18.25
"""A month of an internal load balancer's forwarding rule, which a group stands behind: 0.025 USD an hour."""


@dataclass(frozen=True)
class Price:
    """USD for a month of 730 hours. `on_demand` has Google's discount for a machine that runs all month."""

    on_demand: float
    spot: float | None
    """None: the catalogue has none."""


def price(machine: Machine, region: str) -> Price | None:
    """None where the catalogue has no such machine in the region."""
    return _table().get((machine.title, region))


def regions() -> list[str]:
    """Regions that the catalogue was read for."""
    return sorted({region for _, region in _table()})


@cache
def _table() -> dict[tuple[str, str], Price]:
    with (Path(__file__).parent / "prices.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    found: dict[tuple[str, str], Price] = {}
    for row in rows:
        if row["on_demand_month_after_sustained_use_discount"]:
            spot = row["spot_usd_month_730h"]
            found[row["machine"], row["region"]] = Price(
                float(row["on_demand_month_after_sustained_use_discount"]), float(spot) if spot else None
            )
    return found
