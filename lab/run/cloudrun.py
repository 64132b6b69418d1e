"""Cloud Run as a caller sees it: a public address, instances behind it, and the platform's own limits.

Owns: the public listener, 32 MiB, the request timeout. Does not own: the instances' lives and who gets which of them
(`instances`), what an instance consists of (`launch`).

A body reaches the instance as the caller sent it, packed or not, in chunks or with its length. Google says that HTTP/2
becomes HTTP/1 on the way (docs.cloud.google.com/run/docs/configuring/http2), and not what becomes of a missing length.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Final

import aiohttp
from aiohttp import web
from yarl import URL

from lab.errors import LabError
from lab.run.instances import WINDOW_S, FullError, Instance, Instances

REQUEST_LIMIT: Final = 32 * 1024 * 1024
"""Largest HTTP/1 request Cloud Run takes, bytes."""
IDLE_S: Final = 900.0
"""How long an idle instance is kept (about 15 minutes, not a promise of Google's)."""
STOP_S: Final = 10.0
"""Between SIGTERM and SIGKILL."""
_HOP_BY_HOP: Final = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "expect",
}  # fmt: skip
_REPLACED: Final = {*_HOP_BY_HOP, "host", "x-forwarded-for", "x-forwarded-proto"}
_ADDED_BY_CLIENT: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp's client would make up where the caller sent none."""


class _TooLargeError(Exception):
    """A chunked body went over the limit on its way."""


class Service:
    """One public service on `port`; `launch()` starts an instance.

    A launch that fails raises `LabError`: its callers get a 503, and the next request tries again.
    """

    def __init__(
        self,
        *,
        port: int,
        launch: Callable[[], Awaitable[Instance]],
        concurrency: int,
        timeout_s: float,
        min_instances: int,
        max_instances: int = 1,
        idle_s: float = IDLE_S,
        window_s: float = WINDOW_S,
        authorize: Callable[[web.Request], int | None] | None = None,
    ) -> None:
        self._port = port
        self.instances = Instances(
            launch,
            concurrency=concurrency,
            least=min_instances,
            most=max_instances,
            idle_s=idle_s,
            window_s=window_s,
        )
        self._timeout_s = timeout_s
        self._authorize = authorize
        self.refuses: int | None = None
        """A fault: every request is answered with this status."""
        self._client: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens; `min_instances` are started at once."""
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
        await self.instances.start()

    async def stop(self) -> None:
        """Closes the port and ends all instances, one that is just starting included."""
        if self._runner:
            await self._runner.cleanup()
        await self.instances.stop()
        if self._client:
            await self._client.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        verdict = self._authorize(request) if self._authorize else None
        refused = self.refuses or verdict
        if refused:
            return web.Response(status=refused, text=f"<h1>Error: {refused}</h1>", content_type="text/html")
        if (request.content_length or 0) > REQUEST_LIMIT:
            return _too_large()
        return await self._answer(request)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Forwards one request; the time limit counts from its arrival, an instance's start included."""
        response: web.StreamResponse | None = None
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self.instances.place() as instance,
                self._forward(request, instance.port) as answer,
            ):
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
        except FullError:
            return web.Response(status=429, text="Rate exceeded.")
        except LabError as error:
            text = f"The instance could not be started: {error}"
            return self._broken(request, response, web.Response(status=503, text=text))
        except aiohttp.ClientError as error:
            if isinstance(error.__cause__, _TooLargeError):
                return self._broken(request, response, _too_large())
            text = f"The instance closed the connection: {error}"
            return self._broken(request, response, web.Response(status=503, text=text))

    @contextlib.asynccontextmanager
    async def _forward(self, request: web.Request, port: int) -> AsyncGenerator[aiohttp.ClientResponse]:
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
            port=port,
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
