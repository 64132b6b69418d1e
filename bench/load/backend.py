"""`python -m bench.load.backend NAME=HOST:PORT...`: model servers that answer at once, or as a request says.

Owns: the answers, and what was seen of each request. Does not own: asking (`closed`, `jobs`). One
thread and one epoll, because it shares a core with whoever asks.

A request says by OpenAI's own fields what it wants, for gateways hand on no others: `"seed":MS` holds the answer back,
or with `"stream":true` is the pause between two of `"max_tokens":N` chunks; without it an answer comes at once.
`POST /bench/VERB?NAME` steers: `close` refuses every dial from then on and resets what is open, `freeze` leaves it open
and hears nothing, `mute` takes requests and answers none, but for its health; `open` ends all three. `seen` tells what
was seen, and forgets it.
"""

import base64
import contextlib
import heapq
import itertools
import json
import re
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from bench.load import address

_JSON: Final = b"Content-Type: application/json\r\n"
_USAGE: Final = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
_ANSWER: Final = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef", "object": "chat.completion", "created": 1_790_000_000, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "The answer is forty-two."},
                     "finish_reason": "stop"}],
        "usage": _USAGE,
    }
).encode()  # fmt: skip
_PIECE: Final = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1_790_000_000}
_NUMBER: Final = {name: re.compile(rb'"' + name + rb'": ?([0-9]+)') for name in (b"seed", b"max_tokens")}
_ID: Final = re.compile(rb"\r\nx-request-id: ([^\r]+)", re.I)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: ([0-9]+)", re.I)


def _whole(status: bytes, body: bytes, kind: bytes = _JSON) -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, kind, len(body), body)


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    event = {**_PIECE, "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return _sized(b"data: " + json.dumps(event).encode() + b"\n\n")


def _sized(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


AT_ONCE: Final = _whole(b"200 OK", _ANSWER)
HEALTHY: Final = _whole(b"200 OK", b'{"status":"ok"}')
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
FIRST: Final = HEAD + _chunk({"role": "assistant", "content": "one "})
NEXT: Final = _chunk({"content": "more "})
LAST: Final = _chunk({}, "stop") + _sized(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _token() -> bytes:
    """An ID token in Google's form, as the metadata server gives it; nobody here checks the signature."""
    words = ({"alg": "none"}, {"exp": int(time.time()) + 3600})
    parts = [base64.urlsafe_b64encode(json.dumps(word).encode()).rstrip(b"=") for word in words]
    return b".".join([*parts, b"bench"])


class Caller:
    """One connection, and what has come on it and not been answered."""

    __slots__ = ("buffer", "busy", "fd", "left", "name", "out", "pause", "rid", "since", "sock")

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.sock, self.fd, self.name = sock, sock.fileno(), name
        self.buffer = bytearray()
        self.out = b""
        self.left = 0
        self.pause = self.since = 0.0
        self.rid = ""
        self.busy = False


class Backend:
    """All servers of the process."""

    def __init__(self, places: Sequence[str]) -> None:
        self._epoll = select.epoll()
        self._listeners: dict[int, tuple[str, socket.socket]] = {}
        self._callers: dict[int, Caller] = {}
        self._due: list[tuple[float, int, Caller]] = []
        self._order = itertools.count()
        self._addresses = {name: address(place) for name, _, place in (word.partition("=") for word in places)}
        self._mute: set[str] = set()
        self._frozen: set[str] = set()
        self._count = dict.fromkeys(self._addresses, 0)
        self._busy = dict.fromkeys(self._addresses, 0)
        self._most = dict.fromkeys(self._addresses, 0)
        self._log: list[tuple[str, str, float, float]] = []
        for name in self._addresses:
            self._listen(name)

    def run(self) -> None:
        """Does not end."""
        while True:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else 1.0
            for fd, events in self._epoll.poll(wait):
                if listening := self._listeners.get(fd):
                    self._accept(*listening)
                elif caller := self._callers.get(fd):
                    self._serve(caller, events)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, caller = heapq.heappop(self._due)
                if self._callers.get(caller.fd) is caller and caller.busy and caller.name not in self._frozen:
                    self._go_on(caller, now)

    def _listen(self, name: str) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self._addresses[name])
        listener.listen(4096)
        listener.setblocking(False)
        self._listeners[listener.fileno()] = name, listener
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def _accept(self, name: str, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._callers[sock.fileno()] = Caller(sock, name)
                self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _serve(self, caller: Caller, events: int) -> None:
        if events & select.EPOLLOUT:
            self._send(caller, b"")
        if not events & ~select.EPOLLOUT:
            return
        try:
            data = caller.sock.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(caller)
            return
        caller.buffer += data
        while not caller.busy and self._callers.get(caller.fd) is caller:
            end = caller.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(caller.buffer[: end + 2])
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(caller.buffer) < whole:
                if b"\r\nExpect:" in head:
                    self._send(caller, b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            # A picture stands before or behind the fields that matter; both ends are looked at.
            start, behind = end + 4, max(end + 4, whole - 400)
            wanted = bytes(caller.buffer[start : start + 400]) + bytes(caller.buffer[behind:whole])
            del caller.buffer[:whole]
            self._answer(caller, head, wanted)

    def _answer(self, caller: Caller, head: bytes, wanted: bytes) -> None:
        if not head.startswith(b"POST /v1/"):
            self._other(caller, head)
            return
        found = _ID.search(head)
        caller.rid = found[1].decode() if found else ""
        caller.since = time.monotonic()
        if caller.name in self._mute:
            caller.busy = True
            self._begin(caller)
            return
        self._count[caller.name] += 1
        seed = _NUMBER[b"seed"].search(wanted)
        streamed = b'"stream":true' in wanted or b'"stream": true' in wanted
        if not seed and not streamed:
            self._send(caller, AT_ONCE)
            return
        caller.busy, caller.pause = True, int(seed[1]) / 1000 if seed else 0.05
        self._begin(caller)
        if streamed:
            most = _NUMBER[b"max_tokens"].search(wanted)
            caller.left = int(most[1]) - 1 if most else 0
            self._send(caller, FIRST)
        else:
            caller.left = -1
        heapq.heappush(self._due, (caller.since + caller.pause, next(self._order), caller))

    def _begin(self, caller: Caller) -> None:
        self._busy[caller.name] += 1
        self._most[caller.name] = max(self._most[caller.name], self._busy[caller.name])

    def _go_on(self, caller: Caller, now: float) -> None:
        """The next chunk, or the end."""
        if caller.left > 0:
            caller.left -= 1
            # By the clock of the stream's begin, so that lateness does not add up.
            caller.since += caller.pause
            heapq.heappush(self._due, (caller.since + caller.pause, next(self._order), caller))
            self._send(caller, NEXT)
            return
        self._end(caller, now)
        self._send(caller, AT_ONCE if caller.left < 0 else LAST)
        if caller.buffer and self._callers.get(caller.fd) is caller:
            self._serve(caller, 0)

    def _end(self, caller: Caller, now: float) -> None:
        caller.busy = False
        self._busy[caller.name] -= 1
        if caller.left < 0:
            self._log.append((caller.name, caller.rid, caller.since, now))

    def _other(self, caller: Caller, head: bytes) -> None:
        _, path, _ = head.split(b" ", 2)
        if path.startswith(b"/bench/"):
            verb, _, name = path.decode().removeprefix("/bench/").partition("?")
            self._send(caller, _whole(b"200 OK", json.dumps(self._steer(verb, name)).encode()))
        elif path.startswith(b"/metrics"):
            self._send(caller, _whole(b"200 OK", self._metrics(caller.name), b"Content-Type: text/plain\r\n"))
        elif path.startswith(b"/computeMetadata/"):
            self._send(caller, _whole(b"200 OK", _token(), b"Metadata-Flavor: Google\r\n"))
        elif path.startswith(b"/v1/models"):
            listed = {"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "bench"}]}
            self._send(caller, _whole(b"200 OK", json.dumps(listed).encode()))
        else:
            self._send(caller, HEALTHY)

    def _metrics(self, name: str) -> bytes:
        """vLLM's, as far as the pilot reads them: what is answered moves, and nothing does while it is mute."""
        count, busy = self._count[name], self._busy[name]
        moving = count + int(time.monotonic() * 20) if busy and name not in self._mute else count
        label = b'{engine="0",model_name="m"}'
        values = {b"num_requests_running": busy, b"num_requests_waiting": 0, b"generation_tokens_total": moving}
        return b"".join(b"vllm:%s%s %d\n" % (key, label, value) for key, value in values.items())

    def _steer(self, verb: str, name: str) -> Any:
        match verb:
            case "close":
                self._deafen(name)
                self._reset(name)
            case "freeze":
                # Nobody listens, and what is open hears nothing any more.
                self._deafen(name)
                self._frozen.add(name)
                for caller in self._callers.values():
                    if caller.name == name:
                        self._epoll.modify(caller.fd, 0)
            case "mute":
                self._mute.add(name)
            case "open":
                if name in self._mute or name in self._frozen:
                    self._reset(name)
                self._mute.discard(name)
                self._frozen.discard(name)
                if name not in {own for own, _ in self._listeners.values()}:
                    self._listen(name)
            case "seen":
                found = {"count": dict(self._count), "most": dict(self._most), "log": self._log}
                self._log, self._most = [], dict(self._busy)
                return found
            case _:
                raise ValueError(verb)
        return {}

    def _deafen(self, name: str) -> None:
        for fd, (own, listener) in list(self._listeners.items()):
            if own == name:
                del self._listeners[fd]
                listener.close()

    def _reset(self, name: str) -> None:
        for caller in list(self._callers.values()):
            if caller.name == name:
                caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._close(caller)

    def _send(self, caller: Caller, data: bytes) -> None:
        if caller.out:
            data = caller.out + data
        try:
            sent = caller.sock.send(data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(caller)
            return
        had, caller.out = bool(caller.out), data[sent:]
        if caller.out and not had:
            self._epoll.modify(caller.fd, select.EPOLLIN | select.EPOLLOUT)
        elif had and not caller.out:
            self._epoll.modify(caller.fd, select.EPOLLIN)

    def _close(self, caller: Caller) -> None:
        if self._callers.pop(caller.fd, None) is None:
            return
        if caller.busy:
            caller.busy = False
            self._busy[caller.name] -= 1
        self._epoll.unregister(caller.fd)
        caller.sock.close()


if __name__ == "__main__":
    Backend(sys.argv[1:]).run()
