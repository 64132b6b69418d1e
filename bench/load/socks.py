"""`python -m bench.load.socks LISTEN NAME=HOST:PORT...`: a SOCKS5 proxy in the tunnel's place, a quick one.

Owns: dialling a name of the tailnet. Does not own: faults, keys and the daemon's API, which the lab's own stand-in has
(`lab.programs.containerboot`); that one costs a request several times as much, and a measured gateway would wait.
"""

import asyncio
import sys
from typing import Final, cast

from bench.load import address

SUCCEEDED: Final = bytes((5, 0, 0, 1, 0, 0, 0, 0, 0, 0))
REFUSED: Final = bytes((5, 5, 0, 1, 0, 0, 0, 0, 0, 0))
GREETED: Final = b"\x05\x00"


class End(asyncio.Protocol):
    """One end of a relay: hands on what comes, and holds its sender back while the other end can't take it."""

    transport: asyncio.Transport
    other: "End | None" = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other:
            (self.other.transport.abort if exc else self.other.transport.close)()


class Dialler(End):
    """The client's end. Greeting and request come in a packet each, as Go's and the pilot's clients send them."""

    def __init__(self, hosts: dict[str, tuple[str, int]]) -> None:
        self._hosts = hosts
        self._greeted = False
        self._dialling: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        if self.other:
            self.other.transport.write(data)
        elif not self._greeted:
            self._greeted = True
            self.transport.write(GREETED)
        else:
            length = data[4]
            name = f"{data[5 : 5 + length].decode()}:{int.from_bytes(data[5 + length : 7 + length])}"
            self.transport.pause_reading()
            self._dialling = asyncio.ensure_future(self._dial(name))

    async def _dial(self, name: str) -> None:
        end = End()
        try:
            await asyncio.get_running_loop().create_connection(lambda: end, *self._hosts[name])
        except (KeyError, OSError):
            self.transport.write(REFUSED)
            self.transport.close()
            return
        if self.transport.is_closing():
            end.transport.close()
            return
        end.other, self.other = self, end
        self.transport.write(SUCCEEDED)
        self.transport.resume_reading()


async def main(listen: str, *names: str) -> None:
    """Does not end."""
    hosts = {name: address(place) for name, _, place in (word.partition("=") for word in names)}
    server = await asyncio.get_running_loop().create_server(lambda: Dialler(hosts), *address(listen), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
