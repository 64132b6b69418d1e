"""The pilot's decisions have neither clock nor I/O: their modules can't get at any."""

import ast

import pytest

from components.gateway.pilot_container import PACKAGE
from tests.unit.gateway.pilot.histories import DECISIONS

HARMLESS = {"collections", "dataclasses", "enum", "math", "re", "typing"}
READS_THE_ENVIRONMENT = "environment"
"""Looks whether a folder exists; decides nothing."""


def out_of_bounds(text: str) -> set[str]:
    """What a module imports that could bring a clock or I/O."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names} - HARMLESS
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} - ({*DECISIONS} if node.level else HARMLESS | {"collections.abc"})
    return found


@pytest.mark.parametrize("name", sorted({*DECISIONS} - {READS_THE_ENVIRONMENT}))
def test_decisions_import_neither_clock_nor_io(name: str) -> None:
    assert out_of_bounds((PACKAGE / f"{name}.py").read_text()) == set()


@pytest.mark.parametrize("line", ["import time", "from time import monotonic", "from .net import fetch"])
def test_a_clock_or_io_is_seen(line: str) -> None:
    assert out_of_bounds(f"def late() -> None:\n    {line}\n")
