"""How long each lane takes by the table of machines, for the gateway's choice between them.

Owns: which row of the table stands for a lane. Does not own: the table and the arithmetic (`machines`), what follows
(`pilot`, and `caddy` where there is no choice).
"""

from collections.abc import Mapping
from typing import Final

from components.machines.requests import Size, first_token_s
from components.machines.speeds import CARDS, Speed, scaled_card
from components.settings import Lane, Settings

BURST_CARD: Final = "nvidia-l4"
"""What `burst.service` declares; not imported from there, for Caddy's configuration loads no cloud provider."""


def speed(settings: Settings, lane: Lane) -> Speed | None:
    """None for a VM on a machine that the table doesn't know."""
    if lane is Lane.VM:
        return settings.vm_machine.speed if settings.vm_machine else None
    return scaled_card(CARDS[settings.home.gpu if lane is Lane.HOME else BURST_CARD], settings.contract.model)


def first_tokens_s(settings: Settings, lane: Lane) -> Mapping[Size, float]:
    """Seconds to the first token of each size's reference request, alone on its lane; empty if nobody knows."""
    found = speed(settings, lane)
    return {size: first_token_s(found, *settings.borders.reference(size)) for size in Size} if found else {}
