"""Requests that nobody thought of: well-formed ones drawn by hypothesis, and a seeded fuzzer of bytes.

Owns: what is drawn. Does not own: the rules (`judge`). The same seed draws the same requests.
"""

import random
from collections.abc import Iterator
from typing import Final

from hypothesis import strategies as some

from tests.attack.handmade import BODY, CHAT, chunk, head, post
from tests.attack.wire import Attack, End
from tests.attack.worlds import FIRST

# --- drawn -----------------------------------------------------------------------------------------------------------

_TOKEN: Final = some.text("!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=12)
_VALUE: Final = some.text(
    some.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=80
)
_NAMES: Final = some.one_of(
    _TOKEN.map(lambda name: f"X-{name}"),
    some.sampled_from([
        "X-Lane", "X-Gate", "X-Line", "X-Request-Id", "X-Served-By", "Trailer", "Connection", "Upgrade", "Accept",
        "Content-Type", "User-Agent", "Cookie", "Origin", "Expect", "Content-Encoding", "Range", "Forwarded", "Via",
        "X-Forwarded-For", "TE", "Access-Control-Request-Method", "X-Serverless-Authorization",
    ]),
)  # fmt: skip
_SEGMENTS: Final = some.one_of(
    some.sampled_from(["v1", "chat", "completions", "audio", "speech", "models", "..", ".", "", "%2e%2e", "%2f",
                       "lanes", "metrics", "ready", "V1", "%00", "*"]),
    some.text("abc%20/._~;=?&", max_size=8),
)  # fmt: skip
_PATHS: Final = some.one_of(
    some.sampled_from([CHAT, "/v1/completions", "/v1/audio/speech", "/v1/models", "/"]),
    some.lists(_SEGMENTS, max_size=8).map(lambda parts: "/" + "/".join(parts)),
)
_METHODS: Final = some.one_of(some.just("POST"), some.sampled_from(["GET", "HEAD", "PUT", "OPTIONS", "TRACE"]), _TOKEN)


@some.composite
def requests(draw: some.DrawFn) -> Attack:
    """A request that any server can read, with anything in it."""
    client = draw(some.sampled_from([*FIRST]))
    lines = draw(some.lists(some.tuples(_NAMES, _VALUE), max_size=6))
    body = draw(some.binary(max_size=300))
    told = [f"{name}: {value}" for name, value in lines]
    method, path = draw(_METHODS), draw(_PATHS)
    if draw(some.booleans()):
        sent = post(*told, body=body, path=path, client=client, method=method)
    else:
        cut = draw(some.integers(0, len(body)))
        pieces = [piece for piece in (body[:cut], body[cut:]) if piece]
        sent = head("Transfer-Encoding: chunked", *told, path=path, client=client, method=method) + chunk(*pieces)
    # With X-Lane a caller chooses, among what is his.
    pins = any(name == "X-Lane" for name, _ in lines)
    own = {
        "demo": {"home", "burst", "vm"},
        "cloud": {"burst", "vm"},
        "private": {"home"},
        "few": {"home", "burst", "vm"},
    }
    lanes = frozenset(own[client]) if pins else frozenset({FIRST[client]})
    return Attack("drawn", f"{method} {path[:60]}", (sent,), client=client, lanes=lanes)


# --- bytes -----------------------------------------------------------------------------------------------------------

_SPECIAL: Final = (
    b"\r\n", b"\n", b"\r", b"\0", b"\t", b" ", b":", b"\r\n\r\n", b"\r\n ", b"\xff", b"\x80", b"%00", b"..", b"//",
    b"0", b"-1", b"18446744073709551616", b"chunked", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n",
    b"Content-Length: 99999999\r\n", b"Connection: keep-alive, Host\r\n", b"Expect: 100-continue\r\n", b"HTTP/1.0",
    b"POST ", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"0\r\n\r\n", b"ffffffffffffffff", b"{env.PATH}", b"\x0b", b"\x0c",
)  # fmt: skip


def fuzzed(seed: int, count: int) -> Iterator[Attack]:
    """Whole requests with up to six changes each, byte by byte, line by line, or by what servers stumble over."""
    draw = random.Random(seed)
    whole = (
        post("X-Request-Id: robot-7"),
        post("X-Request-Id: robot-7", client="few"),
        head("Transfer-Encoding: chunked", "Content-Type: application/json") + chunk(BODY, BODY),
        head("Transfer-Encoding: chunked", client="few") + chunk(BODY),
        head(method="GET", path="/v1/models"),
        post(path="/v1/audio/speech"),
    )
    for number in range(count):
        sent = bytearray(draw.choice(whole))
        for _ in range(draw.randint(1, 6)):
            _change(draw, sent)
        # Who half-closes waits for nothing that never comes.
        requests = 1 + sent.count(b" HTTP/1.")
        yield Attack("bytes", f"seed {seed}, number {number}", (bytes(sent),), end=End.HALF, requests=requests,
                     lanes=frozenset({"home"}))  # fmt: skip


def _change(draw: random.Random, sent: bytearray) -> None:
    at = draw.randrange(len(sent) + 1)
    match draw.randrange(7):
        case 0:
            sent[at:at] = draw.choice(_SPECIAL)
        case 1:
            del sent[at : at + draw.randint(1, 12)]
        case 2:
            sent[at : at + 1] = bytes([draw.randrange(256)])
        case 3:
            del sent[max(at, 20) :]
        case 4:
            lines = bytes(sent).split(b"\r\n")
            line = draw.randrange(len(lines))
            lines.insert(draw.randrange(len(lines) + 1), lines[line])
            sent[:] = b"\r\n".join(lines)
        case 5:
            lines = bytes(sent).split(b"\r\n")
            one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
            lines[one], lines[other] = lines[other], lines[one]
            sent[:] = b"\r\n".join(lines)
        case _:
            sent[at:at] = bytes(draw.randrange(256) for _ in range(draw.randint(1, 8)))
    if not sent:
        sent[:] = b"\r\n"
