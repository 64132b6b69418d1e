"""Requests made by hand, one or more for each trick that is known against servers and proxies.

Owns: lengths and chunks, smuggling, headers, versions of HTTP, methods, pages. Does not own: paths (`paths`), what is
drawn at random (`drawn`), crowds, and the bodies that only an engine reads (`engines`).
"""

from collections.abc import Iterator
from typing import Final

from components.gateway.caddy import next_lane
from components.gateway.caddy.upstreams import upstreams
from tests.attack.wire import Attack, End
from tests.attack.worlds import KEYS, PAGE, settings
from tests.gateway.world import VM_ADDRESS

CHAT: Final = "/v1/chat/completions"
BODY: Final = b'{"model":"m","messages":[]}'
MIB: Final = 1024 * 1024
REFUSED: Final = frozenset({400})


def head(*lines: str, method: str = "POST", path: str = CHAT, version: str = "HTTP/1.1", client: str = "demo") -> bytes:
    """A request's head with Host and key, which ends its connection; `lines` come after them."""
    key = (f"Authorization: Bearer {KEYS[client]}",) if client else ()
    return "\r\n".join(
        [f"{method} {path} {version}", "Host: gateway.example", *key, "Connection: close", *lines, "", ""]
    ).encode("latin-1")


def post(*lines: str, body: bytes = BODY, path: str = CHAT, client: str = "demo", method: str = "POST") -> bytes:
    """A whole request with its true length."""
    return head(*lines, f"Content-Length: {len(body)}", path=path, client=client, method=method) + body


def chunk(*pieces: bytes) -> bytes:
    """The pieces as a body in chunks."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def lengths() -> Iterator[Attack]:
    """Absent, malformed, giant and lying lengths."""
    kind = "lengths"
    for length in (
        "",
        "-1",
        "+5",
        "0x5",
        "5,5",
        "5, 6",
        "5;5",
        "5 5",
        "1e1",
        "\u0665",
        "9" * 19,
        "9" * 40,
        "5\t6",
        "--5",
    ):
        got = b"POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %s\r\n\r\nhello"
        sent = got % (CHAT.encode(), KEYS["demo"].encode(), length.encode())
        yield Attack(kind, f"length {length!r}", (sent,), wanted=REFUSED, requests=0)
    yield Attack(kind, "two lengths", (head("Content-Length: 5", "Content-Length: 6") + b"hello!",), wanted=REFUSED,
                 requests=0)  # fmt: skip
    yield Attack(kind, "one length twice", (head("Content-Length: 27", "Content-Length: 27") + BODY,), body=BODY)
    yield Attack(kind, "zeros before", (head(f"Content-Length: 000000{len(BODY)}") + BODY,), body=BODY)
    for length in (24 * MIB + 1, 10**12, 2**63 - 1, 10**18):
        sent = head(f"Content-Length: {length}")
        yield Attack(kind, f"giant: {length}", (sent, b"{"), wanted=frozenset({413}), requests=0)
    yield Attack(kind, "none", (head(),), wanted=frozenset({411}), requests=0)
    yield Attack(kind, "zero", (head("Content-Length: 0"),), body=b"")
    for size, sent in ((1000, 10), (200_000, 100_000), (5 * MIB, 10), (5 * MIB, MIB), (20 * MIB, 6 * MIB)):
        for end in (End.HALF, End.GONE, End.RESET):
            pieces = (head(f"Content-Length: {size}"), b"x" * sent)
            yield Attack(kind, f"{sent} bytes of {size}, {end}", pieces, end=end)
    yield Attack(kind, "more than it says", (head("Content-Length: 2"), b"{}" + b"x" * 5000), body=b"{}")


def chunks() -> Iterator[Attack]:
    """Bodies in chunks, most of them wrong."""
    kind, coded = "chunks", "Transfer-Encoding: chunked"
    for name, body in {
        "no size": b"\r\nhello\r\n0\r\n\r\n", "a size that is none": b"ZZ\r\nhello\r\n0\r\n\r\n",
        "a negative size": b"-5\r\nhello\r\n0\r\n\r\n", "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
        "a size of 2**64": b"1" + b"0" * 16 + b"\r\nhello\r\n0\r\n\r\n",
        "a size with 5000 zeros": b"0" * 5000 + b"5\r\nhello\r\n0\r\n\r\n",
        "a chunk longer than its size": b"5\r\nhello!!\r\n0\r\n\r\n", "no end of a chunk": b"5\r\nhello0\r\n\r\n",
        "a trailer that is none": b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "an extension of 10 KB": b"5;a=" + b"x" * 10_000 + b"\r\nhello\r\n0\r\n\r\n",
        "NUL in a size": b"5\0\r\nhello\r\n0\r\n\r\n",
        "a signed size": b"+5\r\nhello\r\n0\r\n\r\n",
    }.items():  # fmt: skip
        yield Attack(kind, name, (head(coded) + body,), wanted=REFUSED)
    yield Attack(
        kind, "bytes one by one", (head(coded), chunk(*(BODY[n : n + 1] for n in range(len(BODY))))), body=BODY
    )
    for name, body in {
        "extensions": b'1b;a="b;\t";c=d\r\n' + BODY + b"\r\n0;x\r\n\r\n",
        "LF alone": b"1b\n" + BODY + b"\n0\n\n", "a size with zeros": b"0000001b\r\n" + BODY + b"\r\n0\r\n\r\n",
        "upper case": b"1B\r\n" + BODY + b"\r\n0\r\n\r\n",
    }.items():  # fmt: skip
        yield Attack(kind, name, (head(coded) + body,), wanted=frozenset({200, 400}), body=BODY)
    for line in ("Authorization: Bearer x", "Content-Length: 5", "Transfer-Encoding: chunked", "Host: evil",
                 "X-Lane: vm", "X-Request-Id: later", "X-Serverless-Authorization: Bearer x"):  # fmt: skip
        body = b"1b\r\n" + BODY + b"\r\n0\r\n" + line.encode() + b"\r\n\r\n"
        for named in ((), (f"Trailer: {line.partition(':')[0]}",)):
            yield Attack(kind, f"trailer {line}, {len(named)} announced", (head(coded, *named) + body,),
                         wanted=frozenset({200, 400}), body=BODY)  # fmt: skip
    for end in (End.HALF, End.GONE, End.RESET):
        for body in (b"", b"5", b"5\r\nhel", b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n", b"400000\r\n" + b"x" * 3 * MIB):
            yield Attack(kind, f"{len(body)} bytes of chunks, {end}", (head(coded), body), end=end)
    yield Attack(kind, "too large, without an end", (head(coded), b"2000000\r\n" + b"x" * (25 * MIB)),
                 wanted=frozenset({413}))  # fmt: skip


def smuggling() -> Iterator[Attack]:
    """Two lengths of one body: whoever behind the gateway believed the other one would see a request of the caller's
    making. The second request asks for what no lane may get."""
    kind = "smuggling"
    evil = b"POST /v1/load_lora_adapter HTTP/1.1\r\nHost: evil\r\nContent-Length: 2\r\n\r\n{}"
    inner = b"0\r\n\r\n" + evil
    both = frozenset({200, 400, 404, 411, 501})
    for name, lines in {
        "CL.TE": (f"Content-Length: {len(inner)}", "Transfer-Encoding: chunked"),
        "TE.CL": ("Transfer-Encoding: chunked", "Content-Length: 3"),
        "TE.TE": ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        "TE.TE cow": ("Transfer-Encoding: chunked", "Transfer-Encoding: cow"),
        "TE twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    }.items():
        yield Attack(kind, name, (head(*lines) + inner,), wanted=both, body=b"")
    for coded in (
        "xchunked", " chunked", "\tchunked", "chunked ", "chunked\t", "chunked, identity", "identity, chunked",
        "chunked, chunked", "CHUNKED", '"chunked"', "chunked;q=1", "x chunked", "gzip, chunked", "chunked\x0b",
        "\x0bchunked", "chunked\0", "chunke\u00e4", "",
    ):  # fmt: skip
        for more in ((), (f"Content-Length: {len(inner)}",)):
            sent = head(f"Transfer-Encoding:{coded}", *more) + inner
            whole = inner if more else None
            yield Attack(kind, f"Transfer-Encoding:{coded!r}, {len(more)} length", (sent,),
                         wanted=both | {417}, body=whole if "chunked" not in coded.lower() else None)  # fmt: skip
    for line in (
        "Transfer-Encoding : chunked", " Transfer-Encoding: chunked", "X: y\r\n Transfer-Encoding: chunked",
        "Transfer_Encoding: chunked", "Transfer-Encoding\0: chunked", "Transfer-Encoding\r\n : chunked",
        "X: y\rTransfer-Encoding: chunked", "X: y\nTransfer-Encoding: chunked", "X: y\x85Transfer-Encoding: chunked",
        "TRANSFER-ENCODING: chunked", "Transfer-\u0117ncoding: chunked".encode("utf-8").decode("latin-1"),
        "Foo: bar\r\n\r\nTransfer-Encoding: chunked", "Content-Length : 5", "Content-Length\t: 5",
        "X-Request-Id: a\rb", "X-Request-Id: a\nX-Lane: vm", "Content-Type: a\r\n b", "User-Agent: a\0b",
        "Content-Type: a\r\n\tX-Serverless-Authorization: b", ": nameless", "na me: x", "X\u00e4: y", "X(: y",
    ):  # fmt: skip
        sent = head(line, f"Content-Length: {len(inner)}") + inner
        # What asks to be served elsewhere by a line of its own is served there; that is no smuggling.
        lanes = frozenset({"home", "vm"}) if "\nX-Lane" in line else frozenset({"home"})
        yield Attack(kind, f"line {line!r}", (sent,), wanted=both, lanes=lanes)
    for first in (b"GET /v1/models", b"HEAD /v1/models", b"GET /ready", b"GET /"):
        key = KEYS["demo"].encode()
        sent = first + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n" % (
            key,
            len(evil),
        )
        yield Attack(kind, f"{first.decode()} with a request as its body", (sent + evil,), end=End.LISTENS, requests=0)


def pipelines() -> Iterator[Attack]:
    """Requests before the answers to those before them."""
    kind = "pipelining"
    key = f"Authorization: Bearer {KEYS['demo']}\r\n"
    read = f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{key}\r\n".encode()
    asks = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{key}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    wrong_one = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    for count in (2, 20, 200):
        yield Attack(kind, f"{count} reads", (read * count,), answers=count, requests=0, wanted=frozenset({200}))
        yield Attack(kind, f"{count} questions", (asks * count,), answers=count, requests=count,
                     wanted=frozenset({200}))  # fmt: skip
    yield Attack(kind, "one without a key between", (asks + wrong_one + asks,), answers=2, requests=1,
                 wanted=frozenset({200, 401}))  # fmt: skip
    yield Attack(kind, "the second is malformed", (asks + b"?\r\n\r\n",), answers=2, wanted=frozenset({200, 400}))
    yield Attack(kind, "100 requests, nobody reads", (asks * 100,), end=End.GONE, requests=100)


def headers() -> Iterator[Attack]:
    """Names that the gateway uses inside, that proxies trust, that are hop-by-hop, and floods of them."""
    kind = "headers"
    marks = [*next_lane.marks(upstreams(settings(), vm_address=VM_ADDRESS)).values()]
    values = ("vm", "burst", "127.0.0.2:9931", "127.0.0.1:9181", "gateway", "1", "-1", "{lane}", *marks)
    names = (
        "X-Served-By", "X-Handler", "X-Gate", "X-Line", "X-Lane-Ms", "X-Size", "Trailer", "X-Serverless-Authorization",
        "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server",
        "X-Forwarded-Uri", "X-Forwarded-Prefix", "Forwarded", "X-Real-Ip", "X-Original-URL", "X-Rewrite-URL",
        "X-HTTP-Method-Override", "X-Cloud-Trace-Context", "Proxy-Authorization", "Proxy", "Via", "Cookie",
        "Set-Cookie", "Metadata-Flavor", "X-Request-Id", "Early-Data", "Sec-WebSocket-Key", "X-Api-Key", "Api-Key",
        "OpenAI-Organization", "Traceparent", "X-Lane2", "Range", "If-Match", "If-None-Match", "Keep-Alive", "TE",
    )  # fmt: skip
    for name in names:
        for value in values:
            yield Attack(kind, f"{name}: {value}", (post(f"{name}: {value}"),), wanted=frozenset({200}), body=BODY)
    for lane in ("home", "burst", "vm"):
        yield Attack(kind, f"X-Lane: {lane}", (post(f"X-Lane: {lane}"),), wanted=frozenset({200}),
                     lanes=frozenset({lane}))  # fmt: skip
        for client, own in (("private", {"home"}), ("cloud", {"vm", "burst"})):
            status = 200 if lane in own else 403
            yield Attack(kind, f"X-Lane: {lane}, by {client}", (post(f"X-Lane: {lane}", client=client),),
                         wanted=frozenset({status}), lanes=frozenset({lane}), client=client,
                         requests=int(status == 200))  # fmt: skip
    for lane in ("Home", "home,vm", "home vm", "127.0.0.2:9931", "../vm", "*", "{env.CLIENT_KEY_DEMO}", "a" * 5000):
        yield Attack(kind, f"X-Lane: {lane[:40]}", (post(f"X-Lane: {lane}"),), wanted=REFUSED, requests=0)
    for named in ("Content-Length", "Content-Type", "Host", "X-Request-Id", "X-Served-By", "Accept", "User-Agent",
                  "Transfer-Encoding", "X-Serverless-Authorization", "Upgrade", "close", "X-Gate"):  # fmt: skip
        for client in ("demo", "few", "cloud"):
            lanes = frozenset({"burst"}) if client == "cloud" else frozenset({"home"})
            yield Attack(kind, f"Connection: {named}, by {client}", (post(f"Connection: {named}", client=client),),
                         wanted=frozenset({200}), lanes=lanes, client=client)  # fmt: skip
    # The key itself is hop-by-hop: who has a limit goes through the server twice, and has none the second time.
    yield Attack(kind, "Connection: Authorization, by few", (post("Connection: Authorization", client="few"),),
                 wanted=frozenset({200, 401}), client="few")  # fmt: skip
    for text in ("{env.CLIENT_KEY_DEMO}", "{file.id-token}", "{http.request.header.Authorization}", "{", "}", "\\{",
                 "{env.PATH}", "{http.vars.token}", "{{.Env}}", "$(id)", "%0d%0aX: y", "\u00ff", "\t"):  # fmt: skip
        for name in ("User-Agent", "Accept", "Content-Type", "X-Request-Id", "Origin"):
            for client in ("demo", "few", "cloud"):
                lanes = frozenset({"burst"}) if client == "cloud" else frozenset({"home"})
                yield Attack(kind, f"{name}: {text}, by {client}", (post(f"{name}: {text}", client=client),),
                             wanted=frozenset({200}), lanes=lanes, client=client)  # fmt: skip
    for size in (1000, 4000, 9000, 20_000, 60_000):
        for name in ("User-Agent", "Accept", "Content-Type", "X-Request-Id", "Cookie"):
            yield Attack(kind, f"{name} of {size} bytes", (post(f"{name}: {'x' * size}"),))
    for count in (10, 100, 500):
        for name in ("User-Agent", "Accept", "Content-Type", "Authorization", "X-Request-Id"):
            lines = [f"{name}: {number}" for number in range(count)]
            yield Attack(kind, f"{name} {count} times", (post(*lines),))
    for number in (500, 1500, 5000):
        lines = [f"X-{count}: y" for count in range(number)]
        yield Attack(kind, f"{number} headers", (post(*lines),), wanted=frozenset({200, 431}))
    yield Attack(kind, "a header of 1 MB", (post("X-Big: " + "x" * MIB),), wanted=frozenset({431}), requests=0)
    yield Attack(kind, "a name of 60 KB", (post("X" * 60_000 + ": y"),), wanted=frozenset({200, 431}))
    for host in ("", "evil", "home:80", "127.0.0.1:9002", "localhost:2019", "metadata.google.internal", "a b", "a/b",
                 "[::1]", "x" * 300, "gateway.example:99999", "user@host", "{env.PATH}", "%00"):  # fmt: skip
        sent = post().replace(b"Host: gateway.example", f"Host: {host}".encode())
        yield Attack(kind, f"Host: {host[:40]}", (sent,), wanted=frozenset({200, 400}), body=BODY)
    yield Attack(kind, "two hosts", (post("Host: other"),), wanted=REFUSED, requests=0)
    yield Attack(kind, "no host", (post().replace(b"Host: gateway.example\r\n", b""),), wanted=REFUSED, requests=0)
    for coded in ("gzip", "br", "identity, gzip", "x" * 3000):
        yield Attack(kind, f"Content-Encoding: {coded[:20]}", (post(f"Content-Encoding: {coded}"),),
                     wanted=frozenset({415}), requests=0)  # fmt: skip
    for waits in ("100-continue", "100-Continue", "foo", "100-continue, foo", ""):
        yield Attack(kind, f"Expect: {waits}", (post(f"Expect: {waits}"),), wanted=frozenset({200, 417}))


def keys() -> Iterator[Attack]:
    """Without a key, with one that is almost a client's, and in every place but the right one."""
    kind = "keys"
    key = KEYS["demo"]
    shut = frozenset({401})
    for told in (
        "", "Bearer", f"Bearer {key[:-1]}", f"Bearer {key}x", f"Bearer  {key}", f"Basic {key}", key, f"Bearer {key} ,",
        f"Bearer {key.upper()}", "Bearer {env.CLIENT_KEY_DEMO}", "Bearer *", "Bearer " + "x" * 129, f"BEARER {key}",
        "Bearer \u00e4" + key, f"Bearer {key}\t{key}", "Bearer " + "A" * 50_000, "Digest a",
        f"Bearer {key},Bearer {key}",
    ):  # fmt: skip
        sent = post(f"Authorization: {told}", client="")
        yield Attack(kind, f"Authorization: {told[:40]}", (sent,), wanted=shut, requests=0)
    for line in (f"X-Api-Key: {key}", f"Api-Key: {key}", f"Cookie: key={key}", f"Proxy-Authorization: Bearer {key}",
                 f"X-Authorization: Bearer {key}", f"Authorization2: Bearer {key}"):  # fmt: skip
        yield Attack(kind, line.partition(":")[0], (post(line, client=""),), wanted=shut, requests=0)
    for path in (f"{CHAT}?api_key={key}", f"{CHAT}?authorization=Bearer%20{key}", f"{CHAT}#{key}"):
        yield Attack(
            kind, f"in the address: {path[:30]}", (post(path=path, client=""),), wanted=shut | {400}, requests=0
        )
    for path in ("/v1", "/v1/", "/v1/models", "/v1/lanes", "/v1/nothing", CHAT, "/V1/MODELS", "//v1//models"):
        for method in ("GET", "HEAD", "POST", "OPTIONS", "TRACE"):
            yield Attack(kind, f"{method} {path} without", (post(path=path, client="", method=method),), wanted=shut,
                         requests=0)  # fmt: skip


def protocols() -> Iterator[Attack]:
    """Other versions of HTTP, other protocols, and upgrades to them."""
    kind = "protocols"
    key = f"Authorization: Bearer {KEYS['demo']}"
    for version in ("HTTP/1.0", "HTTP/1.1"):
        yield Attack(kind, version, (head(f"Content-Length: {len(BODY)}", version=version) + BODY,),
                     wanted=frozenset({200}), body=BODY)  # fmt: skip
    sent = f"POST {CHAT} HTTP/1.0\r\n{key}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    yield Attack(kind, "HTTP/1.0 without a host", (sent,), wanted=frozenset({200}), body=BODY)
    yield Attack(kind, "HTTP/1.0 in chunks", (head("Transfer-Encoding: chunked", version="HTTP/1.0") + chunk(BODY),),
                 wanted=frozenset({200, 400, 411}))  # fmt: skip
    for version in ("HTTP/2.0", "HTTP/3.0", "HTTP/9.9", "HTTP/1.2", "http/1.1", "HTTP/1.1.1", "HTTP/1", "HTTPS/1.1",
                    "HTTP/-1.1", "HTTP/01.1", "ICY/1.0", ""):  # fmt: skip
        yield Attack(kind, f"version {version!r}", (head("Content-Length: 2", version=version) + b"{}",),
                     wanted=frozenset({400, 505, 200}))  # fmt: skip
    for line in (b"GET /v1/models\r\n", b"GET\r\n\r\n", b"\r\n\r\n\r\n", b"\0" * 100,
                 b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3",
                 b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\n\n", b" GET / HTTP/1.1\r\n\r\n", b"\x05\x01\x00", b"A" * 100_000,
                 b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5), b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
                 b"\r\n" * 1000):  # fmt: skip
        yield Attack(kind, f"bytes {line[:20]!r}", (line,), end=End.HALF, requests=0)
    for upgrade in ("websocket", "h2c", "TLS/1.0", "HTTP/2.0", "tcp", "a, b"):
        for more in ((), ("HTTP2-Settings: AAMAAABkAAQAAP__", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")):
            lines = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", *more)
            sent = post(*lines).replace(b"Connection: close\r\n", b"")
            yield Attack(kind, f"upgrade to {upgrade}, {len(more)} more", (sent,), wanted=frozenset({200}), body=BODY)
            reads = head(*lines, method="GET", path="/v1/models").replace(b"Connection: close\r\n", b"")
            yield Attack(kind, f"read with upgrade to {upgrade}, {len(more)} more", (reads,), requests=0,
                         wanted=frozenset({200}))  # fmt: skip


def methods() -> Iterator[Attack]:
    """Every method, on what is read, what is posted, and what is not there."""
    kind = "methods"
    known = ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "TRACK", "DEBUG", "PROPFIND", "MKCOL", "COPY",
             "LOCK", "SEARCH", "PURGE", "BREW", "post", "Post", "POSTX", "PRI", "M-SEARCH")  # fmt: skip
    for method in known:
        for path in (CHAT, "/v1/completions", "/v1/audio/speech"):
            yield Attack(kind, f"{method} {path}", (post(path=path, method=method),), wanted=frozenset({405}),
                         requests=0)  # fmt: skip
        for path in ("/v1/models", "/v1/lanes", "/", "/ready", "/v1/nothing"):
            yield Attack(kind, f"{method} {path}", (head(path=path, method=method),), requests=0)
    for method in ("P\0ST", "PO ST", "P\u00d6ST", "", "(POST)", "POST\t", "A" * 70_000):
        yield Attack(kind, f"method {method[:20]!r}", (post(method=method),), wanted=frozenset({400, 431}), requests=0)
    for target in ("evil:443", "127.0.0.1:2019", "home:80", CHAT, "http://home/", "metadata.google.internal:80"):
        yield Attack(kind, f"CONNECT {target}", (head(path=target, method="CONNECT"),),
                     wanted=frozenset({400, 401, 404, 405}), requests=0)  # fmt: skip
    yield Attack(kind, "OPTIONS *", (head(path="*", method="OPTIONS"),), wanted=frozenset({200}), requests=0)
    yield Attack(kind, "GET *", (head(path="*", method="GET"),), wanted=frozenset({400, 404}), requests=0)


def pages() -> Iterator[Attack]:
    """A browser's page, its preflights, and the console."""
    kind = "pages"
    for origin in (PAGE, "https://evil.example", "null", "*", f"{PAGE}.evil.example", f"{PAGE}:443", PAGE.upper(),
                   f"{PAGE}, https://evil.example", "{env.PATH}"):  # fmt: skip
        asks = (f"Origin: {origin}", "Access-Control-Request-Method: POST",
                "Access-Control-Request-Headers: authorization, {env.CLIENT_KEY_DEMO}, " + "x" * 3000)  # fmt: skip
        wanted = frozenset({204 if origin == PAGE else 403})
        sent = head(*asks, method="OPTIONS", client="")
        yield Attack(kind, f"preflight of {origin}", (sent,), wanted=wanted, requests=0)
        yield Attack(kind, f"request of {origin}", (post(f"Origin: {origin}"),), wanted=frozenset({200}), body=BODY)
    for line in ("Range: bytes=0-0", "Range: bytes=5-1", "Range: bytes=" + "0-," * 5000, "If-None-Match: *",
                 "If-Modified-Since: x", "If-Range: x", "Accept-Encoding: gzip", "Range: bytes=-99999999"):  # fmt: skip
        sent = head(line, method="GET", path="/", client="")
        yield Attack(kind, f"console with {line[:30]}", (sent,), wanted=frozenset({200, 206, 304, 416}), requests=0)


ALL: Final = (lengths, chunks, smuggling, pipelines, headers, keys, protocols, methods, pages)
