"""HTTP and SOCKS5 as a client, as little of both as is needed.

Owns: one request on a connection of its own, and the errors that a peer can cause. Does not own: how long it may take.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Final, TypeAlias

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
FAILURES: Final = (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError)
"""What a peer can cause. `TimeoutError` is an `OSError`."""
LARGEST: Final = 8 * 1024 * 1024


async def fetch(
    connection: Awaitable[Stream], host: str, path: str, headers: Mapping[str, str], method: str = "GET", body: str = ""
) -> tuple[int, str]:
    """Status and body of one request on a connection of its own. The caller bounds the time."""
    status, _, text = await answer(connection, host, path, headers, method, body)
    return status, text


async def answer(
    connection: Awaitable[Stream], host: str, path: str, headers: Mapping[str, str], method: str = "GET", body: str = ""
) -> tuple[int, dict[str, str], str]:
    """The same with the answer's headers, their names in small letters; of several equal ones the last."""
    reader, writer = await connection
    try:
        lines = {"Host": host, "Connection": "close", "Content-Length": str(len(body)), **headers}
        if method == "GET":
            del lines["Content-Length"]
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n{body}".encode())
        await writer.drain()
        status_line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        received = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields if line)}
        return int(status_line.split()[1]), received, (await _body(reader, received)).decode(errors="replace")
    finally:
        # No goodbye: a peer that does not read must not hold us.
        writer.transport.abort()


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    parts: list[bytes] = []
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            if size + sum(map(len, parts)) > LARGEST:
                raise ValueError("the answer is too large")
            parts.append((await reader.readexactly(size + 2))[:-2])
        return b"".join(parts)
    if "content-length" in headers:
        return await reader.readexactly(min(int(headers["content-length"]), LARGEST))
    while piece := await reader.read(65536):
        parts.append(piece)
        if sum(map(len, parts)) > LARGEST:
            raise ValueError("the answer is too large")
    return b"".join(parts)


async def through_socks(proxy: tuple[str, int], target: tuple[str, int]) -> Stream:
    """A connection to `target`, resolved and dialled by the SOCKS5 proxy. It stands only once the peer accepted."""
    reader, writer = await asyncio.open_connection(*proxy)
    try:
        writer.write(b"\x05\x01\x00")
        if await reader.readexactly(2) != b"\x05\x00":
            raise ConnectionError("the SOCKS proxy wants a password")
        name = target[0].encode()
        writer.write(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + target[1].to_bytes(2, "big"))
        answer = await reader.readexactly(4)
        if answer[1] != 0:
            raise ConnectionError(f"the SOCKS proxy could not connect (code {answer[1]})")
        size = {1: 4, 4: 16}.get(answer[3]) or (await reader.readexactly(1))[0]
        await reader.readexactly(size + 2)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer
