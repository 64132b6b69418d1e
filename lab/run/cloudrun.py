"""Cloud Run as a caller sees it: instances that start on demand and end when idle, and the platform's own limits.

Owns: the public listener, the life of one instance, 32 MiB, the request timeout, concurrency. Does not own: what an
instance consists of (`launch`). One instance at most: more would need loopback addresses of their own.

A body reaches the instance as the caller sent it, packed or not, in chunks or with its length. Google says that HTTP/2
becomes HTTP/1 on the way (docs.cloud.google.com/run/docs/configuring/http2), and not what becomes of a missing length.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Final, Protocol

import aiohttp
from aiohttp import web
from yarl import URL

from lab.errors import LabError

REQUEST_LIMIT: Final = 32 * 1024 * 1024
"""Largest HTTP/1 request Cloud Run takes, bytes."""
QUEUE_S: Final = 10.0
"""How long a request waits for a place when the last instance is full; then 429."""
IDLE_S: Final = 900.0
"""How long an idle instance is kept (about 15 minutes, not a promise of Google's)."""
STOP_S: Final = 10.0
"""Between SIGTERM and SIGKILL."""
TEND_S: Final = 1.0
"""How often it is looked whether the instance is idle or has died, seconds."""
_HOP_BY_HOP: Final = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "expect",
}  # fmt: skip
_REPLACED: Final = {*_HOP_BY_HOP, "host", "x-forwarded-for", "x-forwarded-proto"}
_ADDED_BY_CLIENT: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp's client would make up where the caller sent none."""


class Instance(Protocol):
    """A started instance: every container runs and the startup probe passed."""

    @property
    def running(self) -> bool: ...
    async def stop(self) -> None: ...


class _TooLargeError(Exception):
    """A chunked body went over the limit on its way."""


class Service:
    """One public service on `port`; `launch()` starts an instance whose ingress container listens on `instance_port`.

    A launch that fails raises `LabError`: its callers get a 503, and the next request tries again.
    """

    def __init__(
        self,
        *,
        port: int,
        instance_port: int,
        launch: Callable[[], Awaitable[Instance]],
        concurrency: int,
        timeout_s: float,
        min_instances: int,
        idle_s: float = IDLE_S,
        authorize: Callable[[web.Request], int | None] | None = None,
    ) -> None:
        self._port = port
        self._instance_port = instance_port
        self._launch = launch
        self._places = asyncio.Semaphore(concurrency)
        self._timeout_s = timeout_s
        self._min_instances = min_instances
        self._idle_s = idle_s
        self._authorize = authorize
        self.refuses: int | None = None
        """A fault: every request is answered with this status."""
        self._instance: Instance | None = None
        self._starting: asyncio.Task[Instance] | None = None
        self._changing = asyncio.Lock()
        self._admitting = asyncio.Event()
        self._admitting.set()
        self._admitted = self._in_flight = 0
        self._last_used = time.monotonic()
        self._starts: list[float] = []
        self._client: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._tending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens; with `min_instances` above 0 it starts an instance at once."""
        self._client = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=2**18,
            skip_auto_headers=_ADDED_BY_CLIENT,
        )
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        # A body unpacked here would be longer than the length that is handed on with it.
        options: dict[str, Any] = {"auto_decompress": False, "keepalive_timeout": 620}
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5, **options)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._tending = asyncio.create_task(self._tend())
        if self._min_instances:
            await self.instance()

    async def stop(self) -> None:
        """Closes the port and ends the instance, one that is just starting included."""
        if self._runner:
            await self._runner.cleanup()
        for task in (self._tending, self._starting):
            if task:
                task.cancel()
                await asyncio.wait({task})
        if self._instance:
            await self._instance.stop()
        if self._client:
            await self._client.close()

    @property
    def current(self) -> Instance | None:
        """The instance that was started last, unless it was ended."""
        return self._instance

    def status(self) -> dict[str, Any]:
        """Instances, requests in flight, and how long the starts took, seconds."""
        alive = bool(self._instance and self._instance.running)
        return {"instances": int(alive), "in_flight": self._in_flight, "starts_s": [round(s, 2) for s in self._starts]}

    async def instance(self) -> Instance:
        """The running instance; starts one if there is none, once for all who ask. Who goes away does not end it."""
        if self._starting is None:
            if self._instance and self._instance.running:
                return self._instance
            self._starting = asyncio.create_task(self._start_instance())
            self._starting.add_done_callback(self._started)
        return await asyncio.shield(self._starting)

    @contextlib.asynccontextmanager
    async def replaced(self) -> AsyncGenerator[None]:
        """Puts a new instance in the place of the old one as Cloud Run does, which never cuts a request for that.

        The old one's requests get their answers first, then the block runs, then those who came meanwhile share the
        new one. On Cloud Run both would run for a while; here they would want the same addresses.
        """
        self._admitting.clear()
        try:
            while self._admitted:  # noqa: ASYNC110 (what is waited for tells nobody)
                await asyncio.sleep(0.02)
            async with self._changing:
                await self._end_instance()
            yield
        finally:
            self._admitting.set()

    async def _start_instance(self) -> Instance:
        async with self._changing:
            await self._end_instance()
            began = time.monotonic()
            self._instance = await self._launch()
            self._starts.append(time.monotonic() - began)
            return self._instance

    def _started(self, task: asyncio.Task[Instance]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # asked for, because everyone who waited for it may be gone

    async def _end_instance(self) -> None:
        instance, self._instance = self._instance, None
        if instance:
            await instance.stop()

    async def _tend(self) -> None:
        """Ends what is idle or half dead, and keeps `min_instances`."""
        while True:
            await asyncio.sleep(min(TEND_S, self._idle_s / 4))
            if self._starting:
                continue
            dead = self._instance is not None and not self._instance.running
            idle = self._in_flight == 0 and time.monotonic() - self._last_used >= self._idle_s
            if dead or (idle and not self._min_instances):
                async with self._changing:
                    await self._end_instance()
            if self._min_instances and not self._instance and self._admitting.is_set():
                with contextlib.suppress(LabError):
                    await self.instance()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        verdict = self._authorize(request) if self._authorize else None
        refused = self.refuses or verdict
        if refused:
            return web.Response(status=refused, text=f"<h1>Error: {refused}</h1>", content_type="text/html")
        if (request.content_length or 0) > REQUEST_LIMIT:
            return _too_large()
        try:
            await asyncio.wait_for(self._places.acquire(), QUEUE_S)
        except TimeoutError:
            return web.Response(status=429, text="Rate exceeded.")
        self._in_flight += 1
        try:
            return await self._answer(request)
        finally:
            self._in_flight -= 1
            self._last_used = time.monotonic()
            self._places.release()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Forwards one request; the time limit counts from its arrival, an instance's start included."""
        response: web.StreamResponse | None = None
        try:
            async with asyncio.timeout(self._timeout_s), self._admission(), self._forward(request) as answer:
                response = web.StreamResponse(status=answer.status, reason=answer.reason)
                for name, value in answer.headers.items():
                    if name.lower() not in _HOP_BY_HOP:
                        response.headers.add(name, value)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except TimeoutError:
            return self._broken(request, response, web.Response(status=504, text="upstream request timeout"))
        except LabError as error:
            text = f"The instance could not be started: {error}"
            return self._broken(request, response, web.Response(status=503, text=text))
        except aiohttp.ClientError as error:
            if isinstance(error.__cause__, _TooLargeError):
                return self._broken(request, response, _too_large())
            text = f"The instance closed the connection: {error}"
            return self._broken(request, response, web.Response(status=503, text=text))

    @contextlib.asynccontextmanager
    async def _admission(self) -> AsyncGenerator[None]:
        """A place in a running instance, not in one that is being replaced."""
        await self._admitting.wait()
        self._admitted += 1
        try:
            await self.instance()
            yield
        finally:
            self._admitted -= 1

    @contextlib.asynccontextmanager
    async def _forward(self, request: web.Request) -> AsyncGenerator[aiohttp.ClientResponse]:
        assert self._client is not None, "start() comes first"
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _REPLACED]
        callers = [*request.headers.getall("X-Forwarded-For", []), request.remote or ""]
        headers += [
            ("Host", request.host),
            ("X-Forwarded-For", ", ".join(callers)),
            ("X-Forwarded-Proto", "https"),
        ]
        # Built, not joined: `//elsewhere/` and `http://elsewhere/` are paths of ours, not addresses to dial.
        url = URL.build(
            scheme="http",
            host="127.0.0.1",
            port=self._instance_port,
            path=request.rel_url.raw_path,
            query_string=request.rel_url.raw_query_string,
            encoded=True,
        )
        async with self._client.request(
            request.method,
            url,
            headers=headers,
            data=_limited(request.content) if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            yield answer

    def _broken(self, request: web.Request, begun: web.StreamResponse | None, page: web.Response) -> web.StreamResponse:
        """An error page where nothing was sent yet; else the connection is cut, so that the caller sees the break."""
        if begun is None or not begun.prepared:
            return page
        if request.transport:
            request.transport.abort()
        return begun


async def _limited(body: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The body as it comes; a chunked one says its size only at its end."""
    seen = 0
    async for piece in body.iter_any():
        seen += len(piece)
        if seen > REQUEST_LIMIT:
            raise _TooLargeError
        yield piece


def _too_large() -> web.Response:
    return web.Response(status=413, text="<h1>Error: Request Entity Too Large</h1>", content_type="text/html")
