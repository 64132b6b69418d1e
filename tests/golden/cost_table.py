"""The tables of what it costs: docs/cost.md by choice and region, README.md part by part.

Owns: the choices, and the tables' form. Does not own: the prices (`components.machines.prices`), what a stack is billed
for (`lab.read.cost`).
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from components.machines.prices import EVERYWHERE, Rate, rates, regions
from components.machines.speeds import MACHINES
from components.settings import reading
from components.settings.section import SettingsError
from lab.read.cloud import Cloud
from lab.read.cost import bill
from lab.read.cost.bill import Bill
from lab.read.cost.line import Line
from lab.read.stack import ROOT, config_of, render

PAGE: Final = ROOT / "docs" / "cost.md"
README: Final = ROOT / "README.md"
CHOICES: Final = "<!-- choices: made by `make golden` -->", "<!-- choices end -->"
HOURS: Final = "<!-- hours: made by `make golden` -->", "<!-- hours end -->"
PRICES: Final = "<!-- prices: made by `make golden` -->", "<!-- prices end -->"
PARTS: Final = "<!-- parts: made by `make golden` -->", "<!-- parts end -->"
ALL: Final[Mapping[str, Any]] = {"lanes": ["home", "burst", "vm"]}
HERE: Final = "us-central1"
SMALL_USD: Final = 0.5
"""Of README's table: its region, and what is too small for a row of its own."""
STACKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "the default: `lanes: [home, vm]`": {},
    "`lanes: [home, burst, vm]`": ALL,
    "`lanes: [home, burst]`": {"lanes": ["home", "burst"]},
    "`lanes: [vm]`": {"lanes": ["vm"]},
    "`vm.spot: false`: one plain machine, no balancer": {"vm": {"spot": False}},
    "`vm.replicas: 2`": {"vm": {"replicas": 2}},
    "`vm: {gpu: t4, spot: true}`": {"vm": {"gpu": "t4", "spot": True}},
    "`vm: {gpu: l4, spot: true}`": {"vm": {"gpu": "l4", "spot": True}},
    "`gateway.min_instances: 1`": {"gateway": {"min_instances": 1}},
    "`alerts.email`, and `alerts.uptime_check: true`": {"alerts": {"email": "me@example.com", "uptime_check": True}},
    "`lanes: [home, burst, vm]`, `burst.min_instances: 1`": {**ALL, "burst": {"min_instances": 1}},
}
"""What an owner chooses between -> settings over the default's."""


@functools.cache
def bill_of(choice: str, region: str) -> Bill | None:
    """None where the settings are refused in the region."""
    cloud = Cloud(port=8787)
    own = {f"pilotlight:{key}": json.dumps(value) for key, value in STACKS[choice].items()}
    config = {**cloud.config(), **config_of("dev"), **own, "gcp:region": region}
    try:
        reading.read(config, stack="dev")
    except SettingsError:
        return None
    return bill.read(render("dev", config, cloud.compute))


def choices() -> str:
    """USD a month while nobody calls, by choice and region."""
    rows = [
        f"| {choice} | " + " | ".join(_sum(bill_of(choice, region)) for region in regions()) + " |" for choice in STACKS
    ]
    return _table(["choice", *regions()], rows)


def hours() -> str:
    """USD for an hour in which an instance is there, by region."""
    asked = {
        "gateway": ("the default: `lanes: [home, vm]`", "gateway"),
        "gateway, with the VM as the only lane": ("`lanes: [vm]`", "gateway"),
        "lane burst": ("`lanes: [home, burst, vm]`", "lane burst"),
    }
    rows = [
        f"| {title} | " + " | ".join(_hour(bill_of(choice, region), what) for region in regions()) + " |"
        for title, (choice, what) in asked.items()
    ]
    return _table(["an instance of", *regions()], rows)


def prices() -> str:
    """Every price but the machines', which docs/machines.md has."""
    machines = tuple(row.title for row in MACHINES)
    rows = [_price(row) for row in rates().values() if not row.item.startswith(machines)]
    return _table(["item", "region", "USD", "free a month", "read", "source"], rows)


def parts() -> str:
    """README's: what counts of a stack with all lanes, part by part."""
    found = bill_of("`lanes: [home, burst, vm]`", HERE)
    assert found is not None
    counts = [line for line in found.lines if (line.month_usd or 0) >= SMALL_USD or line.use_per == "hour awake"]
    rows = [f"| {line.what} | {line.month_usd or 0:.2f} | {_use(line)} | {line.note} |" for line in counts]
    small = found.month_usd - sum(line.month_usd or 0 for line in counts)
    head = ["part", "USD a month while nobody calls", "in use", "what changes it"]
    return _table(head, [*rows, f"| together, {small:.2f} of them for small things | {found.month_usd:.2f} | | |"])


def page() -> str:
    """docs/cost.md with its tables renewed."""
    text = _renewed(PAGE.read_text(), CHOICES, choices())
    return _renewed(_renewed(text, HOURS, hours()), PRICES, prices())


def readme() -> str:
    """README.md with its table renewed."""
    return _renewed(README.read_text(), PARTS, parts())


def _renewed(text: str, marks: tuple[str, str], table: str) -> str:
    start, end = marks
    before, found, rest = text.partition(start)
    assert found
    assert end in rest, f"{start} has no end"
    return f"{before}{start}\n{table}\n{end}{rest.partition(end)[2]}"


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows])


def _sum(found: Bill | None) -> str:
    return "-" if found is None else f"{found.month_usd:.2f}"


def _hour(found: Bill | None, what: str) -> str:
    [line] = [line for line in found.lines if line.what == what] if found else [None]
    return f"{line.use_usd:.2f}" if line else "-"


def _use(line: Line) -> str:
    """Cents where an hour is paid; a GiB costs less."""
    usd = f"{line.use_usd:.2f}" if line.use_usd >= 0.1 else f"{line.use_usd:.2g}"
    return f"{usd} / {line.use_per}" if line.use_per else ""


def _price(row: Rate) -> str:
    where = "all" if row.region == EVERYWHERE else row.region
    free = f"{row.free:,.0f}" if row.free else "-"
    return f"| {row.item} | {where} | {row.usd:.7g} / {row.per} | {free} | {row.read} | {row.source} |"
