"""What tests share: waiting, an event loop beside the test, and Caddy's configuration as a secret holds it.

Owns: how long a condition is waited for. Does not own: ports (`lab.run.ports`), what runs.
"""

import asyncio
import base64
import bz2
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

WAIT_S = 30.0
"""For a condition to come true, seconds. Generous, for a busy machine: only a test that fails takes so long.

The tests that must fail make it shorter."""
POLL_S: Final = 0.02
DEADLINE_S: Final = 60.0
"""The same for one in a loop of its own; a whole scenario there has twice as long."""


def happens(true: Callable[[], object], seconds: float | None = None) -> bool:
    """Whether the condition comes true in time, `WAIT_S` if none is given."""
    deadline = time.monotonic() + (WAIT_S if seconds is None else seconds)
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def until(true: Callable[[], object], told: str = "", seconds: float | None = None) -> None:
    """Waits for a condition; `told`: what was not seen if it never comes true, where the call doesn't say it."""
    assert happens(true, seconds), f"it never happened: {told}"


async def eventually(true: Callable[[], bool]) -> None:
    """Until the condition is true, in the test's own loop; raises `TimeoutError`."""
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.005)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """A scenario in a loop of its own."""

    async def bounded() -> None:
        async with asyncio.timeout(2 * DEADLINE_S):
            await scenario
        # Closed sockets want one more turn of the loop; aiohttp's own advice for a clean end.
        await asyncio.sleep(0.05)

    asyncio.run(bounded())


def packed(text: str) -> str:
    """A text as `secretData` holds Caddy's configuration."""
    return base64.b64encode(bz2.compress(text.encode())).decode()


def unpacked(secret_data: str) -> str:
    """Caddy's configuration in its secret's `secretData`."""
    return bz2.decompress(base64.b64decode(secret_data)).decode()


@contextlib.contextmanager
def loop_beside() -> Generator[asyncio.AbstractEventLoop]:
    """An event loop in a thread. At the end its tasks are cancelled and awaited, and what it held is closed."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(end_tasks(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def close(server: asyncio.Server) -> None:
    """Stops listening. Who is just being accepted gets his connection first: asyncio would leave his socket open."""
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    for _ in range(3):
        await asyncio.sleep(0)
    server.close()


async def end_tasks() -> None:
    """Cancels what runs until nothing is left: a connection that is just accepted begins a task of its own."""
    here = asyncio.current_task()
    while True:
        rest = asyncio.all_tasks() - {here}
        # One that is cancelled before its first step can't close anything.
        await asyncio.sleep(0)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        # A closed transport closes its socket in the loop's next rounds.
        await asyncio.sleep(0.05)
        if not asyncio.all_tasks() - {here}:
            return
