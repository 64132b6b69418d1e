"""What callers must see of the gateway whose bodies come in chunks, packed, late, broken or not to their end.

`test_bodies` runs them against the rendered configuration and against configurations with one rule taken out.
"""

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator

from tests.gateway.backends import Behaviour
from tests.gateway.routing import AT_ONCE_S, LARGE, LARGEST_REPLAYED, SMALL, Check, sha256
from tests.gateway.world import KEY, World
from tests.kit import happens, until

LARGEST_KEPT = LARGEST_REPLAYED[: len(LARGEST_REPLAYED) // 2]
"""The largest body without a length that can be repeated."""
PICTURE = LARGE[:1_500_000]
HEAD = "POST /v1/chat/completions HTTP/1.1\r\n"
CHUNKED = f"{HEAD}Transfer-Encoding: chunked"
MALFORMED = {
    "size": b"5\r\nhello\r\nZZ\r\nbroken\r\n",
    "end": b"5\r\nhelloXX5\r\nworld\r\n0\r\n\r\n",
    "trailer": b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
    "a long size": b"0" * 5000 + b"5\r\nhello\r\n0\r\n\r\n",
    "a long extension": b"5;a=" + b"x" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
}


def chunks(body: bytes, size: int = 65_536) -> Iterator[bytes]:
    """The body in pieces, which `http.client` sends as chunks."""
    return (body[start : start + size] for start in range(0, len(body), size))


def encoded(body: bytes) -> bytes:
    """The body as chunks, without the last one."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in chunks(body))


def fails(here: World) -> set[int]:
    """What Caddy holds against its upstreams."""
    return {row["fails"] for row in json.loads(here.admin("/reverse_proxy/upstreams"))}


def nobody_is_blamed(here: World, why: str) -> None:
    assert fails(here) == {0}, why
    answer = here.call()
    assert (answer.status, answer.lane, answer.seconds < AT_ONCE_S) == (200, "home", True), why


def occupied(here: World) -> int:
    """Callers who have a lane or want one, as the pilot reads it."""
    count = 'caddy_http_requests_in_flight{handler="reverse_proxy",server="api"} '
    lines = here.admin("/metrics").splitlines()
    return int(next((line[len(count) :] for line in lines if line.startswith(count)), "0"))


def settle(here: World) -> None:
    """Until home serves bodies of every size: each has checks of its own."""
    here.settle()
    for body in (SMALL, PICTURE, LARGE):
        until(lambda body=body: here.call(body=body).lane == "home", "home serves every size")
    here.home.reset()
    here.vm.reset()


# --- without a length ------------------------------------------------------------------------------------------------


def a_body_in_chunks_reaches_a_lane_as_any_other(here: World) -> None:
    for body in (b"", b"{}", SMALL, LARGEST_KEPT):
        for sent in (body, chunks(body)):
            answer = here.call(body=sent, X_Request_Id="robot-7", User_Agent="robot", Cookie="a=b",
                               X_Forwarded_For="1.2.3.4", Expect="100-continue", Accept="*/*")  # fmt: skip
            assert (answer.status, answer.lane, answer.headers["x-request-id"]) == (200, "home", "robot-7")
            assert not {"server", "via"} & answer.headers.keys()
        known, unknown = here.home.received[-2:]
        assert unknown == known
        assert (unknown.length, unknown.sha256) == (len(body), sha256(body))
    told = here.raw(CHUNKED, encoded(SMALL), b"0\r\n\r\n").lower()
    assert [told.count(name) for name in (b"x-request-id:", b"x-served-by:", b"date:", b"content-length:")] == [1] * 4


def it_is_repeated_on_the_next_lane(here: World) -> None:
    for behaviour in (Behaviour(status=503), Behaviour(die_after=50_000), Behaviour(status=500)):
        settle(here)
        here.home.behaviour = behaviour
        answer = here.call(body=chunks(LARGEST_KEPT))
        assert (answer.status, answer.lane, answer.seconds < AT_ONCE_S) == (200, "vm", True)
        assert here.vm.received[-1].sha256 == sha256(LARGEST_KEPT)


def its_size_is_known(here: World) -> None:
    """As the pilot says which lane is left for which size."""
    for left, sizes in {"short": ("vm", "home"), "picture": ("home", "vm")}.items():
        here.pilot.says[f"/lane/home/{left}"] = 503
        assert happens(lambda sizes=sizes: (here.call().lane, here.call(body=PICTURE).lane) == sizes)
        assert (here.call(body=chunks(b"{}")).lane, here.call(body=chunks(PICTURE)).lane) == sizes
        here.pilot.says[f"/lane/home/{left}"] = 200


def a_larger_one_streams_through_once(here: World) -> None:
    body = LARGEST_KEPT + b"x"
    for sent in (body, LARGE):
        assert here.call(body=chunks(sent)).lane == "home"
        assert here.home.received[-1].sha256 == sha256(sent)
    here.home.behaviour = Behaviour(die_after=8_000_000)
    answer = here.call(body=chunks(LARGE))
    assert (answer.status, answer.lane) in [(503, "gateway"), (0, "")], "the caller sees it"
    assert here.vm.begun == 0
    here.home.behaviour = Behaviour()
    nobody_is_blamed(here, "half a body")


def too_large_is_said_while_it_comes(here: World) -> None:
    answer = here.call(body=itertools.repeat(LARGE[:65_536], 1000))
    assert (answer.status, answer.error["code"], answer.lane) == (413, "request_too_large", "gateway")
    nobody_is_blamed(here, "too large")
    assert here.call(body=chunks(LARGE + LARGE[: 24 * 1024 * 1024 - len(LARGE)])).lane == "home", "the largest"


def its_answer_streams(here: World) -> None:
    here.home.behaviour = Behaviour(tokens=[0.0] * 3, step=True)
    seen: list[object] = []
    head = f"{CHUNKED}\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", here.port), timeout=here.patience) as caller:
        caller.sendall(head.encode() + encoded(SMALL) + b"0\r\n\r\n")
        with contextlib.suppress(TimeoutError), caller.makefile("rb") as told:
            while len(seen) < 3:
                here.home.release()
                seen.append(json.loads(next(line for line in told if line.startswith(b"data: "))[6:]))
    assert seen == [{"index": index} for index in range(3)]


# --- whose fault it is -----------------------------------------------------------------------------------------------


def a_malformed_chunk_is_the_caller_s_fault(here: World) -> None:
    for start, (why, pieces) in itertools.product((b"", encoded(LARGE[:3_000_000])), MALFORMED.items()):
        answer = here.raw(CHUNKED, start, pieces)
        assert answer.startswith(b"HTTP/1.1 400 "), (why, answer)
        assert b'"code": "bad_request"' in answer
        nobody_is_blamed(here, why)
    assert here.vm.begun == 0


def who_hangs_up_in_mid_body_frees_all(here: World) -> None:
    for sent in (5, 1_000_000, 8_000_000):
        here.raw(CHUNKED, encoded(LARGE[:sent]), until=lambda: True)
        nobody_is_blamed(here, f"{sent} bytes were sent")
    assert happens(lambda: here.home.running == 0)
    here.home.behaviour = Behaviour(hold=True)
    here.raw(CHUNKED, encoded(SMALL), b"0\r\n\r\n", until=lambda: here.home.running == 1)
    assert happens(lambda: here.home.gone == 1), "the engine stops working for nobody"
    here.home.behaviour = Behaviour()
    nobody_is_blamed(here, "he did not wait for the answer")


def who_trickles_holds_no_lane(here: World) -> None:
    until(lambda: occupied(here) == 0, "nobody calls")
    ended = threading.Event()

    def trickle() -> Iterator[bytes]:
        while not ended.wait(0.05):
            yield b" "

    slow = [threading.Thread(target=here.call, kwargs={"body": trickle()}) for _ in range(5)]
    for caller in slow:
        caller.start()
    try:
        with here.held(here.home, 2):
            began = time.monotonic()
            until(lambda: time.monotonic() > began + 0.5, "some of it came")
            assert {occupied(here) for _ in range(20)} == {2}, "nor does he want one"
    finally:
        ended.set()
        for caller in slow:
            caller.join(here.patience)
    nobody_is_blamed(here, "late")


# --- packed, or none at all ------------------------------------------------------------------------------------------


def a_packed_body_is_refused_at_once(here: World) -> None:
    for path in ("chat/completions", "completions"):
        for packed in ("gzip", "br", "deflate, gzip", "identity\r\nContent-Encoding: gzip"):
            head = f"POST /v1/{path} HTTP/1.1\r\nContent-Encoding: {packed}\r\n"
            for answer in (
                here.raw(f"{head}Content-Length: 1000000"),
                here.raw(f"{head}Transfer-Encoding: chunked", encoded(SMALL), b"0\r\n\r\n"),
            ):
                assert answer.startswith(b"HTTP/1.1 415 "), (packed, answer)
                assert b'"code": "unsupported_encoding"' in answer
                assert b"Accept-Encoding: identity\r\n" in answer
    assert here.home.begun == 0
    assert here.call(body=SMALL, Content_Encoding="Identity").lane == "home"
    assert "content-encoding" not in here.home.received[-1].headers


def the_key_comes_before_the_body(here: World) -> None:
    for lines in ("Transfer-Encoding: chunked", "Content-Length: 1000\r\nContent-Encoding: gzip"):
        with socket.create_connection(("127.0.0.1", here.port), timeout=here.patience) as caller:
            head = f"{HEAD}{lines}\r\nExpect: 100-continue\r\nHost: x\r\nAuthorization: Bearer {KEY}x\r\n\r\n"
            caller.sendall(head.encode())
            assert caller.recv(100).startswith(b"HTTP/1.1 401 "), lines


def who_has_no_key_is_not_waited_for(here: World) -> None:
    """Of a body that never comes: each such caller would keep a place of the instance until the timeout."""
    asks = "Origin: https://elsewhere.example\r\nAccess-Control-Request-Method: POST"
    for first, more, status in (
        ("POST /v1/chat/completions", f"Authorization: Bearer {KEY}x", 401),
        ("GET /v1/models", "", 401),
        ("POST /nothing", "", 404),
        ("GET /", "", 404),
        ("GET /ready", "", 404),
        ("OPTIONS /v1/chat/completions", asks, 403),
    ):
        for body in ("Content-Length: 100", "Transfer-Encoding: chunked"):
            head = f"{first} HTTP/1.1\r\nHost: x\r\n{body}" + (f"\r\n{more}" if more else "")
            with socket.create_connection(("127.0.0.1", here.port), timeout=AT_ONCE_S) as caller:
                caller.sendall(f"{head}\r\n\r\n1".encode())
                try:
                    told = caller.recv(100)
                except TimeoutError:
                    raise AssertionError(f"{first}, {body}: no answer") from None
            assert told.startswith(f"HTTP/1.1 {status} ".encode()), (first, body, told)
    assert here.call("GET", "/ready", None, Content_Length="0").status == 200


def the_way_back_is_no_back_door(here: World) -> None:
    """HTTP/2 is for the second address alone, which asks for a key as the first does."""
    for port, preface in {here.port: False, 9184: True}.items():
        told = b""
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection(("127.0.0.1", port), timeout=here.patience) as caller,
        ):
            caller.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5))
            told = caller.recv(4)
        assert (told[3:] == b"\4") == preface, (port, told)
    assert here.home.begun == 0


CHECKS: list[Check] = [
    a_body_in_chunks_reaches_a_lane_as_any_other, it_is_repeated_on_the_next_lane, its_size_is_known,
    a_larger_one_streams_through_once, too_large_is_said_while_it_comes, its_answer_streams,
    a_malformed_chunk_is_the_caller_s_fault, who_hangs_up_in_mid_body_frees_all, who_trickles_holds_no_lane,
    a_packed_body_is_refused_at_once, the_key_comes_before_the_body,
    who_has_no_key_is_not_waited_for, the_way_back_is_no_back_door,
]  # fmt: skip
