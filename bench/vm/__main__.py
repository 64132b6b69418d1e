"""`python -m bench.vm`: measures the declared VM's server on this machine, and prints the figures.

Owns: the command line, the order, what is said. Does not own: any step of it (see the package).
"""

import argparse
import asyncio
import importlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pulumi

from bench.errors import BenchError
from bench.vm import client, machine, rows, server, weights
from components.machines.names import WHOLE_CORES, shape
from lab.errors import LabError
from lab.read import user_data, vm
from lab.read.cloud import Cloud
from lab.read.stack import ROOT, Stack, config_of, render

FOLDER: Final = ROOT / ".lab" / "bench-vm"
LIMIT_S: Final = 900.0
"""For one request, seconds. The slowest of the reference took 505."""
BUSY: Final = 0.5
"""Load average above which something else runs."""


@dataclass(frozen=True)
class Declared:
    """The VM as the recorded stack has it."""

    machine_type: str
    arguments: tuple[str, ...]
    """Of the server, without a path or an address that is the VM's own."""


def main() -> int:
    """Exit status: 0 measured, 1 it can't be (told in a sentence), 2 unusable arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench.vm", description="Measures the declared VM's server here.")
    parser.add_argument("--stack", default="dev", help="which Pulumi.<stack>.yaml (default: dev)")
    parser.add_argument("--all", action="store_true", help="every row; about 25 minutes at the reference's speed")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the random weights are kept")
    arguments = parser.parse_args()
    try:
        cloud = Cloud(port=0)
        stack = render(arguments.stack, {**cloud.config(), **config_of(arguments.stack)}, cloud.compute)
        run(read(stack), arguments.folder, everything=arguments.all)
    except (BenchError, LabError, pulumi.RunError) as error:
        print(f"bench-vm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def read(stack: Stack) -> Declared:
    """The declared VM, a group's by its template; raises `BenchError` for none, or one whose card does the work."""
    machines = [*stack.of_type(vm.INSTANCE), *stack.of_type(vm.TEMPLATE)]
    if len(machines) != 1:
        raise BenchError(
            f"the stack {stack.name} declares {len(machines)} kinds of VM, exactly one can be measured; nothing was "
            + "started. Name a stack with `vm` in `lanes`: --stack"
        )
    [declared] = machines
    boot = user_data.read(declared.name, declared.inputs["metadata"]["user-data"])
    if boot.cards:
        raise BenchError(
            f"the stack {stack.name} declares a VM with a card, and only processors can be measured here; nothing was "
            + "started. Name a stack without `vm.gpu`: --stack"
        )
    return Declared(declared.inputs["machineType"], boot.arguments)


def translated(declared: Sequence[str], folder: Path) -> list[str]:
    """The declared arguments that don't belong to the machine, with the random files for the declared ones."""
    found: list[str] = []
    for name, value in server.split(declared).items():
        if name in ("--model", "--mmproj"):
            filename = value.rsplit("/", 1)[-1]
            if not weights.is_known(filename):
                raise BenchError(
                    f"{'model.gguf' if name == '--model' else 'model.projector'}: the shape of {filename} is not known "
                    + "here, so the figures would be another model's. Measure a stack with the default model, or "
                    + "add the shape in bench/vm/shapes.py"
                )
            value = str(weights.path_of(folder, filename))
        if name in ("--host", "--port", "--threads", "--threads-batch"):
            continue
        found += [name, value] if value else [name]
    return found


def run(declared: Declared, folder: Path, *, everything: bool) -> None:
    """Writes what is missing, measures, prints."""
    arguments = translated(declared.arguments, folder)
    cpus = machine.cores()
    counts = sorted({count for count in (1, 2, len(cpus)) if count <= len(cpus)})
    asked = {count: rows.requests(count, counts[-1], everything=everything) for count in counts}
    _say_what_is_measured(declared, cpus, asked)
    _write_weights(declared, folder)
    before = os.getloadavg()[0]
    measured: rows.Figures = {}
    for count, requests in asked.items():
        measured |= asyncio.run(_measure(arguments, cpus[:count], requests, folder / f"server-{count}.log"))
    print(
        f"\nLoad average: {before:.2f} at the start, {os.getloadavg()[0]:.2f} at the end. Reference: {rows.REFERENCE}."
    )
    print("\n" + rows.measured_table(measured, same_kind=machine.cpu().is_reference_kind))
    told = shape(declared.machine_type)
    if told is None:
        print(f"\nHow many cores a {declared.machine_type} has isn't known here, so nothing is said about it.")
        return
    print(
        "\nThe declared machine, by its physical cores, if each is as fast as one here. Two vCPUs are one core, so\n"
        + f"one core is an e2-highmem-2; of {', '.join(WHOLE_CORES)} each vCPU is one. Rates grow and times\n"
        + "shrink in proportion to the cores. For more than were measured that is a bound: memory doesn't get faster."
    )
    print("\n" + rows.declared_table(declared.machine_type, told.cores, measured))
    if found := rows.speed(told.cores, measured):
        print("\nThe same as a setting, true only if it was measured on such a machine itself:")
        speed = ", ".join(f"{name}: {figure}" for name, figure in found.items())
        print(f"  pilotlight:vm: {{machine_type: {declared.machine_type}, speed: {{{speed}}}}}")


def _say_what_is_measured(declared: Declared, cpus: Sequence[int], asked: dict[int, list[rows.Request]]) -> None:
    here = machine.cpu()
    library: Any = importlib.import_module("xllamacpp")
    print(f"{here}, {len(cpus)} cores seen; load average {os.getloadavg()[0]:.2f}")
    if os.getloadavg()[0] > BUSY:
        print("Other programs keep this machine busy: rates will be too low, and times too long.")
    if not here.is_reference_kind:
        print("The reference is of another kind of processor: ratios compare the two, they don't check the measuring.")
    print(f"Declared: {declared.machine_type}, {' '.join(declared.arguments)}")
    given = server.split(declared.arguments)
    replaced = [f"{name} ({server.REPLACED[name]})" for name in given if name in server.REPLACED]
    print(f"Replaced here: {', '.join(replaced)}")
    print(
        f"Set here: a thread for each core, as llama.cpp counts by itself; log level {server.VERBOSITY}, for pictures"
    )
    print(f"xllamacpp {library.__version__}, built with {_features(library.get_system_info())}; the official image")
    print("chooses its code by the processor, and may be faster on one with AVX-512 or AMX.")
    seconds = sum(rows.expected_s(request, cores) for cores, requests in asked.items() for request in requests)
    print(
        f"At the reference's speed the requests take {seconds / 60:.0f} minutes; none takes more than {LIMIT_S:.0f} s."
    )


def _features(info: str) -> str:
    return ", ".join(part.split("=")[0].strip() for part in info.partition(":")[2].split("|") if "=" in part)


def _write_weights(declared: Declared, folder: Path) -> None:
    given = server.split(declared.arguments)
    files = [given[name].rsplit("/", 1)[-1] for name in ("--model", "--mmproj") if name in given]
    missing = [name for name in files if not weights.path_of(folder, name).exists()]
    size = sum(map(weights.nbytes, missing))
    machine.require_room(folder, size)
    if not missing:
        print(f"Random weights: those in {folder}")
        return
    print(
        f"Random weights: {size / 1e9:.1f} GB into {folder}, once; about a minute, or less on a quick disk", flush=True
    )
    began = time.monotonic()
    for name in missing:
        weights.write(folder, name)
    print(f"Written in {time.monotonic() - began:.0f} s", flush=True)


async def _measure(
    arguments: Sequence[str], cpus: Sequence[int], requests: Sequence[rows.Request], log: Path
) -> rows.Figures:
    """Every row of these requests on these processors. A request beyond the limit ends them: its work would go on."""
    found: rows.Figures = {}
    async with client.started(arguments, cpus, log, LIMIT_S) as running:
        try:
            await running.warm_up()
        except TimeoutError as error:
            raise BenchError(f"the first letter took more than {LIMIT_S:.0f} s; the server's log: {log}") from error
        found["idle", len(cpus)] = running.resident_gib()
        for request in requests:
            try:
                answers = await running.answers(request)
            except TimeoutError:
                print(f"{len(cpus)} cores: {request.name}: no answer within {LIMIT_S:.0f} s; nothing more is asked")
                break
            except aiohttp.ClientError as error:
                raise BenchError(f"{request.name}: the server is gone ({error}); its log: {log}") from error
            for key, figure in request.figures(answers).items():
                found[key, len(cpus)] = figure
            told = ", ".join(f"{a.prompt_tokens} tokens of prompt, first after {a.first_s:.1f} s" for a in answers)
            print(f"{len(cpus)} core{'s' if len(cpus) > 1 else ''}: {request.name}: {told}", flush=True)
            found["used", len(cpus)] = running.resident_gib()
    return found


if __name__ == "__main__":
    sys.exit(main())
