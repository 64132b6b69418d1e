"""HTTP for the programs that speak it: serving until SIGTERM."""

import asyncio
import logging

from aiohttp import web

_DRAIN_SECONDS = 0.5
"""How long open answers may go on after SIGTERM; the lab expects the process gone within 2 s."""


async def serve_http(app: web.Application, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve `app` until `stop` is set. A client that goes away cancels its handler."""
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_DRAIN_SECONDS)
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        logging.getLogger("http").info("listening on %s:%d", host, port)
        await stop.wait()
    finally:
        await runner.cleanup()
