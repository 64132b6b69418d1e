"""`python -m bench.load.jobs HOST:PORT FILE`: sends each job at its time, or as soon as one of some callers is free.

Owns: an open loop (`at` in every job) or callers who take the next job with each answer (`callers`), and what was seen
of each answer. Does not own: the jobs. FILE holds `head` (of a request, without its end), `jobs` with `body` and `at`,
`callers`, `patience_s`. Prints JSON: by job when it was sent, when the first byte of a body and when the end came, as
the machine's monotonic clock says it, its status (0: broken, -1: none in time), the longest gap between two pieces, how
many pieces of a stream came, and who served it; `chunks`: pieces by whole second since `begun`.
"""

import json
import re
import select
import socket
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, Final

from bench.load import address

_LENGTH: Final = re.compile(rb"\r\ncontent-length: ([0-9]+)", re.I)
_STATUS: Final = re.compile(rb"HTTP/1.1 ([0-9]{3})")
_SERVED: Final = re.compile(rb"\r\nx-served-by: ([^\r]+)", re.I)
STALL_S: Final = 0.25
"""A gap between two pieces of a stream that a reader notices."""


class Call:
    """A job under way."""

    __slots__ = ("body_begun", "buffer", "end", "first", "gap", "last", "number", "pieces", "sent", "served", "sock",
                 "stalls", "status", "unsent")  # fmt: skip

    def __init__(self, number: int, sock: socket.socket, request: bytes) -> None:
        self.number, self.sock = number, sock
        self.unsent = memoryview(request)
        self.sent = time.monotonic()
        self.first = self.last = self.end = self.gap = 0.0
        self.status = -1
        self.stalls = self.pieces = 0
        self.served = ""
        self.buffer = bytearray()
        self.body_begun = 0
        """Where the body is in the buffer; 0: the head isn't complete."""

    def told(self) -> list[Any]:
        return [self.sent, self.first, self.end, self.status, self.gap, self.stalls, self.pieces, self.served]


class Jobs:
    """The loop."""

    def __init__(self, place: tuple[str, int], given: dict[str, Any]) -> None:
        self._place = place
        self._head: str = given["head"]
        self._jobs: list[dict[str, Any]] = given["jobs"]
        self._callers: int = given.get("callers", 0)
        self._patience_s: float = given.get("patience_s", 30.0)
        self._epoll = select.epoll()
        self._calls: dict[int, Call] = {}
        self._idle: list[socket.socket] = []
        self.done: dict[int, Call] = {}
        self.chunks: Counter[int] = Counter()
        self.begun = 0.0

    def run(self) -> None:
        """All jobs, or until patience ends."""
        waiting = deque(enumerate(self._jobs))
        self.begun = time.monotonic()
        deadline = self.begun + max((job.get("at", 0.0) for job in self._jobs), default=0.0) + self._patience_s
        while (waiting or self._calls) and time.monotonic() < deadline:
            now = time.monotonic()
            if self._callers:
                while waiting and len(self._calls) < self._callers:
                    self._send(*waiting.popleft())
                wait = 0.5
            else:
                while waiting and self.begun + waiting[0][1]["at"] <= now:
                    self._send(*waiting.popleft())
                wait = max(0.0, self.begun + waiting[0][1]["at"] - time.monotonic()) if waiting else 0.5
            for fd, events in self._epoll.poll(min(wait, 0.5)):
                if call := self._calls.get(fd):
                    self._serve(call, events)
        for call in self._calls.values():
            self.done[call.number] = call
        for sock in (*self._idle, *(call.sock for call in self._calls.values())):
            sock.close()
        self._epoll.close()

    def _send(self, number: int, job: dict[str, Any]) -> None:
        body = job["body"].encode()
        request = f"{self._head}X-Request-Id: job-{number:06d}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        try:
            sock = self._idle.pop() if self._idle else self._connect()
        except OSError:
            self.done[number] = lost = Call(number, socket.socket(), b"")
            lost.sock.close()
            lost.status, lost.end = 0, time.monotonic()
            return
        call = Call(number, sock, request)
        self._calls[sock.fileno()] = call
        self._push(call)

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(self._place, timeout=5.0)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        return sock

    def _push(self, call: Call) -> None:
        try:
            call.unsent = call.unsent[call.sock.send(call.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            return  # the read tells
        self._epoll.modify(call.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if call.unsent else 0))

    def _serve(self, call: Call, events: int) -> None:
        if events & select.EPOLLOUT and call.unsent:
            self._push(call)
        if not events & ~select.EPOLLOUT:
            return
        try:
            data = call.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = time.monotonic()
        if not data:
            call.status = 0
            self._finish(call, now, keep=False)
            return
        call.buffer += data
        buffer = call.buffer
        if not call.body_begun:
            head = buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            call.body_begun = head + 4
        if len(buffer) <= call.body_begun:
            return
        if call.first:
            gap = now - call.last
            call.gap = max(call.gap, gap)
            call.stalls += gap > STALL_S
        else:
            call.first = now
        call.last = now
        pieces = data.count(b"data: ")
        call.pieces += pieces
        self.chunks[int(now - self.begun)] += pieces
        length = _LENGTH.search(buffer, 0, call.body_begun)
        whole = len(buffer) >= call.body_begun + int(length[1]) if length else buffer.endswith(b"\r\n0\r\n\r\n")
        if whole:
            status = _STATUS.match(buffer)
            call.status = int(status[1]) if status else 0
            served = _SERVED.search(buffer, 0, call.body_begun)
            call.served = served[1].decode() if served else ""
            self._finish(call, now, keep=b"\r\nconnection: close" not in bytes(buffer[: call.body_begun]).lower())

    def _finish(self, call: Call, now: float, *, keep: bool) -> None:
        call.end = now
        del self._calls[call.sock.fileno()]
        self.done[call.number] = call
        call.buffer = bytearray()
        if keep:
            self._idle.append(call.sock)
        else:
            self._epoll.unregister(call.sock.fileno())
            call.sock.close()


def main() -> None:
    """Prints what was seen."""
    loop = Jobs(address(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
    loop.run()
    told = [loop.done[number].told() for number in sorted(loop.done)]
    json.dump({"begun": loop.begun, "jobs": told, "chunks": loop.chunks}, sys.stdout)


if __name__ == "__main__":
    main()
