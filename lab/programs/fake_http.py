"""The fake engine's HTTP: bodies in, events and broken connections out.

Owns: how each of them looks on the wire. Does not own: when they are sent (`fake_model`).
"""

import asyncio
import hashlib
import json
from typing import Any, Final

from aiohttp import web

from lab.programs import event_loop
from lab.programs.fake_state import Entry

MAX_BODY_BYTES: Final = 64 << 20
_FLUSH_SECONDS: Final = 0.2
"""Between the last bytes and an RST, which would else discard them at the client."""


async def receive(request: web.Request, entry: Entry) -> bytes | None:
    """Read the body, noting what came even if the client leaves half-way; None if it is too large."""
    digest, body = hashlib.sha256(), bytearray()
    try:
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                return None
    finally:
        entry.body_length, entry.sha256 = len(body), digest.hexdigest()
    return bytes(body)


async def event(response: web.StreamResponse, data: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(data).encode() + b"\n\n")


async def reset(request: web.Request, entry: Entry, begun: web.StreamResponse | None = None) -> web.StreamResponse:
    """Close the connection with RST; the response returned never reaches the client."""
    entry.outcome = "reset"
    if begun is not None:
        await asyncio.sleep(_FLUSH_SECONDS)
    if request.transport is not None:
        event_loop.reset(request.transport)
    if begun is None:
        raise ConnectionResetError("reset before headers")
    return begun
