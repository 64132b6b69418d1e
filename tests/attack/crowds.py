"""Many connections at a time, all slow, and what an ordinary caller notices; and whether time tells of a key.

Owns: crowds that send a head, a body or a large body for ever, and the measurement of keys. Does not own: single
requests (`handmade`). Times are shown and not judged; who is answered, and by which lane, is.
"""

import contextlib
import random
import socket
import statistics
import time
from collections.abc import Generator, Sequence
from typing import Final

from tests.attack import worlds
from tests.attack.campaign import Row
from tests.attack.handmade import MIB, head
from tests.gateway.world import KEY, World
from tests.kit import happens

HEAD_S: Final = 10
"""Declared (`read_header_timeout`)."""
ROUNDS: Final = 2000
"""Requests with each kind of wrong key."""
TOLD_S: Final = 20e-6
"""A difference that a caller on the same machine could tell after so many, seconds; a network's jitter is larger."""


@contextlib.contextmanager
def crowd(here: World, sent: Sequence[bytes]) -> Generator[list[socket.socket]]:
    """A connection for each, all of them open."""
    with contextlib.ExitStack() as open_ones:
        found: list[socket.socket] = []
        for data in sent:
            caller = open_ones.enter_context(socket.create_connection(("127.0.0.1", here.port), timeout=30))
            caller.sendall(data)
            found.append(caller)
        yield found


def answered(here: World, row: Row, times: int = 20) -> None:
    """An ordinary caller, beside the crowd; by whichever lane, for a slot is free a moment after who had it is gone."""
    for _ in range(times):
        began = time.monotonic()
        answer = here.call()
        row.seconds = max(row.seconds, time.monotonic() - began)
        row.answers[f"{answer.status} {answer.lane}"] += 1
        if answer.status != 200:
            row.wrong.append(f"an ordinary caller got {answer.status} of {answer.lane or 'nobody'}")


def slow_heads(here: World, count: int = 300) -> Row:
    """Half a head each: all are hung up on, by the declared time."""
    row, began = Row(f"{count} half heads", tried=count), time.monotonic()
    with crowd(here, [head()[:-2]] * count) as callers:
        answered(here, row)
        for caller in callers:
            with contextlib.suppress(ConnectionError):
                if not caller.recv(1):
                    continue
            row.answers["closed"] += 1
    row.kind += f"; all were hung up on after {time.monotonic() - began:.0f} s, {HEAD_S} are declared"
    return finished(here, row)


def slow_bodies(here: World, count: int = 300) -> Row:
    """A byte of a small body each, with a key: nobody of them has a lane."""
    row = Row(f"{count} small bodies that don't come", tried=count)
    with crowd(here, [head("Content-Length: 1000") + b"{"] * count):
        answered(here, row)
        if held := sum(lane.running for lane in worlds.recorders(here)):
            row.wrong.append(f"{held} of them have a lane")
    return finished(here, row)


def slow_large_bodies(here: World, count: int = 30) -> Row:
    """The same above what is kept: these have a slot each, and so a client's limit is what bounds them."""
    most = next(one.max_requests for one in worlds.settings().clients if one.name == "few")
    row = Row(f"{count} large bodies that don't come, of a client with {most} at a time", tried=count)
    with crowd(here, [head(f"Content-Length: {6 * MIB}", client="few") + b"x" * 1000] * count):
        happens(lambda: here.home.running >= (most or 0))
        answered(here, row)
        held = sum(lane.running for lane in worlds.recorders(here))
        row.at_lanes["home"] = held
        if held > (most or 0):
            row.wrong.append(f"{held} of them have a slot, {most} are declared")
    return finished(here, row)


def strangers(here: World, count: int = 300) -> Row:
    """Bodies that don't come, without a key: each is answered at once, and keeps no place."""
    row = Row(f"{count} bodies that don't come, without a key", tried=count)
    # Who says that he ends the connection himself is never waited for.
    sent = head("Content-Length: 1000", client="").replace(b"Connection: close\r\n", b"") + b"{"
    with crowd(here, [sent] * count) as callers:
        for caller in callers:
            caller.settimeout(5)
            told = b""
            with contextlib.suppress(TimeoutError):
                told = caller.recv(100)
            row.answers[told[9:12].decode() or "nothing"] += 1
            if not told.startswith(b"HTTP/1.1 401 "):
                row.wrong.append("no answer before the body's end")
        answered(here, row)
    return finished(here, row)


def finished(here: World, row: Row) -> Row:
    """Once all have hung up, nothing of them is left."""
    if not happens(lambda: not any(lane.running for lane in worlds.recorders(here))):
        row.wrong.append("a lane still works for somebody who is gone")
    if blamed := worlds.fails(here):
        row.wrong.append(f"blamed: {blamed}")
    answered(here, row, times=3)
    worlds.forget(here)
    return row


def key_times(here: World, seed: int, rounds: int = ROUNDS) -> Row:
    """Whether a wrong key is refused later the more of it is right: medians on one connection, mixed at random."""
    wrong = {"nothing of it": "x" * len(KEY), "half of it": KEY[:9] + "x" * 9, "all but its end": KEY[:-1] + "x"}
    order = [*wrong] * rounds
    random.Random(seed).shuffle(order)
    took: dict[str, list[float]] = {name: [] for name in wrong}
    for name in order:
        sent = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {wrong[name]}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", here.port), timeout=30) as caller:
            began = time.perf_counter()
            caller.sendall(sent)
            caller.recv(4096)
            took[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(found) for name, found in took.items()}
    told = ", ".join(f"{name} right {median * 1e6:.0f} µs" for name, median in medians.items())
    row = Row(f"keys by time: {told}", tried=len(order))
    row.answers["401"] = len(order)
    if max(medians.values()) - min(medians.values()) > TOLD_S:
        row.kind += f"; apart by more than {TOLD_S * 1e6:.0f} µs, which a busy machine does, too"
    return row


ALL: Final = (slow_heads, slow_bodies, slow_large_bodies, strangers)
