"""Requests of 1 KB, and bodies of the size of pictures: how many a second, what one costs, how late it is.

Owns: the rows, the loads, the goals about them. Does not own: the systems, the arithmetic over rounds (`statistics`).
"""

import math
from collections.abc import Sequence
from typing import Final

from bench.errors import BenchError
from bench.goals import Goal, number
from bench.plots import Bar, bars
from bench.results import Section
from bench.stage import Stage, body, picture
from bench.statistics import Rounds, percentile
from bench.systems import declared, direct, haproxy, litellm, nginx, ours, plain_caddy, vllm_router
from bench.systems.system import System

PLAIN: Final = "plain Caddy"
VM, HOME, BURST = "ours, VM lane", "ours, home lane by SOCKS5", "ours, burst's hop with TLS"
MANY, SERVICES = "ours, VM lane, 100 clients", "ours, VM lane, 4 services more"
CONNECTIONS: Final = 16
IDLE: Final = 0.9
"""Share of a core from which it is busy: below, something else than the system was the limit."""


def systems() -> list[System]:
    """In the order of the tables."""
    return [
        direct.SYSTEM,
        haproxy.system(),
        nginx.system(),
        vllm_router.system(),
        plain_caddy.system(),
        ours.vm(VM),
        ours.home(HOME),
        ours.burst(BURST),
        ours.vm(MANY, clients=declared.clients(100)),
        ours.vm(SERVICES, services=declared.services(4)),
        litellm.system(),
    ]


def run(stage: Stage) -> list[Section]:
    """Both tables."""
    found = Rounds()
    chosen = stage.there(systems())
    for turn in range(stage.scale.rounds):
        # Each round begins elsewhere, so that nothing is always first or last.
        for system in [*chosen[turn:], *chosen[:turn]]:
            _measure(stage, system, turn, found)
    names = [system.name for system in chosen]
    return [_small(found, names), _large(found, names)]


def _measure(stage: Stage, system: System, turn: int, found: Rounds) -> None:
    slow = system.name == "LiteLLM"
    with stage.up(system) as running:
        stage.closed(running, CONNECTIONS, body(900), 0.5)  # warm up
        many = stage.rate(running, CONNECTIONS, body(900))
        one = stage.closed(running, 1, body(900), stage.scale.seconds / 2)
        for name, value in {
            "rate": many.rate,
            "cpu": many.cpu_us,
            "busy": many.cpu_s / many.took_s,
            "load": many.load_cpu_s / many.took_s,
            "p50": percentile(one.latencies, 50) * 1e3,
            "failed": many.failed + one.failed,
        }.items():
            found.add(system.name, name, value, turn)
        if many.failed + one.failed and not slow:
            raise BenchError(f"{system.name}: {many.failed + one.failed} requests of 1 KB failed")
        for size, connections in ((400, 8), (2000, 4)):
            large = stage.closed(running, connections, picture(size * 1000), stage.scale.seconds / 2)
            found.add(system.name, f"rate {size}", large.rate, turn)
            found.add(system.name, f"cpu {size}", large.cpu_us, turn)
        stage.say(f"round {turn + 1}: {system.name}: {many.rate:,.0f} a second, {many.cpu_us:.0f} us each")


def _small(found: Rounds, names: Sequence[str]) -> Section:
    rows = [
        [
            name,
            number(found.median(name, "rate")),
            _share(found.spread(name, "rate")),
            number(found.ratio(name, PLAIN, "rate")),
            number(found.median(name, "cpu")) if name != "direct" else "-",
            number(found.ratio(PLAIN, name, "cpu")) if name != "direct" else "-",
            _share(found.median(name, "busy")) if name != "direct" else "-",
            _share(found.median(name, "load")),
            number(found.median(name, "p50")),
        ]
        for name in names
    ]
    added = {
        name: found.median(name, "p50") - found.median(PLAIN, "p50") for name in (VM, HOME, BURST) if name in names
    }
    bounds = {VM: 0.8, HOME: 0.8, BURST: 0.5}
    goals = [
        *(
            Goal(f"1 KB at {CONNECTIONS} connections, {name}: requests/s by plain Caddy's",
                 found.ratio(name, PLAIN, "rate"), bound, at_most=False)
            for name, bound in bounds.items()
        ),
        *(
            Goal(f"one connection, {name}: p50 over plain Caddy's", late, 0.15, unit=" ms")
            for name, late in added.items()
        ),
        Goal("100 clients: processor time a request by that of one client", found.ratio(MANY, VM, "cpu"), 1.1),
    ]  # fmt: skip
    return Section(
        "requests",
        f"A chat request of 1 KB, answered at once, {CONNECTIONS} connections; and one connection alone for p50.",
        [
            "system",
            "req/s",
            "±",
            "x plain Caddy",
            "µs of CPU a request",
            "x by CPU",
            "its core busy",
            "the load's",
            "p50 alone, ms",
        ],
        rows,
        [
            f"± is half of the range of the rounds. Where its core is less than {IDLE:.0%} busy, the load was the "
            + "limit, or another program of the machine: then CPU says more than req/s. *The load's* is generator and "
            + "model server, without tunnel and burst's front. Ours is Caddy and pilot together."
        ],
        goals,
        bars(
            f"Requests of 1 KB a second, {CONNECTIONS} connections, one core",
            "as a multiple of plain Caddy's; the mark is the goal",
            [
                Bar(name, found.ratio(name, PLAIN, "rate"), name.startswith("ours"), bounds.get(name, math.nan))
                for name in names
                if name != "direct"
            ],
        ),
    )


def _large(found: Rounds, names: Sequence[str]) -> Section:
    rows = [
        [
            name,
            *(
                cell
                for size in ("400", "2000")
                for cell in (
                    number(found.median(name, f"rate {size}")),
                    number(found.ratio(name, PLAIN, f"rate {size}")),
                    number(found.median(name, f"cpu {size}") / 1000) if name != "direct" else "-",
                )
            ),
        ]
        for name in names
    ]
    goals = [
        goal
        for name in (VM, HOME)
        for goal in (
            Goal(f"400 KB, {name}: by plain Caddy's req/s", found.ratio(name, PLAIN, "rate 400"), 0.9, at_most=False),
            Goal(
                f"400 KB, {name}: by vllm-router's req/s",
                found.ratio(name, "vllm-router", "rate 400"),
                2,
                at_most=False,
            ),
        )
    ]
    return Section(
        "bodies",
        "A chat request with a picture of so many bytes: 400 KB over 8 connections, 2 MB over 4.",
        ["system", "400 KB: req/s", "x plain Caddy", "ms of CPU", "2 MB: req/s", "x plain Caddy", "ms of CPU"],
        rows,
        goals=goals,
    )


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.0%}"
