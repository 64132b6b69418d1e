"""A thousand streams at once: how soon each begins, whether it stands still, what a chunk and a stream cost.

Owns: the rows, the load, the goals about them. Does not own: the systems, the arithmetic over rounds (`statistics`).
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.goals import Goal, number
from bench.plots import Bar, bars
from bench.processes import Process
from bench.results import Section
from bench.stage import Stage, body
from bench.statistics import Rounds, percentile
from bench.systems import direct, haproxy, litellm, nginx, ours, plain_caddy, vllm_router
from bench.systems.system import Running, System

PAUSE_MS: Final = 50
"""Between two chunks: as fast as people like to read, and as fast as this load can send to a thousand."""
RAMP_S: Final = 1.0
"""In which all streams begin."""
WHOLE, SOME, FEW = 1000, 500, 100
"""The VM lane has 512 slots at most (64 x 8 machines); LiteLLM gets what it can bear."""
KIB: Final = 1024


@dataclass(frozen=True)
class Row:
    """A system with so many streams."""

    system: System
    streams: int

    @property
    def name(self) -> str:
        return f"{self.system.name}, {self.streams:,}"


def rows() -> list[Row]:
    """In the order of the table."""
    everybody = [direct.SYSTEM, haproxy.system(), nginx.system(), vllm_router.system(), plain_caddy.system()]
    return [
        *(Row(system, WHOLE) for system in everybody),
        Row(ours.home("ours, home lane"), WHOLE),
        Row(plain_caddy.system(), SOME),
        Row(ours.vm("ours, VM lane"), SOME),
        Row(litellm.system(), FEW),
    ]


def run(stage: Stage) -> list[Section]:
    """The table."""
    found = Rounds()
    chosen = [row for row in rows() if not stage.why_not(row.system)]
    judged_by = [row for row in chosen if row.system.ours or row.system.name in ("direct", "plain Caddy")]
    if stage.scale.quick:
        chosen = judged_by
    for turn in range(1 if stage.scale.quick else 2):
        # Who has no goal is measured once.
        for row in judged_by[::-1] if turn else chosen:
            with stage.up(row.system) as running:
                for name, value in _measure(stage, running, row.streams).items():
                    found.add(row.name, name, value, turn)
            first, stalls = found.median(row.name, "first p50"), found.median(row.name, "stalls")
            stage.say(f"round {turn + 1}: {row.name} streams: first chunk {first:.0f} ms, {stalls:.0f} stalls")
    return [_section(found, [row.name for row in chosen], stage.scale.streams_s)]


def _measure(stage: Stage, running: Running, streams: int) -> dict[str, float]:
    chunks = int(stage.scale.streams_s * 1000 / PAUSE_MS)
    stage.closed(running, 4, body(100), 0.3)  # warm up
    empty = running.memory()
    jobs = [
        {"at": RAMP_S * number / streams, "body": body(300, stream=True, max_tokens=chunks, seed=PAUSE_MS).decode()}
        for number in range(streams)
    ]
    marks: list[tuple[float, float, float]] = []
    full = 0

    def watch(generator: Process) -> None:
        nonlocal full
        for pause in (RAMP_S + 1.0, stage.scale.streams_s - RAMP_S - 1.5):
            time.sleep(max(0.1, pause))
            load = stage.backend.cpu_s() + generator.cpu_s()
            marks.append((time.monotonic(), running.cpu_s(), load))
        full = running.memory()

    seen = stage.jobs(running, jobs, patience_s=stage.scale.streams_s + 15.0, meanwhile=watch)
    return judged(seen, streams, chunks, marks) | {"memory": (full - empty) / streams / KIB}


def judged(
    seen: dict[str, Any], streams: int, chunks: int, marks: Sequence[tuple[float, float, float]]
) -> dict[str, float]:
    """Figures of one run. `marks`: clock, the system's processor time and the load's, at two moments of the run."""
    whole = [job for job in seen["jobs"] if job[3] == 200]
    first = [(job[1] - job[0]) * 1000 for job in seen["jobs"] if job[1]]
    (begin, cpu, load), (end, cpu_then, load_then) = marks
    seconds = {int(second): count for second, count in seen["chunks"].items()}
    inside = [s for s in seconds if begin <= seen["begun"] + s and seen["begun"] + s + 1 <= end]
    rate = sum(seconds[s] for s in inside) / len(inside) if inside else float("nan")
    return {
        "first p50": percentile(first, 50),
        "first p99": percentile(first, 99),
        "stalls": sum(job[5] for job in seen["jobs"]),
        # Head, chunks and [DONE].
        "lost": streams - sum(job[6] >= chunks for job in whole),
        "cpu": (cpu_then - cpu) / (end - begin) / rate * 1e6,
        "rate": rate,
        "load": (load_then - load) / (end - begin),
    }


def _section(found: Rounds, names: Sequence[str], streams_s: float) -> Section:
    table = [
        [
            name,
            number(found.median(name, "first p50")),
            number(found.median(name, "first p99")),
            number(found.median(name, "stalls")),
            number(found.median(name, "lost")),
            *(["-", "-"] if name.startswith("direct") else
              [number(found.median(name, "cpu")), number(found.median(name, "memory"))]),
            f"{found.median(name, 'load'):.0%}",
        ]
        for name in names
    ]  # fmt: skip
    pairs = [("ours, home lane, 1,000", "plain Caddy, 1,000"), ("ours, VM lane, 500", "plain Caddy, 500")]
    goals = [
        goal
        for name, plain in pairs
        for goal in (
            Goal(f"{name} streams: first chunk p50 by plain Caddy's", found.ratio(name, plain, "first p50"), 2),
            Goal(f"{name} streams: memory a stream by plain Caddy's", found.ratio(name, plain, "memory"), 1.2),
            Goal(f"{name} streams: stalls that plain Caddy doesn't have",
                 max(0.0, found.median(name, "stalls") - found.median(plain, "stalls")), 0),
        )
    ]  # fmt: skip
    return Section(
        "streams",
        f"Streams of {1000 // PAUSE_MS} chunks a second for {streams_s:.0f} s, all begun within {RAMP_S:.0f} s. "
        + "A stall is a gap of more than 250 ms; lost is a stream that did not come whole.",
        ["system, streams", "first chunk p50, ms", "p99, ms", "stalls", "lost", "µs of CPU a chunk", "KiB a stream",
         "load's core busy"],
        table,
        ["Where the load's core is busy by more than 90 %, the load itself is late, and times are bounds. Ours, plain "
         + "Caddy and direct are medians of two rounds."],
        goals,
        bars("First chunk of many streams that begin at once", "median, ms; the mark is twice plain Caddy's", [
            Bar(name, found.median(name, "first p50"), name.startswith("ours"),
                2 * found.median(dict(pairs)[name], "first p50") if name in dict(pairs) else math.nan)
            for name in names if not name.startswith(("direct", "LiteLLM"))
        ]),
    )  # fmt: skip
