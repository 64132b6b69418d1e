"""The check of an engine that stands still, on a process that stands in for one: it can fail in each of its ways."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator, Iterator

import pytest
from aiohttp import web

from tests.contract import checks

STOPPED = "grep -q 'State:.T' /proc/{pid}/status"


@pytest.fixture
def engine() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


async def served(health: int) -> AsyncGenerator[str]:
    """The address of a server with this status on `/health`."""
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=health)

    app.router.add_get("/health", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def told(health: int, engine: int, probe: str) -> list[str]:
    found: list[str] = []
    async for url in served(health):
        found = await checks.stuck(url, engine, ["sh", "-c", probe.format(pid=engine)])
    return found


@pytest.mark.parametrize(
    ("health", "probe", "wrong"),
    [
        (200, f"! {STOPPED}", []),
        (503, f"! {STOPPED}", ["/health of an engine that stands still answers 503"]),
        (200, "true", ["the declared liveness calls an engine alive that stands still"]),
        (200, STOPPED, ["the declared liveness calls an idle engine dead",
                        "the declared liveness calls an engine alive that stands still",
                        "the declared liveness calls an engine dead that goes on"]),
    ],
)  # fmt: skip
def test_a_liveness_that_sees_nothing_is_told(health: int, probe: str, wrong: list[str], engine: int) -> None:
    assert asyncio.run(told(health, engine, probe)) == wrong
