"""docs/walk.md: a newcomer's steps, and the blocks of the sections that each leads to.

Owns: reading the page. Does not own: running the blocks (`test_blocks` with a lab, `tests.engine.test_walk` with
Pulumi).
"""

import re
from pathlib import Path
from typing import Final

from lab.read.stack import ROOT
from tests.docs.blocks import Block, section

WALK: Final = ROOT / "docs" / "walk.md"
STEPS: Final = ("Try", "Deploy", "Add home", "Add a client", "Watch", "Rotate", "Upgrade", "Take down")


def steps(page: Path = WALK) -> dict[str, list[list[Block]]]:
    """By step, in the page's order: the blocks of each section."""
    rows = re.findall(r"^\| \d\. ([^|]+) \| ([^|]+) \|", page.read_text(), re.MULTILINE)
    return {
        step: [section((page.parent / path).resolve(), anchor) for path, anchor in _targets(sections)]
        for step, sections in rows
    }


def _targets(text: str) -> list[tuple[str, str]]:
    return re.findall(r"\]\(([^)#]+)#([^)]+)\)", text)
