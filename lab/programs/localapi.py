"""The daemon's local API on its socket, as much of it as the pilot uses: shutting the daemon down.

Owns: the check of the caller (Host, and the daemon's policy file, without which v1.102.5 answers 403). Does not own:
the shutdown.
"""

import asyncio
import contextlib
import json
from pathlib import Path

SHUTDOWN = "POST /localapi/v0/shutdown "
_POLICY = "--syspolicy-file="


def shutdown_allowed(extra_args: str) -> bool:
    """Whether the policy file named in the daemon's arguments lets root restart it."""
    files = [word.removeprefix(_POLICY) for word in extra_args.split() if word.startswith(_POLICY)]
    with contextlib.suppress(OSError, ValueError):
        return bool(files) and json.loads(Path(files[-1]).read_text()).get("AllowTailscaledRestart") is True
    return False


async def serve(path: str, extra_args: str, stop: asyncio.Event) -> asyncio.Server:
    """Answers on the unix socket `path`; an allowed shutdown sets `stop`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, body = "404 Not Found", "not found"
            if request.startswith(SHUTDOWN):
                line, body = "403 Forbidden", "shutdown access denied by policy"
                if "\r\nhost: local-tailscaled.sock\r\n" in request.lower() and shutdown_allowed(extra_args):
                    line, body = "200 OK", ""
            head = f"HTTP/1.1 {line}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write((head + body).encode())
            await writer.drain()
            if line == "200 OK":
                stop.set()
        writer.close()

    Path(path).unlink(missing_ok=True)
    return await asyncio.start_unix_server(answer, path)
