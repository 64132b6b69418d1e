"""A small world of lanes, a line and one request, played event by event: what the choice of the lane is judged in.

Owns: what is there when the request comes, and when its first token comes by which lane. Does not own: the choice
(`expect`), the promise (`test_expect`).

The world is as declared: lanes are as fast as the table says, and burst starts as it did before. Everybody is served in
the order in which they came, and nobody comes after the request. The running ones end one `turn_s` after the other.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from hypothesis import strategies as st

from tests.unit.gateway.pilot.histories import POLICY, Rules

CHECK_S = 0.5
"""Caddy asks so often. What it heard last stands until then."""
COUNTED_S = 0.5
"""A request has waited for so long when the pilot counts it for the first time."""
SIZE = "long"
FOREVER_S = 10_000.0


@dataclass(frozen=True)
class World:
    """What is there when the request comes. Paces are (first token, answer, slots); None: the lane isn't there."""

    home: tuple[float, float, int] | None
    burst: tuple[float, float, int] | None
    vm: tuple[float, float, int]
    up: bool
    """Home."""
    phase: str
    """Burst."""
    age: float
    start: float
    wake: str
    unproven: bool
    full: tuple[bool, bool]
    """Home and burst."""
    on_vm: int
    ahead: int
    """Those who wait for a lane."""
    shares: tuple[float, float, float]
    """How much of its turn the next to end at home, on burst and on the VM still has."""
    asked: float
    """Since Caddy's last question, seconds."""


def drawn(random: Random) -> World:
    """Any world; two of three have a line at home or a burst that comes, and in most the choice is a near one."""
    kind = random.choice(["any", "line", "start"])
    line, start = kind == "line", kind == "start"
    phases = ["cold", "warming"] if start else ["cold", "warming", "warm", "warm", "slow", "down"]
    world = World(
        home=_card(random) if line or random.random() < 0.6 else None,
        burst=_card(random) if start or random.random() < 0.6 else None,
        vm=(random.uniform(0.2, 600), random.uniform(1, 80), random.randint(1, 3)),
        up=line or random.random() < 0.5,
        phase=random.choice(phases),
        age=random.random(),
        start=random.uniform(10, 200),
        wake="pressure" if start else random.choice(["first-fallback", "pressure", "never"]),
        unproven=not start and random.random() < 0.3,
        full=(line or start or random.random() < 0.5, line or random.random() < 0.5),
        on_vm=random.randint(0, 3),
        ahead=random.choice([0, 3, 30, random.randint(1, 400)]),
        shares=(random.uniform(0.01, 1), random.uniform(0.01, 1), random.uniform(0.01, 1)),
        asked=random.uniform(0, CHECK_S),
    )
    # Nobody waits while a lane that is up has a free slot, and burst is as old as its phase lets it be.
    serving = [full for full, up in zip(world.full, (_home_up(world), _warm(world)), strict=True) if up]
    world = replace(
        world,
        ahead=world.ahead if all(serving) else 0,
        on_vm=min(world.on_vm, world.vm[2]),
        age=world.age * world.start,
        unproven=world.unproven and world.phase != "warm",
    )
    elsewhere = first_token_s(None, world, vm=False)
    if elsewhere == math.inf or random.random() < 0.2:
        return world
    return replace(world, vm=(max(0.2, random.uniform(0.3, 2) * elsewhere), *world.vm[1:]))


def _card(random: Random) -> tuple[float, float, int]:
    """A pace with as many slots as free one every quarter of a second, as home's and burst's defaults do."""
    first, answer = random.uniform(0.05, 1), random.uniform(0.5, 4)
    return first, answer, math.ceil((first + answer) / 0.25) + random.randint(0, 8)


WORLDS: Final = st.integers(0, 2**64 - 1).map(
    lambda seed: [drawn(random) for random in [Random(seed)] for _ in range(8)]
)
"""Some at a time. Drawn from a seed, because what hypothesis draws part by part is mostly at the edges."""


def _home_up(world: World) -> bool:
    return world.home is not None and world.up


def _warm(world: World) -> bool:
    return world.burst is not None and world.phase == "warm"


def declared(rules: Rules, world: World) -> Any:
    paces = {"home": world.home, "burst": world.burst, "vm": world.vm}
    return rules.Declared(
        paces={name: rules.Pace({SIZE: pace[0]}, pace[1], pace[2]) for name, pace in paces.items() if pace},
        start_s=world.start,
        timeout_s=300.0,
        policy=rules.Policy(**(POLICY | {"wake": world.wake})),
    )


def scene(rules: Rules, world: World, at: float, waiting: int, on_vm: int, warm: bool) -> Any:
    """What the pilot sees at a time; the request comes at 0."""
    phase, since = "warm" if warm else world.phase, -world.age
    if phase == "cold" and at >= 0 and starts_in(world) < math.inf:
        phase, since = "warming", 0.0
    burst = rules.Lane(phase=rules.Phase(phase), since=since, unproven=world.unproven)
    in_flight = {
        "home": world.home[2] if world.home and world.full[0] else 0,
        # Once it is warm and has free slots nobody waits.
        "burst": world.burst[2] if world.burst and (world.full[1] or warm) else 0,
        "vm": on_vm,
    }
    home = rules.Lane(rules.Phase.WARM if _home_up(world) else rules.Phase.DOWN)
    return rules.Scene(now=at, home=home, burst=burst, in_flight=in_flight, waiting=waiting)


def starts_in(world: World) -> float:
    """Seconds until a burst that isn't warm is; infinite for one that may never be."""
    if world.burst is None or world.wake == "never" or world.unproven or world.phase not in ("cold", "warming"):
        return math.inf
    return world.start - world.age if world.phase == "warming" else world.start


def slots(world: World) -> Iterator[tuple[float, str]]:
    """When which lane but the VM has a free slot, in order of time."""
    found: list[Iterator[tuple[float, str]]] = []
    for name, pace, up, full, share in zip(
        ("home", "burst"), (world.home, world.burst), (_home_up(world), _warm(world)), world.full, world.shares[:2],
        strict=True,
    ):  # fmt: skip
        if pace and up:
            found.append(_every((pace[0] + pace[1]) / pace[2], share, name, 0.0) if full else iter([(0.0, name)]))
    begins = starts_in(world)
    if world.burst and begins < math.inf:
        first, answer, count = world.burst
        at_once = [(begins, "burst")] * count
        found.append(itertools.chain(at_once, _every((first + answer) / count, 1.0, "burst", begins)))
    return _merged(found)


def _every(turn: float, share: float, name: str, begin: float) -> Iterator[tuple[float, str]]:
    return ((begin + (share + number) * turn, name) for number in itertools.count())


def _merged(parts: list[Iterator[tuple[float, str]]]) -> Iterator[tuple[float, str]]:
    heads = [(next(part), part) for part in parts]
    while heads:
        heads.sort(key=lambda head: head[0])
        head, part = heads[0]
        yield head
        following = next(part, None)
        heads = ([(following, part)] if following else []) + heads[1:]


def alone_on_vm_s(world: World) -> float:
    """To the first token on the VM once it has a free slot."""
    first, _, count = world.vm
    return first * (1 + 0.56 * min(world.on_vm, count - 1))


def first_token_s(rules: Rules, world: World, *, vm: bool | None = None) -> float:
    """When the request's first token comes. `vm`: None for the choice by `rules`, else only there, or elsewhere."""
    paces = {"home": world.home, "burst": world.burst, "vm": world.vm}
    known = declared(rules, world) if vm is None else None
    on_the_vm = alone_on_vm_s(world)
    vm_free = world.shares[2] * sum(world.vm[:2]) if world.on_vm >= world.vm[2] else 0.0
    if vm:
        return vm_free + on_the_vm
    line, warm_at = world.ahead, starts_in(world)
    others = slots(world)
    slot = next(others, None)
    for check in itertools.count():
        asked = check * CHECK_S - world.asked
        until = max(0.0, asked + CHECK_S) if known else math.inf
        taken = math.inf
        if known:
            on_vm = world.on_vm - int(0 < vm_free <= asked)
            seen = scene(rules, world, asked, line + int(asked >= COUNTED_S), on_vm, asked >= warm_at)
            taken = max(0.0, asked, vm_free) if rules.allows_vm(SIZE, known, seen) else math.inf
        while slot and slot[0] <= min(taken, until):
            if line == 0:
                pace = paces[slot[1]]
                assert pace
                return slot[0] + pace[0]
            line, slot = line - 1, next(others, None)
        if taken < until:
            return taken + on_the_vm
        if until > FOREVER_S:
            return math.inf
    raise AssertionError
