"""The tunnel's end in the gateway: a SOCKS5 proxy into the lab's tailnet, and the entrypoint's `/healthz`.

Owns: SOCKS5 CONNECT, and the tunnel's faults on dials and open connections. Does not own: whether the node may join
(`containerboot`), the tailnet (`tailnet`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct

from lab.programs.event_loop import reset
from lab.programs.tailnet import Tailnet

SUCCEEDED, GENERAL_FAILURE, HOST_UNREACHABLE, REFUSED, NO_COMMAND, NO_ADDRESS_TYPE = 0, 1, 4, 5, 7, 8
DIAL_TIMEOUT_SECONDS = 5.0
"""Measured: the real SOCKS listener gives up a dial into nothing after 5.0 s."""
_WATCH_SECONDS = 0.1
CHUNK_BYTES = 1 << 18

log = logging.getLogger("containerboot")


def host_port(value: str) -> tuple[str, int]:
    """Split `host:port`; an empty host means loopback, because the lab never listens wider."""
    host, _, port = value.rpartition(":")
    return host or "127.0.0.1", int(port)


class Tunnel:
    """The SOCKS5 listener and the connections through it."""

    def __init__(self, tailnet: Tailnet) -> None:
        """Start with no connection."""
        self._tailnet = tailnet
        self._flowing: dict[str, asyncio.Event] = {}
        self._open: dict[asyncio.StreamWriter, str] = {}

    async def watch(self) -> None:
        """Apply faults to open connections: hold, let go, or reset them."""
        while True:
            self._tailnet.read()
            for destination, flowing in self._flowing.items():
                if self._tailnet.fault(destination) == "blackhole":
                    flowing.clear()
                else:
                    flowing.set()
            for writer, destination in list(self._open.items()):
                if self._tailnet.fault(destination) == "refused":
                    reset(writer.transport)
            await asyncio.sleep(_WATCH_SECONDS)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one SOCKS5 client."""
        try:
            destination, code = await _handshake(reader, writer)
            if code == SUCCEEDED:
                self._tailnet.read()
                upstream, code = await self._dial(destination)
                if upstream is not None:
                    writer.write(_reply(SUCCEEDED))
                    await self._relay(destination, (reader, writer), upstream)
                    return
                log.info("dial %s: SOCKS reply %#04x", destination, code)
            writer.write(_reply(code))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, UnicodeDecodeError) as error:
            log.info("socks client: %s", error)
        except asyncio.CancelledError:
            pass  # the program ends; asyncio 3.11 would log a traceback for every open connection
        finally:
            writer.close()

    async def _dial(self, destination: str) -> tuple[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None, int]:
        deadline = asyncio.get_running_loop().time() + DIAL_TIMEOUT_SECONDS
        while self._tailnet.fault(destination) == "blackhole":
            # A dial whose fault is lifted goes on: TCP repeats its SYN.
            if asyncio.get_running_loop().time() >= deadline:
                return None, GENERAL_FAILURE
            await asyncio.sleep(min(_WATCH_SECONDS, max(0.0, deadline - asyncio.get_running_loop().time())))
        if destination not in self._tailnet.hosts:
            return None, HOST_UNREACHABLE
        if self._tailnet.fault(destination) == "refused":
            return None, REFUSED
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.open_connection(*host_port(self._tailnet.hosts[destination])), SUCCEEDED
        except ConnectionRefusedError:
            return None, REFUSED
        except TimeoutError:
            return None, GENERAL_FAILURE
        except OSError:
            return None, HOST_UNREACHABLE

    async def _relay(
        self,
        destination: str,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        if destination not in self._flowing:
            self._flowing[destination] = asyncio.Event()
            self._flowing[destination].set()
        flowing = self._flowing[destination]
        writers = (client[1], upstream[1])
        self._open.update(dict.fromkeys(writers, destination))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(client[0], upstream[1], flowing))
                group.create_task(_pump(upstream[0], client[1], flowing))
        except* OSError:
            # One side was reset: so is the other, or the caller would wait for an end that never comes.
            for writer in writers:
                reset(writer.transport)
        finally:
            for writer in writers:
                self._open.pop(writer, None)
                writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    while data := await reader.read(CHUNK_BYTES):
        await flowing.wait()
        writer.write(data)
        await writer.drain()
    await flowing.wait()
    if writer.can_write_eof():
        writer.write_eof()


async def _handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
    """Read greeting and request; return `host:port` and the reply code so far."""
    version, methods = await reader.readexactly(2)
    offered = await reader.readexactly(methods)
    if version != 5 or 0 not in offered:
        writer.write(b"\x05\xff")
        raise ConnectionAbortedError("no SOCKS5 client without authentication")
    writer.write(b"\x05\x00")
    _, command, _, kind = await reader.readexactly(4)
    if kind == 1:
        host = socket.inet_ntoa(await reader.readexactly(4))
    elif kind == 3:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii")
    else:
        return "", NO_ADDRESS_TYPE
    (port,) = struct.unpack("!H", await reader.readexactly(2))
    return f"{host}:{port}", SUCCEEDED if command == 1 else NO_COMMAND


def _reply(code: int) -> bytes:
    return bytes((5, code, 0, 1, 0, 0, 0, 0, 0, 0))


async def healthz(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        request = await reader.readuntil(b"\r\n\r\n")
        line = b"200 OK" if request.startswith(b"GET /healthz ") else b"404 Not Found"
        body = b"ok" if line.startswith(b"200") else b"not found"
        head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (line, len(body))
        writer.write(head + body)
        await writer.drain()
    writer.close()
