"""One line of the bill, and the prices that it is made of.

Owns: the line's form, and the refusal where no price is known. Does not own: what a line counts (`cloud_run`,
`machines`, `rest`).
"""

from dataclasses import dataclass

from components.machines import prices
from components.machines.prices import Rate
from lab.errors import LabError
from lab.read.stack import Resource


@dataclass(frozen=True)
class Line:
    """What some resources cost, USD. `covers` are their URNs."""

    what: str
    covers: tuple[str, ...]
    month_usd: float | None = 0.0
    """Of a month in which nobody calls; None: no price is known."""
    use_usd: float = 0.0
    """On top, for each `use_per`."""
    use_per: str = ""
    note: str = ""


def urns(*resources: Resource) -> tuple[str, ...]:
    """For `covers`."""
    return tuple(resource.urn for resource in resources)


def rate(item: str, region: str) -> Rate:
    """The item's price there; raises `LabError` where it isn't known."""
    found = prices.rate(item, region)
    if found is None:
        raise LabError(
            f"components/machines/prices.csv has no price of {item!r} in {region}, so the sum would be too small; add "
            + f"a row with its date and source (whole regions there: {', '.join(prices.regions())})"
        )
    return found
