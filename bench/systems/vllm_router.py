"""vllm-router, from PyPI: vLLM's own router, in Rust. It takes its worker threads by the cores it sees: one."""

import contextlib
from collections.abc import Generator, Sequence

from bench.processes import started
from bench.systems.system import VM, Lane, Place, Running, System
from lab.read.stack import ROOT
from lab.run.ports import free_port

PROGRAM = ROOT / ".bench/python/bin/vllm-router"


def system(lanes: Sequence[Lane] = (VM,)) -> System:
    """In front of `lanes`, in turn."""

    @contextlib.contextmanager
    def start(place: Place) -> Generator[Running]:
        urls = [f"http://{lane.address}" for lane in lanes]
        options = {"--host": "127.0.0.1", "--port": place.port, "--prometheus-port": free_port()}
        options |= {"--policy": "round_robin", "--log-level": "error"}
        words = [str(word) for pair in options.items() for word in pair]
        command = [str(PROGRAM), "--worker-urls", *urls, *words]
        with started("vllm-router", command, place.core, place.folder) as process:
            yield Running(f"127.0.0.1:{place.port}", [process])

    missing = "" if PROGRAM.exists() else "PyPI's package vllm-router is not in .bench"
    return System("vllm-router", start, missing, tuple(lanes))
