"""A hostile request as bytes, how it is sent, and what comes back on its connection.

Owns: the raw socket, the reading of answers, and the file of a request that is kept. Does not own: whether an answer is
right (`judge`), who answers (`worlds`).
"""

import base64
import contextlib
import json
import re
import socket
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, cast

SILENCE_S: Final = 20.0
"""Longest wait for the next byte, seconds: nothing here is waited for but a busy machine."""


class End(StrEnum):
    """What the caller does when all is sent."""

    READS = "reads"
    """Until the connection ends, or every answer that he waits for is there."""
    HALF = "half-closes"
    """Says that nothing more comes, and reads."""
    GONE = "hangs up"
    RESET = "resets"
    LISTENS = "listens"
    """Reads for a moment, and takes silence for an answer."""


@dataclass(frozen=True)
class Attack:
    """One connection of a caller, and what may come of it."""

    kind: str
    """The class that it is counted in."""
    name: str
    pieces: tuple[bytes, ...]
    end: End = End.READS
    client: str = "demo"
    wanted: frozenset[int] = frozenset()
    """Statuses that each answer must have one of; empty: any that a caller's fault may have."""
    lanes: frozenset[str] = frozenset({"home"})
    """Who may get to see it."""
    requests: int = 1
    """So many arrive at a lane at most."""
    answers: int = 1
    """So many are waited for where the connection stays open."""
    body: bytes | None = None
    """What a lane must get, if it gets anything; None: not looked at."""

    @property
    def sent(self) -> bytes:
        return b"".join(self.pieces)

    def kept(self) -> dict[str, Any]:
        """As JSON."""
        found: dict[str, Any] = {
            name: value for name, value in vars(self).items() if name not in ("pieces", "wanted", "lanes", "body")
        }
        more: dict[str, Any] = {
            "pieces": [base64.b64encode(piece).decode() for piece in self.pieces],
            "wanted": sorted(self.wanted),
            "lanes": sorted(self.lanes),
            "body": None if self.body is None else base64.b64encode(self.body).decode(),
        }
        return {**found, **more}

    @staticmethod
    def of(file: Path) -> "Attack":
        """A request that was kept."""
        told: dict[str, Any] = json.loads(file.read_text())["attack"]
        body = told.pop("body")
        return Attack(
            pieces=tuple(base64.b64decode(piece) for piece in told.pop("pieces")),
            wanted=frozenset(told.pop("wanted")),
            lanes=frozenset(told.pop("lanes")),
            body=None if body is None else base64.b64decode(body),
            end=End(told.pop("end")),
            **told,
        )


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    whole: bool = True

    def get(self, name: str) -> str:
        """All values of a header together."""
        return ", ".join(value for key, value in self.headers if key == name)

    @property
    def lane(self) -> str:
        return self.get("x-served-by")

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error object; empty if it is none."""
        with contextlib.suppress(ValueError, AttributeError):
            found = json.loads(self.body).get("error")
            return cast(dict[str, Any], found) if isinstance(found, dict) else {}
        return {}


@dataclass
class Exchange:
    """What came back on a connection."""

    replies: list[Reply] = field(default_factory=list[Reply])
    rest: bytes = b""
    """Bytes after the last answer, or in place of one."""
    closed: bool = False
    seconds: float = 0


def send(port: int, attack: Attack) -> Exchange:
    """One attack from its first byte to its end."""
    found, told, began = Exchange(), b"", time.monotonic()
    head = attack.sent.startswith(b"HEAD ")
    patience = 0.3 if attack.end is End.LISTENS else SILENCE_S
    with socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for piece in attack.pieces:
                caller.sendall(piece)
            if attack.end is End.HALF:
                with contextlib.suppress(OSError):
                    caller.shutdown(socket.SHUT_WR)
        if attack.end in (End.GONE, End.RESET):
            if attack.end is End.RESET:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return found
        caller.settimeout(patience)
        with contextlib.suppress(TimeoutError):
            while True:
                try:
                    piece = caller.recv(1 << 16)
                except ConnectionError:
                    piece = b""
                found.closed = not piece
                told += piece
                found.replies, found.rest = parsed(told, head=head, ended=found.closed)
                waited_for = sum(reply.whole for reply in found.replies) >= attack.answers
                if found.closed or (waited_for and attack.end is not End.LISTENS):
                    break
    found.seconds = time.monotonic() - began
    return found


_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n")


def parsed(told: bytes, *, head: bool, ended: bool) -> tuple[list[Reply], bytes]:
    """The answers in `told`, interim ones left out, and what stands behind them."""
    found: list[Reply] = []
    while line := _STATUS.match(told):
        top, blank, rest = told[line.end() - 2 :].partition(b"\r\n\r\n")
        if not blank:
            break
        status = int(line[1])
        if status == 100:
            told = rest
            continue
        pairs = [text.partition(":") for text in top.decode("latin-1").split("\r\n") if text]
        headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
        names = dict(headers)
        if head or status in (204, 304):
            body, told, whole = b"", rest, True
        elif names.get("transfer-encoding") == "chunked":
            body, told, whole = _chunks(rest)
        elif "content-length" in names:
            length = int(names["content-length"])
            body, told, whole = rest[:length], rest[length:], len(rest) >= length
        else:
            body, told, whole = rest, b"", ended
        found.append(Reply(status, headers, body, whole))
        if not whole:
            break
    return found, told


def _chunks(told: bytes) -> tuple[bytes, bytes, bool]:
    """Body, what stands behind it, and whether its end was seen."""
    body = b""
    while line := re.match(rb"([0-9a-fA-F]+)\r\n", told):
        size = int(line[1], 16)
        if len(told) < line.end() + size + 2:
            break
        body, told = body + told[line.end() : line.end() + size], told[line.end() + size + 2 :]
        if not size:
            return body, told, True
    return body, told, False
