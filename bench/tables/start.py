"""How soon a gateway answers after its processes were started, and how long its declaration takes to render.

Owns: both tables. Does not own: what ready means for a system (`systems`).
"""

import time
from typing import Any, Final

from bench.errors import BenchError
from bench.goals import Goal, number
from bench.results import Section
from bench.stage import Stage
from bench.statistics import Rounds
from bench.systems import declared, haproxy, litellm, nginx, ours, plain_caddy, vllm_router
from bench.systems.system import System

ONE, MANY = "ours, VM lane, 1 client", "ours, VM lane, 100 clients"
STACKS: Final[dict[str, dict[str, Any]]] = {
    "1 client": {"clients": declared.clients(1)},
    "100 clients": {"clients": declared.clients(100)},
    "50 services x 50 clients": {"clients": declared.clients(50), "services": declared.services(49)},
}


def systems() -> list[System]:
    """In the order of the table."""
    return [
        haproxy.system(),
        nginx.system(),
        vllm_router.system(),
        plain_caddy.system(),
        ours.vm(ONE),
        ours.vm(MANY, clients=declared.clients(100)),
        litellm.system(),
    ]


def run(stage: Stage) -> list[Section]:
    """The table of starts."""
    found = Rounds()
    chosen = stage.there(systems())
    for turn in range(stage.scale.starts):
        for system in chosen:
            system.prepare()
            begun = time.monotonic()
            with stage.up(system):
                found.add(system.name, "start", time.monotonic() - begun, turn)
        stage.say(f"start {turn + 1}: " + ", ".join(f"{s.name} {found.median(s.name, 'start'):.2f} s" for s in chosen))
    rows = [
        [system.name, number(found.median(system.name, "start")), number(found.most(system.name, "start"))]
        for system in chosen
    ]
    goals = [Goal(f"start, {name}", found.median(name, "start"), 0.5, unit=" s") for name in (ONE, MANY)]
    return [Section(
        "start",
        "From the start of the processes to the first proxied answer; files are in the page cache.",
        ["system", "median, s", "longest, s"], rows, goals=goals,
    )]  # fmt: skip


def render(stage: Stage) -> list[Section]:
    """The table of the renderings: the whole program, as `pulumi preview` runs it but for the engine."""
    declared.in_own_process(STACKS["1 client"])  # imports
    took: dict[str, float] = {}
    refused: dict[str, str] = {}
    stacks = dict(list(STACKS.items())[: 2 if stage.scale.quick else None])
    for name, settings in stacks.items():
        try:
            took[name] = min(declared.in_own_process(settings)[1] for _ in range(stage.scale.starts))
        except BenchError as error:
            refused[name] = str(error).partition("  - ")[2].partition(". Consequence")[0]
        stage.say(f"render: {name}: {refused.get(name) or f'{took[name]:.2f} s'}")
    one, most = took.get("1 client", float("nan")), took.get("50 services x 50 clients", float("nan"))
    return [Section(
        "render",
        "The program's run with all its resources, read as the lab reads it; Python has its modules loaded.",
        ["stack", "s"],
        [[name, f"refused: {refused[name]}" if name in refused else number(took[name])] for name in stacks],
        goals=[
            Goal("render of the plan, 1 client", one, 2, unit=" s"),
            Goal("render of 50 services x 50 clients by that of 1 client", most / one, 3),
        ],
    )]  # fmt: skip
