"""The stage of a run: the backend, one system at a time in front of it, and a load on it.

Owns: which core is whose, starting a system until it answers as it should, running a generator. Does not own: systems
(`systems`), generators (`load`), what is asked and judged (`tables`).
"""

import contextlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.load import wrk
from bench.processes import Process, environment, started, until
from bench.systems.system import LANES, MODEL, OTHER, PATH, Place, Running, System, ask, steer
from lab.run.ports import free_port


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    seconds: float
    """Of one load."""
    pairs: int
    """Of the question what a feature costs."""
    streams_s: float
    line_s: float
    fault_s: float
    """Of a load after a fault."""
    starts: int
    quick: bool = False


WHOLE = Scale(rounds=3, seconds=2.5, pairs=4, streams_s=8.0, line_s=12.0, fault_s=6.0, starts=3)
QUICK = Scale(rounds=1, seconds=0.8, pairs=1, streams_s=4.0, line_s=4.0, fault_s=3.0, starts=1, quick=True)
SMOKE = Scale(rounds=1, seconds=0.2, pairs=1, streams_s=2.0, line_s=1.0, fault_s=1.0, starts=1, quick=True)


@dataclass(frozen=True)
class Loaded:
    """What a closed loop brought."""

    latencies: Sequence[float]
    """Of whole answers, seconds; none of a load that tells a rate only."""
    answered: int
    failed: int
    took_s: float
    cpu_s: float
    """Of the system."""
    load_cpu_s: float
    """Of the generator and the backend."""

    @property
    def rate(self) -> float:
        return self.answered / self.took_s

    @property
    def cpu_us(self) -> float:
        """A request."""
        return self.cpu_s / self.answered * 1e6 if self.answered else float("nan")


Meanwhile = Callable[[Process], None]
"""What is done while the generator, the process, runs."""


class Stage:
    """Where everything runs."""

    def __init__(self, folder: Path, scale: Scale, say: Callable[[str], None]) -> None:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise BenchError("two cores are needed, one for the measured system and one for the load; here is one")
        self.core, self.load_core = cores[-1], cores[0]
        self.folder, self.scale, self.say = folder, scale, say
        self.backend: Process
        self._count = 0

    @contextlib.contextmanager
    def open(self) -> Generator[None]:
        """The backend, and this process on the load's core."""
        os.sched_setaffinity(0, {self.load_core})
        # A thousand streams are two thousand sockets of a proxy's.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        with contextlib.ExitStack() as stack:
            self.backend = stack.enter_context(self.serve())
            yield

    def there(self, systems: Iterable[System]) -> list[System]:
        """Those that can be measured in a run of this scale."""
        return [system for system in systems if not self.why_not(system)]

    def why_not(self, system: System) -> str:
        """Why a system is left out; empty: it isn't."""
        return system.missing or ("it starts too slowly for a quick run" if system.slow and self.scale.quick else "")

    @contextlib.contextmanager
    def serve(self) -> Generator[Process]:
        """All model servers."""
        command = [sys.executable, "-m", "bench.load.backend", *(f"{lane.name}={lane.address}" for lane in LANES)]
        with started("backend", command, self.load_core, self.folder) as process:
            until(lambda: ask(OTHER.address, {}, method="GET", path="/health") == 200, "the backend", 20.0, [process])
            yield process

    @contextlib.contextmanager
    def up(self, system: System) -> Generator[Running]:
        """The system, answering as it should; the lanes that it must not use are closed meanwhile."""
        system.prepare()
        closed = [lane for lane in LANES if system.ours and lane not in (*system.lanes, OTHER)]
        self._count += 1
        folder = self.folder / f"{self._count:03d}"
        folder.mkdir()
        for lane in closed:
            steer("close", lane)
        try:
            with system.start(Place(self.core, self.load_core, folder, free_port())) as running:
                ready = None if system.ready_by_status else running.ready
                until(ready or (lambda: self.answers(running)), system.name, system.start_s, running.processes)
                yield running
        finally:
            for lane in closed:
                steer("open", lane)
            # The access log of a minute is some 100 MB.
            shutil.rmtree(folder, ignore_errors=True)

    def answers(self, running: Running) -> bool:
        return ask(running.address, self.headers(running), body=body(20)) == 200

    @staticmethod
    def headers(running: Running) -> dict[str, str]:
        return {**running.headers, "Content-Type": "application/json"}

    def closed(self, running: Running, connections: int, payload: bytes, seconds: float | None = None) -> Loaded:
        """As many requests as `connections` callers get answered."""
        file = self.folder / "request"
        file.write_bytes(request(self.headers(running), payload))
        cpu, load_cpu = running.cpu_s(), self.backend.cpu_s()
        arguments = [running.address, str(connections), str(seconds or self.scale.seconds), str(file)]
        found, own_cpu = self._generate("bench.load.closed", arguments)
        return Loaded(
            found["latencies"], len(found["latencies"]), found["failed"], found["took"],
            running.cpu_s() - cpu, self.backend.cpu_s() - load_cpu + own_cpu,
        )  # fmt: skip

    def rate(self, running: Running, connections: int, payload: bytes, seconds: float | None = None) -> Loaded:
        """The same without latencies, by the quickest generator there is."""
        if not wrk.PROGRAM:
            return self.closed(running, connections, payload, seconds)
        script, output = self.folder / "request.lua", self.folder / "wrk.log"
        script.write_text(wrk.script(self.headers(running), payload))
        output.unlink(missing_ok=True)
        # Whole seconds are all that it takes.
        asked = f"{max(1, round(seconds or self.scale.seconds))}s"
        command = [
            wrk.PROGRAM,
            "-t1",
            f"-c{connections}",
            f"-d{asked}",
            "-s",
            str(script),
            f"http://{running.address}{PATH}",
        ]
        cpu, load_cpu, own = running.cpu_s(), self.backend.cpu_s(), _children_s()
        Process("wrk", command, environment(), self.load_core, output).handle.wait(120.0)
        try:
            answered, failed, took = wrk.read(output.read_text())
        except ValueError as error:
            raise BenchError(f"wrk: {error}") from error
        load = self.backend.cpu_s() - load_cpu + _children_s() - own
        return Loaded((), answered, failed, took, running.cpu_s() - cpu, load)

    def jobs(
        self, running: Running, jobs: Sequence[Mapping[str, Any]], *, callers: int = 0, patience_s: float = 30.0,
        meanwhile: Meanwhile | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Jobs at their times, or by so many callers; `meanwhile` runs beside them. `load.jobs` has the form."""
        file = self.folder / "jobs.json"
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers(running).items())
        head = f"POST {PATH} HTTP/1.1\r\nHost: bench\r\n{head}"
        file.write_text(json.dumps({"head": head, "jobs": jobs, "callers": callers, "patience_s": patience_s}))
        return self._generate("bench.load.jobs", [running.address, str(file)], meanwhile)[0]

    def _generate(
        self, module: str, arguments: Sequence[str], meanwhile: Meanwhile | None = None
    ) -> tuple[dict[str, Any], float]:
        """What a generator prints, and its processor time."""
        output = self.folder / "generated.json"
        output.unlink(missing_ok=True)
        process = Process(module, [sys.executable, "-m", module, *arguments], environment(), self.load_core, output)
        before = _children_s()
        try:
            if meanwhile:
                meanwhile(process)
            process.handle.wait(600.0)
        finally:
            process.kill()
        try:
            return json.loads(output.read_text()), _children_s() - before
        except ValueError as error:
            raise BenchError(f"{module} {' '.join(arguments)}: {output.read_text()[-2000:]}") from error


def _children_s() -> float:
    """Processor time of the generators that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def request(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A whole request."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {PATH} HTTP/1.1\r\nHost: bench\r\n{lines}Content-Length: {len(payload)}\r\n\r\n".encode() + payload


def body(size: int, **fields: Any) -> bytes:
    """A chat request with a message of `size` letters; `load.backend` says what the fields do."""
    document = {"model": MODEL, **fields, "messages": [{"role": "user", "content": "x" * size}]}
    return json.dumps(document, separators=(",", ":")).encode()


def picture(size: int) -> bytes:
    """A chat request with a picture of `size` bytes in base64, which nobody here looks at."""
    url = "data:image/jpeg;base64," + "/9j/4AAQSkZJRgABAQAAAQABAAD" + "A" * size
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": parts}]}).encode()


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it took."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun
