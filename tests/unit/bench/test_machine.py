"""What a machine has: processors and cores as Linux tells them, and room enough or not."""

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.vm import machine

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: {}
model name\t: AMD EPYC
"""
GIB = machine.GIB


@pytest.mark.parametrize(("model", "kind"), [(1, True), (17, False)])
def test_the_processor_is_named_and_compared(model: int, kind: bool) -> None:
    found = machine.cpu_of(CPUINFO.format(model))
    assert str(found) == f"AMD EPYC (AuthenticAMD, family 25, model {model})"
    assert found.is_reference_kind is kind


def test_another_architecture_is_refused() -> None:
    with pytest.raises(BenchError, match=r"processor: .* no x86 machine; .*Run it on an x86"):
        machine.cpu_of("processor\t: 0\nCPU implementer\t: 0x41\n")


@pytest.mark.parametrize(
    ("siblings", "cores"),
    [
        ({0: "0\n", 1: "1\n"}, [0, 1]),
        ({0: "0-1\n", 1: "0-1\n", 2: "2-3\n", 3: "2-3\n"}, [0, 2]),
        ({0: "0,2\n", 1: "1,3\n", 2: "0,2\n", 3: "1,3\n"}, [0, 1]),
        ({3: "2-3\n"}, [3]),
    ],
)
def test_a_core_counts_once(siblings: dict[int, str], cores: list[int]) -> None:
    assert machine.cores_of(siblings) == cores


def test_free_memory_is_read() -> None:
    assert machine.available_memory("MemTotal:  99 kB\nMemAvailable:   12582912 kB\nBuffers: 1 kB\n") == 12 * GIB


@pytest.mark.parametrize(
    ("memory", "disk", "told"),
    [
        (10 * GIB, 99 * GIB, r"memory: 10\.0 GiB are free, 11 are needed; .* say nothing\. End other programs, or"),
        (20 * GIB, 5 * GIB, r"disk: 5\.0 GiB are free under \S+, .* take 5\.2; .* fill the disk\. Free some, or"),
    ],
)
def test_a_machine_without_room_is_refused(memory: int, disk: int, told: str) -> None:
    with pytest.raises(BenchError, match=told):
        machine.require(memory, disk, 5 * GIB, Path("/somewhere"))


def test_room_enough_is_enough() -> None:
    machine.require(11 * GIB, 6 * GIB, 5 * GIB, Path("/somewhere"))
    machine.require(11 * GIB, 0, 0, Path("/somewhere"))
