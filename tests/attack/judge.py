"""The rules that hold for every request, whatever is in it.

Owns: what a caller may see, what may reach a lane, and whether anybody is blamed. Does not own: what is sent.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx2
import openai

from components.gateway.caddy.routes import REQUEST_ID
from tests.attack import worlds
from tests.attack.wire import Attack, End, Exchange, Reply
from tests.attack.worlds import FIRST, KEYS, Arrived
from tests.gateway.routing import sha256
from tests.gateway.world import TOKEN, World
from tests.kit import happens

ERRORS: Final = Path(__file__).parents[2] / "docs" / "errors.md"
GO: Final = {400: "text/plain", 417: "", 431: "text/plain", 501: "text/plain", 505: "text/plain"}
"""Answers of Go's server itself, which has not understood the request and so hands it to nobody: by status, the type of
their text. RFC 9110 and 9112 ask for them: 417 an expectation that is none, 501 an unknown Transfer-Encoding, 505
another version of HTTP."""
POSTED: Final = re.compile(r"/v1/(chat/completions|completions|embeddings|audio(/[A-Za-z0-9._~-]+)*)")
"""What a lane answers; below a service's path all is the service's."""
HEADERS: Final = frozenset({
    "host", "content-type", "accept", "user-agent", "x-request-id", "content-length", "transfer-encoding",
})  # fmt: skip
"""All that a lane gets; burst the ID token besides."""
GO_AGENT: Final = "Go-http-client/1.1"
"""What Go's client calls itself where the caller says by `Connection` that his own name is for the first hop."""
SAID: Final = ("content-type", "accept", "user-agent")
"""Of them the caller's own."""
EXCEPTIONS: Final[dict[int, type[openai.APIStatusError]]] = {
    400: openai.BadRequestError, 401: openai.AuthenticationError, 403: openai.PermissionDeniedError,
    404: openai.NotFoundError, 429: openai.RateLimitError, 503: openai.InternalServerError,
}  # fmt: skip


def documented() -> set[tuple[int, str]]:
    """Status and code of every error in docs/errors.md."""
    rows = [line.split("|")[1:3] for line in ERRORS.read_text().splitlines() if re.match(r"\| \d{3} \|", line)]
    return {(int(status), code) for status, codes in rows for code in re.findall(r"`([a-z_]+)`", codes)}


DOCUMENTED: Final = documented()


def reached(here: World) -> list[Arrived]:
    """What is at the lanes since they forgot."""
    return [one for lane in worlds.recorders(here) for one in lane.arrived]


def wrong(here: World, attack: Attack, got: Exchange) -> list[str]:
    """Every rule that this exchange breaks, in words."""
    found: list[str] = []
    if not got.replies and attack.end in (End.READS, End.HALF) and not got.closed:
        found.append("no answer, and the connection stays open")
    if len(got.replies) > max(attack.answers, attack.requests):
        found.append(f"{len(got.replies)} answers to {max(attack.answers, attack.requests)} requests")
    for reply in got.replies:
        found += _answer(attack, reply, closed=got.closed)
        if attack.wanted and reply.status not in attack.wanted:
            found.append(f"status {reply.status}, wanted {sorted(attack.wanted)}")
    arrived = reached(here)
    if len(arrived) > attack.requests and attack.end not in (End.GONE, End.RESET):
        found.append(f"{len(arrived)} requests at the lanes, {attack.requests} were sent")
    for one in arrived:
        found += _at_a_lane(attack, one)
    found += _bodies(here, attack)
    if blamed := worlds.fails(here):
        found.append(f"blamed: {blamed}")
    return found


def _answer(attack: Attack, reply: Reply, *, closed: bool) -> list[str]:
    text, kind = reply.body.decode("latin-1"), reply.get("content-type")
    if any(key in text or any(key in value for _, value in reply.headers) for key in (*KEYS.values(), TOKEN)):
        return ["an answer holds a key"]
    if not reply.lane:
        if attack.sent.startswith(b"OPTIONS *") and reply.status == 200:
            return []
        if reply.status in GO and (closed or reply.get("connection") == "close") and kind.startswith(GO[reply.status]):
            return []
        # Caddy's own, before any route: the Host is missing or none.
        if (reply.status, reply.error.get("code")) == (400, "bad_request"):
            return exception(reply)
        return [f"an answer of nobody's: {reply.status} {kind} {text[:80]!r}"]
    if reply.status == 499 and attack.end is End.HALF:
        return []
    if reply.lane in FIRST.values() or reply.lane == "vm":
        if reply.lane not in attack.lanes:
            return [f"answered by {reply.lane}"]
        # A line that is longer than a model server reads (aiohttp, llama.cpp: 8 KiB).
        fits = max(map(len, attack.sent.partition(b"\r\n\r\n")[0].split(b"\r\n"))) < 8000 or reply.status != 400
        return (
            []
            if reply.status == 200 or not fits
            else [f"{reply.lane} could not read what it got: {reply.status} {text[:80]!r}"]
        )
    if reply.lane != "gateway":
        return [f"answered by {reply.lane!r}"]
    if not re.fullmatch(REQUEST_ID, reply.get("x-request-id")):
        return [f"its id is {reply.get('x-request-id')!r}"]
    if reply.status < 400:
        return []
    if attack.sent.startswith(b"HEAD "):
        return [f"{reply.status} of the gateway's own"] if reply.status >= 500 else []
    if reply.status == 503 and attack.end is End.HALF:
        # He ended the connection before his body's end. Of one that streams, Caddy can't tell whose end it was.
        return []
    return _refusal(reply)


def _refusal(reply: Reply) -> list[str]:
    code = reply.error.get("code")
    if (reply.status, code) == (416, None):
        # A range of the console's page that is none.
        return []
    if (reply.status, code) not in DOCUMENTED:
        return [f"an error that nobody documents: {reply.status} {code}"]
    if reply.status >= 500:
        return [f"{reply.status} {code}, and it is the caller's fault"]
    return exception(reply)


def exception(reply: Reply) -> list[str]:
    """Whether the stock SDK makes of it what it should."""
    given = httpx2.Response(reply.status, headers=list(reply.headers), content=reply.body)
    transport = httpx2.MockTransport(lambda _: given)
    with (
        httpx2.Client(transport=transport) as http,
        openai.OpenAI(base_url="http://x/v1", api_key="k", http_client=http, max_retries=0) as client,
    ):
        try:
            client.chat.completions.create(model="m", messages=[])
        except openai.APIStatusError as error:
            wanted = EXCEPTIONS.get(reply.status, openai.APIStatusError)
            told = (type(error), error.code, error.status_code)
            if told == (wanted, reply.error["code"], reply.status) and reply.error["message"] in error.message:
                return []
            return [f"the SDK makes {told} of it"]
        except openai.OpenAIError as error:
            return [f"the SDK makes {type(error).__name__} of it"]
    return ["the SDK takes it for an answer"]


def _at_a_lane(attack: Attack, one: Arrived) -> list[str]:
    names, found = [name for name, _ in one.headers], list[str]()
    if one.lane not in attack.lanes:
        found.append(f"it reached {one.lane}")
    if one.method != "POST" or not POSTED.fullmatch(one.path):
        found.append(f"{one.lane} got {one.method} {one.path[:200]}")
    if len(set(names)) < len(names):
        found.append(f"{one.lane} got a header twice: {names}")
    own = HEADERS | {"x-serverless-authorization"} if one.lane == "burst" else HEADERS
    if more := set(names) - own:
        found.append(f"{one.lane} got {sorted(more)}")
    told = dict(one.headers)
    if any(key in value for key in KEYS.values() for value in told.values()):
        found.append(f"{one.lane} got a key")
    if one.lane == "burst" and told.get("x-serverless-authorization") != f"Bearer {TOKEN}":
        found.append("burst got another token than the pilot's")
    if told.get("host") not in ("home:80", f"{worlds.VM_ADDRESS}:9931") and one.lane != "burst":
        found.append(f"{one.lane} got Host {told.get('host')}")
    if not re.fullmatch(REQUEST_ID, told.get("x-request-id", "")):
        found.append(f"{one.lane} got the id {told.get('x-request-id')!r}")
    sent = attack.sent.decode("utf-8", "surrogateescape")
    for name in SAID:
        # Several values come as one, and so do several lines of one.
        if any(part not in sent for part in re.split("[ ,]", told.get(name, ""))) and told[name] != GO_AGENT:
            found.append(f"{one.lane} got {name}: {told[name][:80]!r}, which the caller never said")
    return found


def _bodies(here: World, attack: Attack) -> list[str]:
    if attack.body is None:
        return []
    bodies = {(one.length, one.sha256) for lane in worlds.recorders(here) for one in lane.received}
    return [f"a lane got another body: {length} bytes" for length, sha in bodies if sha != sha256(attack.body)]


def afterwards(here: World, clients: Sequence[str] = tuple(FIRST)) -> list[str]:
    """Whether an ordinary caller of each client is still answered by his first lane, and nobody is blamed."""
    found: list[str] = []
    for client in clients:
        answer = here.call(Authorization=f"Bearer {KEYS[client]}")
        if (answer.status, answer.lane) != (200, FIRST[client]):
            found.append(f"an ordinary caller ({client}) got {answer.status} of {answer.lane or 'nobody'} afterwards")
    if not happens(lambda: not any(lane.running for lane in worlds.recorders(here)), 5):
        found.append("a lane still works for somebody who is gone")
    worlds.forget(here)
    return found


def logged(log: str) -> list[str]:
    """What is wrong with the gateway's log: a line that is no JSON, or one that holds a key."""
    found: list[str] = []
    for line in log.splitlines():
        if any(key in line for key in (*KEYS.values(), TOKEN)):
            found.append(f"the log holds a key: {line[:300]}")
        if '"severity":"panic"' in line or "panic" in line.lower().split('"request"')[0]:
            found.append(f"Caddy panicked: {line[:300]}")
        try:
            json.loads(line)
        except ValueError:
            found.append(f"a line of the log is none of JSON: {line[:200]!r}")
    return found
