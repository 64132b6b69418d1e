"""What breaks when: faults drawn by a seed, and which answers each of them may cut.

Owns: the events and their windows. Does not own: a fault's meaning (`run.faults`), carrying it out (`run`). Pure.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

GROUPS: Final = {
    "home's engine": ("home-down", "home-stopped", "home-slow", "home-mute", "home-500"),
    "home's way": (
        "home-refused", "home-blackhole", "traefik-down", "traefik-stopped", "tunnel-stopped", "tunnel-down",
    ),
    "burst": ("burst-down", "burst-stopped", "burst-mute", "burst-500", "burst-never", "burst-5xx", "burst-slow"),
    "vm": ("vm-stopped", "vm-mute", "vm-500", "vm-down", "vm-full"),
    "pilot": ("pilot-down", "pilot-wedged"),
    "gateway": ("gateway-rolled", "gateway-ended"),
}  # fmt: skip
"""Faults of one thing, of which one is on at a time. `vm-late` is left out: it is a roll and a dead VM in one."""
CUTS: Final = {"home": ("home",), "traefik": ("home",), "tunnel": ("home",), "burst": ("burst",), "vm": ("vm",)}
"""Whose answers a fault may break off, by the first word of its name: a pilot's and a roll's none."""
LANES: Final = ("home", "burst", "vm")
CALM_S: Final = 3.0
"""At the beginning and the end nothing breaks."""
EVERY_S: Final = 2.5
"""Mean time between two faults: with some 6 s each, two or three are on at a time."""
LASTS_S: Final = (2.0, 10.0)
ENDING_S: Final = 12.0
"""How long the end of an instance and the start of the next one may take: Cloud Run's 10 s, and a start."""
SETTLE_S: Final = 15.0
"""So long after a fault it may still cut: the pilot frees what hangs at home some 5 s after it has left it, and asks
for three tokens and 5 s before it takes a lane back; a killed pilot or tunnel is started again within some seconds."""


@dataclass(frozen=True)
class Event:
    """A fault from `at` on, for `lasts`; seconds since the callers began."""

    at: float
    fault: str
    lasts: float


@dataclass(frozen=True)
class Happened:
    """A fault as it was switched, Unix time."""

    fault: str
    on: float
    off: float


def schedule(seed: int, seconds: float) -> tuple[Event, ...]:
    """Faults for so long. Each comes once before any comes again."""
    source = random.Random(seed)
    free, deck, found = dict.fromkeys(GROUPS, 0.0), list[str](), list[Event]()
    group_of = {fault: group for group, faults in GROUPS.items() for fault in faults}
    at = CALM_S
    while at < seconds - CALM_S - LASTS_S[0]:
        if not deck:
            deck = sorted(group_of)
            source.shuffle(deck)
        fault = next((each for each in deck if free[group_of[each]] <= at), "")
        lasts = round(source.uniform(*LASTS_S), 1)
        if fault:
            deck.remove(fault)
            lasts = ENDING_S if group_of[fault] == "gateway" else min(lasts, round(seconds - CALM_S - at, 1))
            found.append(Event(round(at, 1), fault, lasts))
            free[group_of[fault]] = at + lasts + 1.0
        at += source.uniform(0.2, 1.8) * EVERY_S
    return tuple(found)


def cuts(fault: str) -> Sequence[str]:
    """The lanes whose answers it may break off."""
    return LANES if fault == "gateway-ended" else CUTS.get(fault.partition("-")[0], ())


def cut(happened: Iterable[Happened], lane: str, since: float, until: float, *, named: str = "") -> bool:
    """Whether a fault (`named`: whose name ends so) may have cut this lane's answer between the two times."""
    return any(
        lane in cuts(one.fault) and one.fault.endswith(named) and one.on <= until and since <= one.off + SETTLE_S
        for one in happened
    )
