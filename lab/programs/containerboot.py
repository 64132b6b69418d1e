"""Stand-in for the Tailscale image's entrypoint in userspace mode: a SOCKS5 hop with the tailnet in a JSON file.

Owns: the declared TS_* environment, the key check, SOCKS5 CONNECT, `/healthz`, and the faults of the tunnel.
Does not own a tailnet: no WireGuard, no ACLs, no DERP. The real entrypoint is tested in tests/tailnet.

LAB_TAILNET names a file `{"auth_key": …, "trusted": …, "hosts": {"home:80": "127.0.0.1:41234"}, "faults": {"home:80":
…}}`. `trusted` is whom an identity token lets in (`federation`); a fault is null, "refused" (nothing listens there:
dials are refused, open connections are reset) or "blackhole" (packets are dropped: dials fail after 5 s, open
connections stand still until it is lifted).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lab.programs import die_with_parent, localapi, log_to_stderr, stop_event

if TYPE_CHECKING:
    import asyncio

KNOWN_ENV = frozenset(
    {
        "TS_USERSPACE",
        "TS_SOCKS5_SERVER",
        "TS_LOCAL_ADDR_PORT",
        "TS_ENABLE_HEALTH_CHECK",
        "TS_AUTHKEY",
        "TS_CLIENT_ID",
        "TS_AUDIENCE",
        "TS_HOSTNAME",
        "TS_EXTRA_ARGS",
        "TS_DEBUG_MTU",
        "TS_SOCKET",
        "TS_TAILSCALED_EXTRA_ARGS",
    }
)
"""What is understood here. Anything else stops the program: a setting that is silently ignored would prove nothing."""

SUCCEEDED, GENERAL_FAILURE, HOST_UNREACHABLE, REFUSED, NO_COMMAND, NO_ADDRESS_TYPE = 0, 1, 4, 5, 7, 8
DIAL_TIMEOUT_SECONDS = 5.0
"""Measured: the real SOCKS listener gives up a dial into nothing after 5.0 s."""
_WATCH_SECONDS = 0.1
_CHUNK_BYTES = 1 << 18

log = log_to_stderr("containerboot")


class Tailnet:
    """What the lab's tailnet file says now. A file caught half-written keeps the last good state."""

    def __init__(self, path: Path) -> None:
        """Read the file once; without it there is no tailnet to join."""
        self._path = path
        self.auth_key = ""
        self.trusted: dict[str, str] = {}
        self.hosts: dict[str, str] = {}
        self.faults: dict[str, str | None] = {}
        self.read()

    def read(self) -> None:
        """Take over the file's present content."""
        try:
            content = cast("dict[str, Any]", json.loads(self._path.read_text()))
        except (OSError, ValueError) as error:
            log.warning("tailnet file %s: %s; keeping what was known", self._path, error)
            return
        self.auth_key, self.hosts = content.get("auth_key", ""), content.get("hosts", {})
        self.trusted, self.faults = content.get("trusted") or {}, content.get("faults", {})

    def fault(self, destination: str) -> str | None:
        """Return the fault in force for `destination`, or None."""
        return self.faults.get(destination)


def is_true(value: str | None) -> bool:
    """Parse a boolean as Go's strconv.ParseBool does, which the real entrypoint uses."""
    return value in {"1", "t", "T", "true", "TRUE", "True"}


def auth_key(value: str) -> str:
    """Return the key as the real entrypoint sees it: `file:` is read and trimmed, a plain value is taken as it is."""
    return Path(value.removeprefix("file:")).read_text().strip() if value.startswith("file:") else value


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
        import asyncio

        while True:
            self._tailnet.read()
            for destination, flowing in self._flowing.items():
                if self._tailnet.fault(destination) == "blackhole":
                    flowing.clear()
                else:
                    flowing.set()
            for writer, destination in list(self._open.items()):
                if self._tailnet.fault(destination) == "refused":
                    _reset(writer)
            await asyncio.sleep(_WATCH_SECONDS)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one SOCKS5 client."""
        import asyncio

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
        import asyncio

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
        import asyncio

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
                _reset(writer)
        finally:
            for writer in writers:
                self._open.pop(writer, None)
                writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    while data := await reader.read(_CHUNK_BYTES):
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


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as the kernel does for a process that is gone."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _healthz(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    import asyncio

    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        request = await reader.readuntil(b"\r\n\r\n")
        line = b"200 OK" if request.startswith(b"GET /healthz ") else b"404 Not Found"
        body = b"ok" if line.startswith(b"200") else b"not found"
        head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (line, len(body))
        writer.write(head + body)
        await writer.drain()
    writer.close()


async def run(env: dict[str, str], tailnet: Tailnet) -> None:
    """Serve SOCKS5 and health until SIGTERM."""
    import asyncio

    stop, tunnel, shut_down = stop_event(), Tunnel(tailnet), asyncio.Event()
    watcher = asyncio.create_task(tunnel.watch())
    servers = [await asyncio.start_server(tunnel.serve, *host_port(env["TS_SOCKS5_SERVER"]), limit=_CHUNK_BYTES)]
    if is_true(env.get("TS_ENABLE_HEALTH_CHECK")) and env.get("TS_LOCAL_ADDR_PORT"):
        servers.append(await asyncio.start_server(_healthz, *host_port(env["TS_LOCAL_ADDR_PORT"])))
    log.info("joined as %s; SOCKS5 on %s", env.get("TS_HOSTNAME", "(unnamed)"), env["TS_SOCKS5_SERVER"])
    if env.get("TS_SOCKET"):
        servers.append(await localapi.serve(env["TS_SOCKET"], env.get("TS_TAILSCALED_EXTRA_ARGS", ""), shut_down))
    ends = [asyncio.create_task(event.wait()) for event in (stop, shut_down)]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if shut_down.is_set():
        # The entrypoint ends with its daemon, at once and without a word to open connections.
        log.error("tailscaled was shut down through its local API")
        os._exit(1)
    watcher.cancel()
    for server in servers:
        server.close()


def refusal(env: dict[str, str], tailnet: Tailnet) -> tuple[int, str] | None:
    """Return exit code and message if this environment must not start, else None."""
    declared = {name for name in env if name.startswith("TS_")}
    if unknown := sorted(declared - KNOWN_ENV):
        return 2, f"environment not understood by the lab: {', '.join(unknown)}"
    if not is_true(env.get("TS_USERSPACE")):
        return 2, "TS_USERSPACE must be true: Cloud Run has no usable /dev/net/tun"
    if not env.get("TS_SOCKS5_SERVER"):
        return 2, "TS_SOCKS5_SERVER is missing: nothing could dial through the tunnel"
    if env.get("TS_CLIENT_ID"):
        if env.get("TS_AUTHKEY"):
            return 1, "TS_AUTHKEY cannot be used with TS_CLIENT_ID"
        from lab.programs import federation  # http.client takes a tenth of a second that a key does not need

        refused = federation.refusal(env, tailnet.trusted)
        return (1, refused) if refused else None
    try:
        key = auth_key(env.get("TS_AUTHKEY", ""))
    except OSError as error:
        return 1, f"invalid key: {error}"
    if not key or key != tailnet.auth_key:
        return 1, "backend error: invalid key: unable to validate API key"
    return None


def main() -> int:
    """Check the environment, then serve."""
    die_with_parent()
    env = dict(os.environ)
    if "LAB_TAILNET" not in env:
        log.error("LAB_TAILNET is missing: it names the lab's tailnet file")
        return 2
    tailnet = Tailnet(Path(env["LAB_TAILNET"]))
    if refused := refusal(env, tailnet):
        log.error("%s", refused[1])
        return refused[0]
    import asyncio  # after the key check: a wrong key ends the real entrypoint in 0.15 s, and this import costs a third

    asyncio.run(run(env, tailnet))
    return 0


if __name__ == "__main__":
    sys.exit(main())
