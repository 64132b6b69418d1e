"""Two helpers for programs with an event loop, apart from `serving`, whose import alone costs half a second."""

import asyncio
import contextlib
import signal
import socket
import struct


def stop_event() -> asyncio.Event:
    """Return an event which SIGTERM and SIGINT set; call it inside the running loop."""
    stop = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sig, stop.set)
    return stop


def reset(transport: asyncio.WriteTransport) -> None:
    """Closes a connection with RST, as the kernel does for a process that is gone."""
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
