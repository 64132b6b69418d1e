"""Cloud Run as the lab simulates it: starts on demand, limits, and what a caller sees when something breaks."""

import asyncio
import contextlib
import gzip
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from lab.errors import LabError
from lab.run import cloudrun, instances
from lab.run.ports import BlackHole, free_port
from tests.kit import DEADLINE_S, eventually, run

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Toy:
    """An instance of one in-process server. `gate` holds a start back; `failing` starts fail."""

    def __init__(self, handler: Handler | None = None) -> None:
        self.port = free_port()
        self.launches = self.stops = self.cancelled = 0
        self.failing = 0
        self.running = False
        self.gate = asyncio.Event()
        self.gate.set()
        self._handler = handler or self._ok
        self._runner: web.ServerRunner | None = None

    async def launch(self) -> "Toy":
        self.launches += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failing:
            self.failing -= 1
            raise LabError("the probe failed")
        server = web.Server(self._handler, handler_cancellation=True, access_log=None, auto_decompress=False)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.running = True
        return self

    async def stop(self) -> None:
        self.stops += 1
        self.running = False
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _ok(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=f"{request.method} {await request.text()}")


@contextlib.asynccontextmanager
async def serving(toy: Toy, **options: Any) -> AsyncGenerator[tuple[cloudrun.Service, aiohttp.ClientSession]]:
    port = free_port()
    defaults: dict[str, Any] = {"concurrency": 80, "timeout_s": 30.0, "min_instances": 0}
    service = cloudrun.Service(port=port, launch=toy.launch, **{**defaults, **options})
    await service.start()
    try:
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as client:
            yield service, client
    finally:
        await service.stop()


async def get(client: aiohttp.ClientSession, path: str = "/", **options: Any) -> tuple[int, str]:
    async with client.request(options.pop("method", "GET"), path, **options) as answer:
        return answer.status, await answer.text()


async def raw(client: aiohttp.ClientSession, head: str) -> bytes:
    """One request written by hand, to its end."""
    url = client._base_url  # pyright: ignore[reportPrivateUsage]
    assert url
    reader, writer = await asyncio.open_connection("127.0.0.1", url.port)
    writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode())
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await reader.read()
    finally:
        writer.close()


# --- instances -------------------------------------------------------------------------------------------------------


def test_one_start_serves_everyone_who_waits_for_it() -> None:
    async def scenario() -> None:
        toy = Toy()
        toy.gate.clear()
        async with serving(toy) as (service, client):
            assert service.instances.status() == {"instances": 0, "most": 1, "in_flight": 0, "starts_s": []}
            asked = [asyncio.create_task(get(client)) for _ in range(20)]
            await eventually(lambda: service.instances.status()["in_flight"] == 20)
            done, _ = await asyncio.wait(asked, timeout=0.2)
            assert not done, "requests are held during the start"
            toy.gate.set()
            assert await asyncio.gather(*asked) == [(200, "GET ")] * 20
            assert await get(client, method="POST", data="x") == (200, "POST x")
            assert toy.launches == 1
            assert service.instances.status()["instances"] == 1
            assert service.instances.status()["starts_s"][0] >= 0.2

    run(scenario())


def test_idle_instance_ends_and_the_next_request_starts_another() -> None:
    async def scenario() -> None:
        busy = asyncio.Event()

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == "/slow":
                await busy.wait()
            return web.Response(text="done")

        toy = Toy(handler)
        async with serving(toy, idle_s=0.2) as (service, client):
            slow = asyncio.create_task(get(client, "/slow"))
            await eventually(lambda: service.instances.status()["instances"] == 1)
            await asyncio.sleep(0.6)
            assert toy.stops == 0, "a request in flight keeps the instance, however long it takes"
            busy.set()
            assert await slow == (200, "done")
            await eventually(lambda: toy.stops == 1)
            assert service.instances.status()["instances"] == 0
            assert await get(client) == (200, "done")
            assert toy.launches == 2

    run(scenario())


def test_min_instances_starts_before_any_request_and_keeps_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "TEND_S", 0.05)

    async def scenario() -> None:
        toy = Toy()
        async with serving(toy, min_instances=1, idle_s=0.1) as (service, _):
            assert toy.launches == 1
            await asyncio.sleep(0.5)
            assert (toy.stops, service.instances.status()["instances"]) == (0, 1)
            toy.running = False
            toy.failing = 1
            await eventually(lambda: toy.launches >= 3 and service.instances.status()["instances"] == 1)
            assert toy.stops == 1, "what is left of a dead instance is ended"

    run(scenario())


def test_dead_instance_is_replaced_by_the_next_request() -> None:
    async def scenario() -> None:
        toy = Toy()
        async with serving(toy) as (service, client):
            assert await get(client) == (200, "GET ")
            toy.running = False
            assert service.instances.status()["instances"] == 0
            assert await get(client) == (200, "GET ")
            assert (toy.launches, toy.stops) == (2, 1)

    run(scenario())


def test_replaced_instance_ends_its_requests_first_and_the_next_wait_for_the_new_one() -> None:
    async def main() -> None:
        asked, may_answer = asyncio.Event(), asyncio.Event()

        async def slow(_: web.BaseRequest) -> web.StreamResponse:
            asked.set()
            await may_answer.wait()
            return web.Response(text=f"instance {toy.launches}")

        toy = Toy(slow)
        async with serving(toy) as (service, client), asyncio.TaskGroup() as callers:
            old = callers.create_task(get(client))
            await asked.wait()
            replacing = callers.create_task(replace(service, toy))
            await asyncio.sleep(0.05)
            new = callers.create_task(get(client))
            await asyncio.sleep(0.05)
            assert (toy.launches, toy.stops, new.done()) == (1, 0, False)
            may_answer.set()
            assert await old == (200, "instance 1")
            await replacing
            assert await new == (200, "instance 2")

    async def replace(service: cloudrun.Service, toy: Toy) -> None:
        async with service.instances.replaced():
            assert not toy.running
            await asyncio.sleep(0.1)
            assert toy.launches == 1, "nothing starts before the block has ended"

    asyncio.run(main())


def test_black_hole_neither_takes_nor_refuses() -> None:
    async def main() -> None:
        port = free_port()
        hole = BlackHole("127.0.0.1", port)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 0.3)
        hole.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(main())


def test_failed_start_is_a_503_for_its_callers_and_tried_again_for_the_next() -> None:
    async def scenario() -> None:
        toy = Toy()
        toy.failing = 1
        toy.gate.clear()
        async with serving(toy) as (service, client):
            asked = [asyncio.create_task(get(client)) for _ in range(5)]
            await eventually(lambda: service.instances.status()["in_flight"] == 5)
            toy.gate.set()
            for status, text in await asyncio.gather(*asked):
                assert (status, "the probe failed" in text) == (503, True)
            assert toy.launches == 1
            assert await get(client) == (200, "GET ")
            assert toy.launches == 2

    run(scenario())


def test_caller_who_leaves_does_not_end_the_start_for_others() -> None:
    async def scenario() -> None:
        toy = Toy()
        toy.gate.clear()
        async with serving(toy) as (service, client):
            first = asyncio.create_task(get(client))
            await eventually(lambda: toy.launches == 1)
            second = asyncio.create_task(get(client))
            await eventually(lambda: service.instances.status()["in_flight"] == 2)
            first.cancel()
            await eventually(lambda: service.instances.status()["in_flight"] == 1)
            toy.gate.set()
            assert await second == (200, "GET ")
            assert (toy.launches, toy.cancelled) == (1, 0)

    run(scenario())


def test_stop_ends_an_instance_that_is_just_starting() -> None:
    async def scenario() -> None:
        toy = Toy()
        toy.gate.clear()
        async with serving(toy) as (service, client):
            asked = asyncio.create_task(get(client))
            await eventually(lambda: toy.launches == 1)
            await service.stop()
            with pytest.raises(aiohttp.ClientError):
                await asked
        assert (toy.cancelled, toy.running) == (1, False)

    run(scenario())


# --- limits ----------------------------------------------------------------------------------------------------------


def test_full_instance_makes_callers_wait_and_then_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "QUEUE_S", 1.5)

    async def scenario() -> None:
        free = asyncio.Event()
        running = most = 0

        async def handler(_: web.BaseRequest) -> web.StreamResponse:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await free.wait()
            running -= 1
            return web.Response(text="done")

        async with serving(Toy(handler), concurrency=2) as (_, client):
            held = [asyncio.create_task(get(client)) for _ in range(2)]
            await eventually(lambda: running == 2)
            began = time.monotonic()
            assert await get(client) == (429, "Rate exceeded.")
            assert time.monotonic() - began > 1.4
            waiting = asyncio.create_task(get(client))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            free.set()
            assert await waiting == (200, "done")
            assert await asyncio.gather(*held) == [(200, "done")] * 2
            assert most == 2

    run(scenario())


def test_time_limit_counts_the_start() -> None:
    async def scenario() -> None:
        toy = Toy()
        toy.gate.clear()
        async with serving(toy, timeout_s=1.5) as (_, client):
            began = time.monotonic()
            assert await get(client) == (504, "upstream request timeout")
            assert time.monotonic() - began > 1.4
            assert toy.cancelled == 0, "the start goes on for those who come next"
            toy.gate.set()
            assert await get(client) == (200, "GET ")
            assert toy.launches == 1

    run(scenario())


def test_time_limit_ends_an_answer_that_never_comes_and_cuts_one_that_never_ends() -> None:
    async def scenario() -> None:
        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse()
            if request.path == "/stream":
                await response.prepare(request)
                await response.write(b"begun")
            await asyncio.sleep(60)
            return response

        async with serving(Toy(handler), timeout_s=1.5) as (_, client):
            assert await get(client) == (504, "upstream request timeout")
            async with client.get("/stream") as answer:
                assert answer.status == 200
                assert await answer.content.readany() == b"begun"
                with pytest.raises(aiohttp.ClientPayloadError):
                    await answer.read()

    run(scenario())


def test_body_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its length before an instance starts; chunked, as soon as it is too much."""
    monkeypatch.setattr(cloudrun, "REQUEST_LIMIT", 1_000_000)

    async def chunks(count: int) -> AsyncGenerator[bytes]:
        for _ in range(count):
            yield b"x" * 100_000

    async def scenario() -> None:
        toy = Toy()
        async with serving(toy) as (_, client):
            status, text = await get(client, method="POST", data=b"x" * 1_000_001)
            assert (status, toy.launches) == (413, 0)
            assert text == "<h1>Error: Request Entity Too Large</h1>"
            assert (await get(client, method="POST", data=b"x" * 1_000_000))[0] == 200
            assert (await get(client, method="POST", data=chunks(10)))[0] == 200
            assert await get(client, method="POST", data=chunks(11)) == (413, text)

    run(scenario())


# --- on the way ------------------------------------------------------------------------------------------------------


def test_broken_answer_is_visible_to_the_caller() -> None:
    async def scenario() -> None:
        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            assert request.transport
            if request.path == "/early":
                request.transport.abort()
                return web.Response()
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"half")
            await asyncio.sleep(0.1)
            request.transport.abort()
            return response

        async with serving(Toy(handler)) as (_, client):
            async with client.get("/late") as answer:
                with pytest.raises(aiohttp.ClientPayloadError):
                    await answer.read()
            status, text = await get(client, "/early")
            assert (status, "closed the connection" in text) == (503, True)

    run(scenario())


def test_caller_who_hangs_up_cancels_the_request_upstream() -> None:
    async def scenario() -> None:
        gone = asyncio.Event()

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(b"token ")
                    await asyncio.sleep(0.02)
            except (asyncio.CancelledError, ConnectionError):
                gone.set()
                raise

        async with serving(Toy(handler)) as (service, client):
            async with client.get("/") as answer:
                assert await answer.content.readexactly(6) == b"token "
            async with asyncio.timeout(DEADLINE_S):
                await gone.wait()
            await eventually(lambda: service.instances.status()["in_flight"] == 0)

    run(scenario())


def test_bodies_pass_as_they_come() -> None:
    """Neither direction waits for the whole: the caller sends on only after the instance has got the beginning."""

    async def scenario() -> None:
        arrived, proceed = asyncio.Event(), asyncio.Event()

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            async for piece in request.content.iter_any():
                arrived.set()
                await response.write(piece)
            return response

        async def body() -> AsyncGenerator[bytes]:
            yield b"first"
            async with asyncio.timeout(DEADLINE_S):
                await arrived.wait()
                await proceed.wait()
            yield b"second"

        async with (
            serving(Toy(handler)) as (_, client),
            client.post("/", data=body(), headers={"Content-Length": "11"}) as answer,
        ):
            assert await answer.content.readexactly(5) == b"first"
            proceed.set()
            assert await answer.content.read() == b"second"

    run(scenario())


@pytest.mark.parametrize("chunked", [False, True])
def test_packed_body_passes_packed(*, chunked: bool) -> None:
    packed = gzip.compress(b"hello" * 1000)

    async def scenario() -> None:
        seen: list[tuple[dict[str, str], bytes]] = []

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            seen.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
            return web.Response()

        async def pieces() -> AsyncGenerator[bytes]:
            yield packed

        async with serving(Toy(handler)) as (_, client), asyncio.timeout(DEADLINE_S):
            body = pieces() if chunked else packed
            assert (await get(client, method="POST", data=body, headers={"Content-Encoding": "gzip"}))[0] == 200
        headers, got = seen[0]
        assert got == packed
        length = {"transfer-encoding": "chunked"} if chunked else {"content-length": str(len(packed))}
        assert headers.items() >= {"content-encoding": "gzip", **length}.items()

    run(scenario())


def test_headers_are_google_s_front_end_s() -> None:
    async def scenario() -> None:
        seen: list[web.BaseRequest] = []

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            seen.append(request)
            return web.Response(status=207, headers={"X-Served-By": "home", "Set-Cookie": "a=b"})

        async with serving(Toy(handler)) as (_, client):
            head = "GET /a%2Fb?c=%20d HTTP/1.1\r\nHost: api.example.com\r\nProxy-Authorization: secret"
            sent = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: http\r\nX-Mine: 1\r\nX-Mine: 2"
            answer = await raw(client, f"{head}\r\n{sent}")
            assert answer.startswith(b"HTTP/1.1 207 ")
            assert b"X-Served-By: home\r\n" in answer
            headers = seen[0].headers
            assert seen[0].raw_path == "/a%2Fb?c=%20d"
            assert headers["Host"] == "api.example.com"
            assert headers.getall("X-Forwarded-For") == ["1.2.3.4, 127.0.0.1"], "the caller's claim, then who it was"
            assert headers.getall("X-Forwarded-Proto") == ["https"]
            assert headers.getall("X-Mine") == ["1", "2"]
            assert not {"Proxy-Authorization", "User-Agent", "Accept", "Accept-Encoding", "Content-Type"} & set(headers)

    run(scenario())


@pytest.mark.parametrize("target", ["//elsewhere:1/x", "http://elsewhere:1//elsewhere:1/x"])
def test_no_path_leads_anywhere_else(target: str) -> None:
    async def scenario() -> None:
        seen: list[str] = []

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            seen.append(request.raw_path)
            return web.Response()

        async with serving(Toy(handler)) as (_, client):
            answer = await raw(client, f"GET {target} HTTP/1.1\r\nHost: x")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert seen == ["//elsewhere:1/x"]

    run(scenario())
