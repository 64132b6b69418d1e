"""How long a first token would take on each lane, and what follows: who is sooner, and who is out of time.

Owns: the arithmetic and the verdicts. Does not own: the declared seconds (`environment`), whom they are told
(`answers`). Pure.

A size of request is judged by one request, its reference (`components.machines.requests`): the gateway knows lengths
and reads no body. What is expected is the mean: who asks has no place in the line yet.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .state import Lane, Phase, Policy

SIZES: Final = ("short", "long", "picture")
ALONE: Final = "alone"
"""In the place of a size: for callers who have no other lane to compare one with."""
CONTENTION: Final = 0.56
"""Each request that runs on the VM makes the next one so much later: two at once were measured 1.56 times as late."""
SLACK_S: Final = 0.75
"""The VM may be later by so much: it is the backup of a lane that fails this very moment, which is known later."""
SETTLED_S: Final = 10.0
"""Home must have been away for so long before anything is refused: a tunnel that starts needs some seconds."""


@dataclass(frozen=True)
class Pace:
    """What is declared of a lane: seconds to the first token by size, alone on it, and to the last; its slots."""

    first_s: Mapping[str, float]
    answer_s: float
    capacity: int

    def turn_s(self, first_s: float) -> float:
        """From one slot that becomes free to the next, while all are taken by such requests."""
        return (first_s + self.answer_s) / self.capacity


@dataclass(frozen=True)
class Scene:
    """What is there at one moment."""

    now: float
    home: Lane = field(default_factory=lambda: Lane(Phase.DOWN))
    burst: Lane = field(default_factory=Lane)
    vm: Lane = field(default_factory=lambda: Lane(Phase.WARM))
    in_flight: Mapping[str, int] = field(default_factory=dict[str, int])
    waiting: int = 0
    failing: frozenset[str] = frozenset()
    """Lanes that Caddy leaves alone, because a request failed there a moment ago."""
    correction: float = 1.0
    """How many times as long as declared the VM takes."""


@dataclass(frozen=True)
class Declared:
    """What the table of machines says, and what the settings do."""

    paces: Mapping[str, Pace]
    """By lane. A VM that nobody knows is missing, and nothing is said of it."""
    start_s: float
    """Burst's cold start, until one was seen."""
    timeout_s: float
    """Longest time of a request."""
    policy: Policy


def expected(size: str, declared: Declared, scene: Scene) -> dict[str, float]:
    """Seconds to a first token on each lane; infinite for one that can't come. A slow home is as late as it was."""
    found: dict[str, float] = {}
    slow = scene.home.phase is Phase.SLOW and scene.home.lateness_s < math.inf
    up = {"home": scene.home.takes or slow, "burst": scene.burst.phase is Phase.WARM}
    firsts = {lane: pace.first_s[size] for lane, pace in declared.paces.items()}
    if slow and "home" in firsts:
        firsts["home"] = max(firsts["home"], scene.home.lateness_s)
    serving = [lane for lane in declared.paces if up.get(lane) and lane not in scene.failing]
    full = [lane for lane in serving if scene.in_flight.get(lane, 0) >= declared.paces[lane].capacity]
    # All full lanes serve one line.
    served = sum(1 / declared.paces[lane].turn_s(firsts[lane]) for lane in full)
    for lane, pace in declared.paces.items():
        first = firsts[lane]
        if lane == "vm":
            running = min(scene.in_flight.get(lane, 0), pace.capacity - 1)
            found[lane] = math.inf if scene.vm.sick else first * scene.correction * _crowded(running)
        elif lane in full:
            found[lane] = scene.waiting / served + first
        elif lane in serving:
            found[lane] = first
        elif lane == "burst":
            start = _start(declared, scene)
            # Who still waits then, and has no slot at once.
            left = max(0.0, scene.waiting - start * served - pace.capacity) if start < math.inf else 0.0
            found[lane] = start + left / (served + 1 / pace.turn_s(first)) + first
        else:
            found[lane] = math.inf
    return found


def _crowded(running: int) -> float:
    return 1 + CONTENTION * running


def _start(declared: Declared, scene: Scene) -> float:
    """Seconds until burst is warm; infinite if it may never be, as after a start that failed."""
    burst = scene.burst
    if declared.policy.wake == "never" or burst.unproven:
        return math.inf
    start = sum(burst.starts) / len(burst.starts) if burst.starts else declared.start_s
    match burst.phase:
        case Phase.COLD:
            return start
        case Phase.WARMING:
            # One that takes longer than it should is expected to be late by as much again.
            return abs(start - (scene.now - burst.since))
        case _:
            return math.inf


def allows_home(size: str, declared: Declared, scene: Scene) -> bool:
    """Whether home, if it is slow, is still not later than another lane; a sick one is left."""
    if scene.home.phase is not Phase.SLOW:
        return True
    found = expected(size, declared, scene)
    if "vm" in found:
        can = scene.vm.takes and "vm" not in scene.failing
        found["vm"] = found["vm"] + _turn_s(declared, scene, found["vm"]) if can else math.inf
    own = found.pop("home", scene.home.lateness_s)
    return own < math.inf and all(own <= seconds for seconds in found.values())


def allows_vm(size: str, declared: Declared, scene: Scene) -> bool:
    """Whether the VM's first token comes in time, and not later than another lane's would."""
    found = expected(size, declared, scene)
    if "vm" not in found:
        return True
    others = min((seconds for lane, seconds in found.items() if lane != "vm"), default=math.inf)
    return found["vm"] <= min(others + SLACK_S, declared.timeout_s)


def refuses(size: str, declared: Declared, scene: Scene) -> bool:
    """Whether the VM alone is left, and can't begin in time, not even for the next in line."""
    found = expected(size, declared, scene)
    if "vm" not in found or any(seconds < math.inf for lane, seconds in found.items() if lane != "vm"):
        return False
    # A lane that just failed, or is slow, gets nothing now, and may the next moment.
    if "burst" in found and scene.burst.phase in (Phase.WARM, Phase.SLOW):
        return False
    away = scene.home.sick or scene.home.phase is Phase.DOWN
    if "home" in found and (not away or scene.now - scene.home.since < SETTLED_S):
        return False
    # A sick VM is no slow one: it may be well again soon, with other requests just as without.
    return declared.timeout_s < found["vm"] + _turn_s(declared, scene, found["vm"]) < math.inf


def _turn_s(declared: Declared, scene: Scene, first_s: float) -> float:
    """Until the VM has a free slot. Nobody's place in the line counts: all who wait would be refused with the last."""
    pace = declared.paces["vm"]
    return pace.turn_s(first_s) if scene.in_flight.get("vm", 0) >= pace.capacity else 0.0
