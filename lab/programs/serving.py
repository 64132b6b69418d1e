"""HTTP for the programs that speak it: serving until SIGTERM."""

import asyncio
import logging
from typing import Any

from aiohttp import web

_DRAIN_SECONDS = 0.5
"""How long open answers may go on after SIGTERM; the lab expects the process gone within 2 s."""


async def serve_http(
    app: web.Application, host: str, port: int, stop: asyncio.Event, *, idle_s: float | None = None
) -> None:
    """Serve `app` until `stop` is set. One who goes away cancels his handler; who idles for `idle_s` is cut off."""
    idle: dict[str, Any] = {} if idle_s is None else {"keepalive_timeout": idle_s}
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_DRAIN_SECONDS, **idle)
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        logging.getLogger("http").info("listening on %s:%d", host, port)
        await stop.wait()
    finally:
        await runner.cleanup()
