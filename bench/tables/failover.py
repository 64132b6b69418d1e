"""The first lane breaks under load: how many requests are lost, and how much later the others are.

Owns: the faults, the rows. Does not own: the backend's side of a fault (`load.backend`).
"""

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

from bench.processes import Process
from bench.results import Section
from bench.stage import Stage, body
from bench.statistics import percentile
from bench.systems import declared, haproxy, litellm, nginx, ours, vllm_router
from bench.systems.system import HOME, VM, Running, System, steer
from lab.run.ports import BlackHole

BEFORE_S: Final = 2.0
RATE: Final = 10
"""Requests a second: what LiteLLM bears on one core."""
PATIENCE_S: Final = 10.0
"""After the last request was sent; who has no answer by then is lost."""


@dataclass(frozen=True)
class Fault:
    """What happens to the first lane."""

    name: str
    service_ms: int
    """Time of a request: long ones are under way when it happens."""
    strike: Callable[[], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def _refused() -> Generator[None]:
    steer("close", HOME)
    yield
    steer("open", HOME)


@contextlib.contextmanager
def _black_holed() -> Generator[None]:
    """What is open stands still, and new packets vanish."""
    steer("freeze", HOME)
    hole = BlackHole(HOME.host, HOME.port)
    yield
    hole.close()
    steer("open", HOME)


@contextlib.contextmanager
def _mute() -> Generator[None]:
    """Its health is fine, and no answer comes."""
    steer("mute", HOME)
    yield
    steer("open", HOME)


FAULTS: Final = (
    Fault("refused", 0, _refused),
    Fault("killed mid-load", 500, _refused),
    Fault("black-holed", 0, _black_holed),
    Fault("mute", 0, _mute),
)


def systems() -> list[System]:
    """Those that claim it, in front of the same two lanes; plain Caddy as it is has no second one."""
    lanes = (HOME, VM)
    settings = {"clients": declared.clients(1), "vm": {"machine_type": "t2d-standard-8", "max_requests": 8},
                "model": {"context_tokens": 4096}}  # fmt: skip
    return [
        ours.system("ours", lambda: declared.declared(**settings), HOME, lanes=lanes, real_tunnel=True),
        haproxy.system(lanes),
        nginx.system(lanes),
        vllm_router.system(lanes),
        litellm.system(lanes),
    ]


def run(stage: Stage) -> list[Section]:
    """The table."""
    rows: list[list[str]] = []
    faults = FAULTS[:2] if stage.scale.quick else FAULTS
    for system in stage.there(systems())[: 2 if stage.scale.quick else None]:
        cells: list[str] = []
        for fault in faults:
            with stage.up(system) as running:
                cells.append(told(*_measure(stage, running, fault)))
            stage.say(f"{system.name}: {fault.name}: {cells[-1]}")
        rows.append([system.name, *cells])
    return [Section(
        "failover",
        f"Two lanes, {RATE} requests a second for {BEFORE_S + stage.scale.fault_s:.0f} s; after {BEFORE_S:.0f} s the "
        + "first lane stops listening (*refused*: requests are answered at once; *killed mid-load*: they take half a "
        + "second, so some are under way), its packets vanish, or it takes requests and answers none. Lost is what got "
        + f"no 200 within {PATIENCE_S:.0f} s of the last request; added is how much later than before.",
        ["system", *(fault.name for fault in faults)], rows,
        ["vllm-router sends to both lanes in turn, so half of its requests never meet the fault. LiteLLM has the VM "
         + "as a fallback; HAProxy and nginx have it as a backup, with retries."],
    )]  # fmt: skip


def _measure(stage: Stage, running: Running, fault: Fault) -> tuple[list[list[Any]], list[list[Any]]]:
    """Jobs before and after the fault."""
    whole = BEFORE_S + stage.scale.fault_s
    fields = {"seed": fault.service_ms} if fault.service_ms else {}
    payload = body(300, **fields).decode()
    jobs = [{"at": number / RATE, "body": payload} for number in range(int(whole * RATE))]
    struck = 0.0
    with contextlib.ExitStack() as stack:

        def strike(_: Process) -> None:
            nonlocal struck
            time.sleep(BEFORE_S)
            struck = time.monotonic()
            stack.enter_context(fault.strike())

        seen = stage.jobs(running, jobs, patience_s=PATIENCE_S, meanwhile=strike)["jobs"]
    # Who was under way when it happened counts as after.
    before = [job for job in seen if job[3] == 200 and job[2] < struck]
    return before, [job for job in seen if job not in before]


def told(before: list[list[Any]], after: list[list[Any]]) -> str:
    """A cell."""
    usual = percentile([job[2] - job[0] for job in before], 50)
    late = [job[2] - job[0] - usual for job in after if job[3] == 200]
    lost = len(after) - len(late)
    times = f"+{_s(percentile(late, 50))}, worst +{_s(max(late))}" if late else "nobody served"
    return f"{'**' if lost else ''}{lost} of {len(after)} lost{'**' if lost else ''}; {times}"


def _s(seconds: float) -> str:
    return f"{max(0.0, seconds) * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
