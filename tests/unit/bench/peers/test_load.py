"""Generators and backend on each other: what a request asks for is what comes, is seen, and is counted."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from bench.load import socks, wrk
from bench.load.backend import Backend
from bench.load.closed import Closed
from bench.load.jobs import Jobs
from bench.stage import body, request
from bench.systems.system import PATH
from lab.run.ports import free_port, is_free
from tests.kit import loop_beside, until


class Behind:
    """A backend in a thread, with a lane that faults strike and one that tells."""

    def __init__(self) -> None:
        self.lane, self.teller = free_port(), free_port()
        backend = Backend([f"lane=127.0.0.1:{self.lane}", f"teller=127.0.0.1:{self.teller}"])
        threading.Thread(target=backend.run, daemon=True).start()

    def steer(self, verb: str) -> Any:
        with contextlib.closing(HTTPConnection("127.0.0.1", self.teller, timeout=10)) as connection:
            connection.request("POST", f"/bench/{verb}?lane")
            return json.loads(connection.getresponse().read())

    def jobs(self, jobs: list[dict[str, Any]], *, callers: int = 0, patience_s: float = 20.0, port: int = 0) -> Jobs:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n"
        given = {"head": head, "jobs": jobs, "callers": callers, "patience_s": patience_s}
        loop = Jobs(("127.0.0.1", port or self.lane), given)
        loop.run()
        return loop


@pytest.fixture(scope="module")
def behind() -> Behind:
    return Behind()


@pytest.fixture(autouse=True)
def healed(behind: Behind) -> Iterator[None]:
    yield
    behind.steer("open")
    behind.steer("seen")


def job(at: float = 0.0, **fields: Any) -> dict[str, Any]:
    return {"at": at, "body": body(100, **fields).decode()}


def test_a_closed_loop_counts_each_answer_once(behind: Behind) -> None:
    before = behind.steer("seen")["count"]["lane"]
    loop = Closed(("127.0.0.1", behind.lane), 3, request({}, body(100)))
    loop.run(0.2)
    assert loop.failed == 0
    assert behind.steer("seen")["count"]["lane"] - before == len(loop.latencies) >= 3


def test_a_body_larger_than_any_buffer_comes_whole(behind: Behind) -> None:
    loop = Closed(("127.0.0.1", behind.lane), 2, request({}, body(3_000_000)))
    loop.run(0.2)
    assert (loop.failed, len(loop.latencies) >= 2) == (0, True)


def test_a_refused_answer_is_a_failure(behind: Behind) -> None:
    loop = Closed(("127.0.0.1", behind.lane), 1, request({}, body(100)))
    behind.steer("mute")
    threading.Timer(0.1, behind.steer, ["close"]).start()
    loop.run(0.05)
    assert (loop.failed, loop.latencies) == (1, [])


def test_callers_are_never_more_than_that_and_what_they_took_is_told(behind: Behind) -> None:
    loop = behind.jobs([job(seed=60)] * 6, callers=2)
    seen = behind.steer("seen")
    assert seen["most"]["lane"] == 2
    assert sorted(rid for _, rid, _, _ in seen["log"]) == [f"job-{number:06d}" for number in range(6)]
    assert all(ended - begun >= 0.06 for _, _, begun, ended in seen["log"])
    assert all(call.status == 200 and call.end - call.sent >= 0.06 for call in loop.done.values())


def test_jobs_are_sent_at_their_times(behind: Behind) -> None:
    loop = behind.jobs([job(0.0, seed=1000), job(0.1), job(0.2)])
    assert [
        call.sent - loop.begun >= at
        for call, at in zip(map(loop.done.get, range(3)), (0, 0.1, 0.2), strict=True)
        if call
    ]
    assert loop.done[1].end < loop.done[0].end, "nobody waits for another one's answer"


def test_a_stream_has_its_chunks_and_its_pauses(behind: Behind) -> None:
    loop = behind.jobs([job(stream=True, max_tokens=5, seed=300)])
    [stream] = loop.done.values()
    assert (stream.status, stream.pieces) == (200, 7), "five chunks, the last one, and [DONE]"
    assert stream.stalls >= 1, "pauses of 300 ms are stalls"
    assert stream.gap >= 0.29
    assert sum(loop.chunks.values()) == 7
    [smooth] = behind.jobs([job(stream=True, max_tokens=3, seed=1)]).done.values()
    assert smooth.first >= smooth.sent


@pytest.mark.parametrize(("verb", "status"), [("close", 0), ("mute", -1), ("freeze", -1)])
def test_a_fault_is_what_its_name_says(behind: Behind, verb: str, status: int) -> None:
    """Under way when it happens: reset, without an answer, without a sign."""
    threading.Timer(0.2, behind.steer, [verb]).start()
    loop = behind.jobs([job(0.0, seed=1200), job(0.7)], patience_s=1.0)
    # Mute is what comes new; what was under way is answered.
    assert [loop.done[number].status for number in (0, 1)] == [
        200 if verb == "mute" else status,
        status if verb != "freeze" else 0,
    ]
    assert behind.steer("open") == {}
    assert behind.jobs([job()]).done[0].status == 200, "healed"


def test_the_health_of_a_mute_server_is_fine_and_nothing_moves(behind: Behind) -> None:
    def metrics() -> str:
        with contextlib.closing(HTTPConnection("127.0.0.1", behind.lane, timeout=10)) as connection:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    def written(text: str) -> str:
        return next(line for line in text.splitlines() if "generation_tokens_total" in line)

    behind.steer("mute")
    before = metrics()
    behind.jobs([job()], patience_s=0.2)
    assert written(metrics()) == written(before)
    behind.steer("open")
    behind.jobs([job()])
    assert written(metrics()) != written(before)


def test_the_relay_reaches_a_name_and_refuses_others(behind: Behind) -> None:
    port = free_port()

    def dialled(name: bytes) -> tuple[int, bytes]:
        until(lambda: not is_free("127.0.0.1", port), "the relay listens")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"\x05\x01\x00")
            assert connection.recv(2) == b"\x05\x00"
            connection.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + (80).to_bytes(2, "big"))
            code = connection.recv(10)[1]
            if code:
                return code, b""
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            return code, connection.recv(4096)

    with loop_beside() as loop:
        names = f"home:80=127.0.0.1:{behind.lane}"
        serving = asyncio.run_coroutine_threadsafe(socks.main(f"127.0.0.1:{port}", names), loop)
        code, answer = dialled(b"home")
        assert (code, answer[:15]) == (0, b"HTTP/1.1 200 OK")
        assert dialled(b"other")[0] == 5
        serving.cancel()


WRK = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 2 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   151.49us  258.98us   5.33ms   97.53%
  12345 requests in 1.10s, 9.31MB read
{more}Requests/sec:  11222.7
"""


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", (12345, 0, 1.1)),
        ("  Non-2xx or 3xx responses: 45\n", (12300, 45, 1.1)),
        ("  Socket errors: connect 1, read 2, write 3, timeout 4\n", (12345, 10, 1.1)),
    ],
)
def test_what_wrk_prints_is_read(more: str, expected: tuple[int, int, float]) -> None:
    assert wrk.read(WRK.format(more=more)) == expected


def test_wrk_that_prints_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        wrk.read("unable to connect to 127.0.0.1:1 Connection refused")


def test_the_script_of_wrk_has_the_whole_request() -> None:
    text = wrk.script({"Authorization": "Bearer k"}, b'{"model":"m"}')
    assert 'wrk.headers["Authorization"] = "Bearer k"' in text
    assert r'wrk.body = "{\"model\":\"m\"}"' in text
