"""The gateway as a stack declares it: rendered by the program, read by the lab, and nothing written a second time.

Owns: the settings that are measured. Does not own: how the gateway is started (`ours`).
"""

import functools
import json
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from bench.errors import BenchError
from bench.systems.system import BURST, VM
from lab.read import cloud_run, plan
from lab.read.cloud import Cloud
from lab.read.plan import Plan
from lab.read.stack import Resource, config_of, render

BURST_URL: Final = f"https://{BURST.host}:{BURST.port + 1}"
"""With TLS, as Cloud Run's address has it; `ours` puts a front there."""
INSTANT: Final = {"prompt": 100_000.0, "picture": 100_000.0, "answer": 100_000.0}
"""The VM's speed, tokens a second, as the backend is: else the pilot lets callers wait whom so slow a machine could not
begin to answer within `timeout_s`."""
SLOTS: Final[Mapping[str, Any]] = {
    # As many as fit: no request of a speed table may wait for a slot.
    "home": {"max_requests": 1000},
    "burst": {"max_requests": 256},
    "vm": {"machine_type": "t2d-standard-8", "max_requests": 64, "replicas": 8},
    # Else 64 slots don't fit the machine.
    "model": {"context_tokens": 2048},
}
ON_VM: Final = {**SLOTS, "vm": {**SLOTS["vm"], "speed": INSTANT}}
"""The same where the VM is to answer. Elsewhere it is as slow as its machine, and never sooner than home or burst."""


@functools.cache
def _renderer() -> ProcessPoolExecutor:
    """A process of its own: gRPC, which Pulumi brings along, leaves threads behind that no fork likes."""
    return ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn"))


def rendered(settings: Mapping[str, Any]) -> tuple[Plan, float]:
    """The plan of the stack `dev` with these settings, and the seconds that it took; raises what the program raises."""
    cloud = Cloud(port=0)

    def compute(token: str, inputs: dict[str, Any], before: Sequence[Resource] = ()) -> dict[str, Any]:
        if token == cloud_run.SERVICE and cloud_run.has_gpu(inputs):
            return {"uri": BURST_URL}
        return cloud.compute(token, inputs, before)

    given = {f"pilotlight:{key}": json.dumps(value) for key, value in settings.items()}
    config = {**cloud.config(), **config_of("dev"), **given}
    begun = time.monotonic()
    try:
        found = plan.read(render("dev", config, compute))
    except Exception as error:
        # Pulumi's own errors can't be sent to another process.
        raise BenchError(str(error)) from None
    return found, time.monotonic() - begun


def in_own_process(settings: Mapping[str, Any]) -> tuple[Plan, float]:
    """`rendered`, by a process that has rendered before."""
    return _renderer().submit(rendered, settings).result()


@functools.cache
def _known(settings: str) -> Plan:
    return in_own_process(json.loads(settings))[0]


def declared(**settings: Any) -> Plan:
    """The plan of the stack `dev` with these settings; the same one for the same settings."""
    found = _known(json.dumps(settings, sort_keys=True))
    assert found.vm is None or found.vm.address == VM.host, "the VM's address is the backend's"
    return found


def clients(count: int) -> list[dict[str, str]]:
    """So many, the asking one last."""
    return [{"name": f"client-{number:03d}"} for number in range(count - 1)] + [{"name": "bench"}]


def services(count: int) -> list[dict[str, Any]]:
    """The model, and so many services of other kinds beside it."""
    other = {"image": "docker.io/example/server:1.0.0", "slices": 0, "cpus": 0.1, "memory_gib": 1}
    return [
        {"name": "vllm", "preset": "model"},
        *({**other, "name": f"s{n:02d}", "model": f"m{n:02d}", "paths": [f"/v1/s{n:02d}"]} for n in range(count)),
    ]
