"""What the pilot does without end: each duty on its own, so that whatever hangs holds up nothing but itself.

Owns: starting tasks and repeating duties. Does not own: what they do.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from .log import log


class Duties:
    """The tasks under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """`work` as a task that is not forgotten before it ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def every(self, pause: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`work` again and again, each `pause` seconds after the last began."""
        self.start(self._repeat(pause, work))

    async def _repeat(self, pause: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        said = ""
        while True:
            begun = time.monotonic()
            try:
                await work()
                said = ""
            except Exception as error:  # Whatever it is, the other duties and the next round must not suffer.
                if repr(error) != said:
                    log("ERROR", f"the pilot could not do one of its duties: {error!r}")
                said = repr(error)
                await asyncio.sleep(1)
            await asyncio.sleep(max(0, pause - (time.monotonic() - begun)))
