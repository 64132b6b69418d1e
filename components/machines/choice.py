"""Which machine the VM lane takes: the fastest of the region whose month is not dearer than the budget.

Owns: the choice, by speed (`speeds`) and price (`prices`). Does not own: the settings that ask for another machine, and
what is refused (`settings`). A pure function of the two tables.
"""

from dataclasses import dataclass, replace
from typing import Final

from components.machines.names import shape
from components.machines.prices import BALANCER_USD, price, regions
from components.machines.requests import TEXT_TOKENS, answer_s, first_token_s
from components.machines.speeds import MACHINES, Machine, Speed, machine, scaled
from components.models.catalogue import STANDARD
from components.models.contract import Contract

BUDGET_USD: Final = 66.0
"""A month of the machine that the first default was, e2-highmem-2 in us-central1, on demand."""
CARD_MACHINE: Final = {"t4": "n1-standard-2", "l4": "g2-standard-4"}
"""The smallest machine of each card."""


@dataclass(frozen=True)
class Choice:
    """A machine, and whether it is spot capacity. Spot stands behind a balancer: it is a group, which heals itself."""

    machine: Machine
    spot: bool

    def month_usd(self, region: str) -> float | None:
        """A month of one such machine, with the balancer's rule if it is spot; None where no price is known."""
        there = price(self.machine, region)
        if there is None:
            return None
        if self.spot:
            return None if there.spot is None else there.spot + BALANCER_USD
        return there.on_demand


def wait_s(row: Machine, contract: Contract = STANDARD) -> float:
    """What machines are compared by: seconds until a text with a picture is answered whole.

    Not the first token alone: the machines with AMX read fast and write slowly.
    """
    speed = scaled(row.speed, contract.model)
    return first_token_s(speed, TEXT_TOKENS, contract.picture_tokens) + answer_s(speed)


def offered(region: str, contract: Contract = STANDARD) -> list[Machine]:
    """Every machine that the catalogue has a price for in the region, the fastest first."""
    return sorted((row for row in MACHINES if price(row, region)), key=lambda row: (wait_s(row, contract), row.title))


def fastest(region: str, contract: Contract = STANDARD, *, spot: bool | None = None) -> Choice | None:
    """The default. Of equally fast ones the cheapest; None where nothing is in the budget. `spot`: only such, if given.

    Cards are left out: they need a quota that a new project doesn't have.
    """
    found = [
        (wait_s(row, contract), usd, choice)
        for row in offered(region, contract)
        for choice in (Choice(row, False), Choice(row, True))
        if not row.gpu and spot in (None, choice.spot)
        if (usd := choice.month_usd(region)) is not None and usd <= BUDGET_USD
    ]
    return min(found, key=lambda each: each[:2])[2] if found else None


def chosen(
    region: str,
    contract: Contract,
    *,
    machine_type: str = "",
    gpu: str = "",
    spot: bool | None = None,
    speed: Speed | None = None,
) -> Choice | None:
    """The machine that the settings ask for; None where neither the table nor a type's name tells what it is.

    Its speed is the model's: scaled from the table, or `speed`, which was measured with it.
    """
    if not machine_type and not gpu:
        found = fastest(region, contract, spot=spot)
        return found and replace(found, machine=_serving(found.machine, contract))
    name = machine_type or CARD_MACHINE[gpu]
    row = machine(name, gpu)
    if row is None and speed is not None and (told := shape(name)) is not None:
        row = Machine(name, gpu, told.vcpus, told.cores, told.memory_gib, told.disk, speed)
    return row and Choice(replace(row, speed=speed) if speed else _serving(row, contract), bool(spot))


def _serving(row: Machine, contract: Contract) -> Machine:
    return replace(row, speed=scaled(row.speed, contract.model))


def known(region: str) -> bool:
    """Whether the catalogue was read for the region."""
    return region in regions()
