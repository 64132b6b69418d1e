"""More callers than slots: how late everybody is against first come, first served, and who overtakes whom.

Owns: the loads just below capacity and beyond it, the rows, the goals about them. Does not own: the arithmetic of a
line (`queueing`), the systems.
"""

import math
import random
from typing import Any, Final

from bench.goals import Goal, number
from bench.plots import Bar, bars
from bench.queueing import Served, first_come, first_come_by_callers, idle, overtaken
from bench.results import Section
from bench.stage import Stage, body
from bench.statistics import Rounds, percentile
from bench.systems import declared, haproxy, ours, plain_caddy
from bench.systems.system import HOME, VM, Running, System, steer

SLOTS: Final = 10
CALLERS: Final = 70
SERVICE_S: Final = 0.3
"""Mean time of a request; exponential, from a twentieth to five times of it."""
CAPACITY: Final = SLOTS / SERVICE_S
OURS: Final = "ours"
BUSY, FULL = "95 % of capacity", f"{CALLERS} callers at once"


def systems() -> list[System]:
    """Those that let callers wait; nginx, vllm-router and LiteLLM have no line (nginx sells one)."""
    settings = {"lanes": ["home"], "home": {"max_requests": SLOTS}, "clients": declared.clients(1)}
    return [
        ours.system(OURS, lambda: declared.declared(**settings), HOME, lanes=(HOME,)),
        plain_caddy.system(SLOTS),
        haproxy.system(max_requests=SLOTS),
    ]


def run(stage: Stage) -> list[Section]:
    """The table."""
    found = Rounds()
    chosen = stage.there(systems())
    for turn in range(1 if stage.scale.quick else 2):
        for system in [*chosen[turn:], *chosen[:turn]]:
            with stage.up(system) as running:
                for load in (BUSY, FULL):
                    for name, value in _measure(stage, system, running, load).items():
                        found.add(f"{system.name}, {load}", name, value, turn)
            stage.say(f"round {turn + 1}: {system.name}")
    return [_section(found, [system.name for system in chosen])]


def services(count: int) -> list[float]:
    """The same for every system, seconds."""
    source = random.Random(17)
    return [min(5 * SERVICE_S, max(SERVICE_S / 20, source.expovariate(1 / SERVICE_S))) for _ in range(count)]


def _measure(stage: Stage, system: System, running: Running, load: str) -> dict[str, float]:
    share = 0.95 if load == BUSY else 1.0
    wanted = services(int(share * CAPACITY * stage.scale.line_s))
    source, at = random.Random(29), 0.0
    jobs: list[dict[str, Any]] = []
    for service in wanted:
        at += source.expovariate(share * CAPACITY)
        jobs.append({"at": at, "body": body(300, seed=round(service * 1000)).decode()})
    steer("seen")
    callers = 0 if load == BUSY else CALLERS
    seen = stage.jobs(running, jobs, callers=callers, patience_s=stage.scale.line_s + 60.0)
    lane = HOME if system.ours else VM
    behind = steer("seen")
    return judged(seen, behind["log"], behind["most"][lane.name], callers)


def judged(seen: dict[str, Any], log: list[list[Any]], most: int, callers: int) -> dict[str, float]:
    """Figures of one run: `seen` by the callers, `log` and `most` by the backend."""
    slot = {rid: (begun, ended) for _, rid, begun, ended in log}
    whole = [
        (job, slot[f"job-{n:06d}"]) for n, job in enumerate(seen["jobs"]) if job[3] == 200 and f"job-{n:06d}" in slot
    ]
    took = [job[2] - job[0] for job, _ in whole]
    requests = [Served(job[0], begun, ended) for job, (begun, ended) in whole]
    requests.sort(key=lambda one: one.sent)
    times = [one.service_s for one in requests]
    fair = (
        first_come_by_callers(times, callers, SLOTS)
        if callers
        else first_come([r.sent for r in requests], times, SLOTS)
    )
    longest, share = idle(requests, SLOTS)
    return {
        "p50": percentile(took, 50),
        "p99": percentile(took, 99),
        "fair p50": percentile(fair, 50),
        "fair p99": percentile(fair, 99),
        "times": percentile(took, 99) / percentile(fair, 99),
        "overtaken": max(overtaken(requests), default=0),
        "most": most,
        "idle ms": longest * 1000,
        "idle": share,
        "lost": len(seen["jobs"]) - len(whole),
    }


def _section(found: Rounds, names: list[str]) -> Section:
    keys = [f"{name}, {load}" for load in (BUSY, FULL) for name in names]
    rows = [
        [
            key,
            *(number(found.median(key, name)) for name in ("p50", "p99", "fair p99", "times")),
            *(number(found.most(key, name)) for name in ("overtaken", "most", "idle ms")),
            f"{found.median(key, 'idle'):.1%}",
            number(found.most(key, "lost")),
        ]
        for key in keys
    ]
    busy, full = f"{OURS}, {BUSY}", f"{OURS}, {FULL}"
    goals = [Goal(f"the line at {BUSY}: p99 by first come, first served", found.median(busy, "times"), 2)]
    for key, load in ((busy, BUSY), (full, FULL)):
        goals += [
            Goal(f"the line at {load}: overtaken by at most", found.most(key, "overtaken"), 10),
            Goal(f"the line at {load}: most at once in {SLOTS} slots", found.most(key, "most"), SLOTS),
            Goal(f"the line at {load}: a slot is free while one waits", found.most(key, "idle ms"), 100, unit=" ms"),
        ]
    header = ["system, load", "p50, s", "p99, s", "fair p99, s", "p99 by fair", "overtaken by", "most at once"]
    return Section(
        "line",
        f"{SLOTS} slots, requests of {SERVICE_S * 1000:.0f} ms on the average (exponential): arrivals at random with "
        + f"95 % of what the slots can do, and {CALLERS} callers who ask again at once. *Fair* is first come, first "
        + "served, computed for the same arrivals and the times that the backend took.",
        [*header, "slot free while one waits, ms", "of slot time", "lost"],
        rows,
        [
            "Overtaking, slots and idle time are the rounds' worst. nginx (without its paid part), vllm-router and "
            + "LiteLLM have no line: they send on whatever comes."
        ],
        goals,
        bars(
            "More callers than slots: the 99th percentile",
            "as a multiple of first come, first served; the mark is the goal",
            [
                Bar(key, found.median(key, "times"), key.startswith(OURS), 2 if key == busy else math.nan)
                for key in keys
            ],
        ),
    )
