"""The VM's own metrics, asked while requests run there.

Owns: asking. Does not own: what the numbers mean (`prompts`), whether the VM is up (`checks`).
"""

import asyncio
import contextlib
from typing import Final

from .environment import Settings, address
from .net import FAILURES, fetch
from .prompts import Prompts, prompts

METRICS_S: Final = 1.5
"""Longest wait for them. llama.cpp answers between two batches, and a busy one late or never: that changes nothing."""


class Vm:
    """The VM's model server."""

    def __init__(self, settings: Settings) -> None:
        self._dial, self._declared = settings.dials["vm"], settings.vm_prompt
        self._prompts = Prompts()

    @property
    def correction(self) -> float:
        """How many times as long as declared it takes."""
        return self._prompts.correction(*self._declared) if self._declared else 1.0

    async def look(self) -> None:
        """Once."""
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(METRICS_S):
                connection = asyncio.open_connection(*address(self._dial))
                status, text = await fetch(connection, self._dial, "/metrics", {})
            if status == 200:
                self._prompts = prompts(self._prompts, text)
