"""Local programs that stand in for container images; each runs as `python -m lab.programs.NAME`.

Owns what they share: dying with the parent, logging to stderr, serving HTTP until SIGTERM.
Does not own what any of them answers, nor which image maps to which program.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from aiohttp import web

_PR_SET_PDEATHSIG = 1
_DRAIN_SECONDS = 0.5
"""How long open answers may go on after SIGTERM; the supervisor expects the process gone within 2 s."""


def die_with_parent(sig: signal.Signals = signal.SIGTERM) -> None:
    """Ask Linux to send `sig` when the parent goes; elsewhere a supervisor that crashes leaves orphans.

    The kernel means the parent *thread* that forked: start these programs from a thread that stays.
    """
    if sys.platform != "linux":
        return
    import ctypes  # here, because the import is a tenth of containerboot's start time

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)


def log_to_stderr(program: str) -> logging.Logger:
    """Log lines as a container would: to stderr, with the program's name."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {program}: %(message)s")
    return logging.getLogger(program)


def stop_event() -> asyncio.Event:
    """Return an event which SIGTERM and SIGINT set; call it inside the running loop."""
    import asyncio

    stop = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sig, stop.set)
    return stop


async def serve_http(app: web.Application, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve `app` until `stop` is set. A client that goes away cancels its handler."""
    from aiohttp import web

    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_DRAIN_SECONDS)
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        logging.getLogger("http").info("listening on %s:%d", host, port)
        await stop.wait()
    finally:
        await runner.cleanup()
