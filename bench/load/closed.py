"""`python -m bench.load.closed HOST:PORT CONNECTIONS SECONDS FILE`: asks again as soon as it is answered.

Owns: a closed loop over kept connections, and each answer's time. Does not own: the request, which is in FILE, byte for
byte. Prints JSON: `latencies` of whole answers in seconds, `failed`, and how long it ran. One thread and one epoll: it
shares a core with the backend, and a request costs it about as much as that.
"""

import json
import re
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from bench.load import address

_LENGTH: Final = re.compile(rb"\r\ncontent-length: ([0-9]+)", re.I)
PATIENCE_S: Final = 20.0
"""For answers that are under way when time is up."""


class Connection:
    """One caller."""

    __slots__ = ("buffer", "since", "sock", "unsent", "wanted")

    def __init__(self, place: tuple[str, int]) -> None:
        self.sock = socket.create_connection(place, timeout=PATIENCE_S)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.unsent = memoryview(b"")
        self.since = 0.0
        self.wanted = 0


class Closed:
    """The loop."""

    def __init__(self, place: tuple[str, int], connections: int, request: bytes) -> None:
        self._place, self._request = place, request
        self._epoll = select.epoll()
        self._open: dict[int, Connection] = {}
        self.latencies: list[float] = []
        self.failed = 0
        for _ in range(connections):
            self._connect()

    def run(self, seconds: float) -> float:
        """Asks for so long; returns how long it took until the last answer."""
        begin = time.monotonic()
        end = begin + seconds
        for connection in list(self._open.values()):
            self._ask(connection)
        while self._open and time.monotonic() < end + PATIENCE_S:
            for fd, events in self._epoll.poll(0.5):
                if connection := self._open.get(fd):
                    self._serve(connection, events, end)
        took = time.monotonic() - begin
        self.failed += len(self._open)
        for connection in self._open.values():
            connection.sock.close()
        self._epoll.close()
        return took

    def _connect(self) -> Connection:
        connection = Connection(self._place)
        self._open[connection.sock.fileno()] = connection
        self._epoll.register(connection.sock.fileno(), select.EPOLLIN)
        return connection

    def _ask(self, connection: Connection) -> None:
        connection.since, connection.wanted = time.monotonic(), 0
        connection.unsent = memoryview(self._request)
        self._push(connection)

    def _push(self, connection: Connection) -> None:
        try:
            sent = connection.sock.send(connection.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it is told by the read
        connection.unsent = connection.unsent[sent:]
        if connection.unsent or sent < len(self._request):
            events = select.EPOLLIN | (select.EPOLLOUT if connection.unsent else 0)
            self._epoll.modify(connection.sock.fileno(), events)

    def _serve(self, connection: Connection, events: int, end: float) -> None:
        if events & select.EPOLLOUT and connection.unsent:
            self._push(connection)
        if not events & ~select.EPOLLOUT:
            return
        try:
            data = connection.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            self.failed += 1
            if time.monotonic() < end:
                self._again(end)
            return
        buffer = connection.buffer
        buffer += data
        if not connection.wanted:
            head = buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            length = _LENGTH.search(buffer, 0, head + 2)
            if length:
                connection.wanted = head + 4 + int(length[1])
        done = len(buffer) >= connection.wanted if connection.wanted else buffer.endswith(b"\r\n0\r\n\r\n")
        if not done:
            return
        now = time.monotonic()
        if buffer.startswith(b"HTTP/1.1 200"):
            self.latencies.append(now - connection.since)
        else:
            self.failed += 1
        closes = b"\r\nConnection: close" in buffer[:2000]
        buffer.clear()
        if now >= end or closes:
            self._drop(connection)
            if now < end:
                self._again(end)
        else:
            self._ask(connection)

    def _again(self, end: float) -> None:
        while time.monotonic() < end:
            try:
                self._ask(self._connect())
                return
            except OSError:
                self.failed += 1
                time.sleep(0.01)

    def _drop(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        del self._open[fd]
        self._epoll.unregister(fd)
        connection.sock.close()


def main() -> None:
    """Prints what was seen."""
    place, connections, seconds, file = sys.argv[1:5]
    loop = Closed(address(place), int(connections), Path(file).read_bytes())
    took = loop.run(float(seconds))
    found: dict[str, Any] = {"latencies": loop.latencies, "failed": loop.failed, "took": took}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
