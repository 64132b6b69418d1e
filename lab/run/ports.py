"""Loopback ports: free ones for what the lab may place, and a clear word when a declared one is taken.

Owns: choosing and probing. Does not own: which addresses are declared (`read`, `lab`).
"""

import contextlib
import random
import select
import socket
from typing import Final

from lab.errors import LabError

_CHOSEN_FROM: Final = range(20_000, 32_000)
"""Below what Linux and macOS give to outgoing connections: the gateway's port is used again at every cold start."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port of a loopback address that nobody uses now."""
    while True:
        port = random.choice(_CHOSEN_FROM)
        if is_free(host, port):
            return port


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return True
    return False


def require_free(address: str) -> None:
    """Raises `LabError` if `host:port` is taken."""
    host, _, port = address.rpartition(":")
    if not is_free(host, int(port)):
        raise LabError(f"{address} is in use; is another lab up? End it with `python -m lab down`")


class BlackHole:
    """An address whose packets are dropped: a listener with a full queue, to which Linux answers no SYN any more."""

    def __init__(self, host: str, port: int) -> None:
        self._listener, self._filling = socket.socket(), socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, port))
        self._listener.listen(0)
        self._filling.connect((host, port))

    def close(self) -> None:
        """Who still dials is refused then, or reaches whoever listens next."""
        self._filling.close()
        self._listener.close()


class FullQueue:
    """A server that stands still, to which Linux answers no SYN any more either: the queue of its listener is full."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._held: list[socket.socket] = []
        taken = True
        while taken:
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect((host, int(port)))
            self._held.append(one)
            _, taken, _ = select.select([], [one], [], 0.1)

    def close(self) -> None:
        """Who still dials is answered by whoever listens next."""
        for one in self._held:
            one.close()
