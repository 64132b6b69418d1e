"""How many requests of one client run at a time: a hop for the clients whose settings say so.

Owns: the way of such a client's request out of the server and back into it, and the 429. Does not own: all that follows
(`routes`, `classes`).

The server is its own upstream, on a loopback address that has a spelling for each client: Caddy's counter behind
`max_requests` goes by it. What comes back there is a request like any other, with its key; it has had its turn. A
request that would be refused for what it is doesn't wait for one.
"""

from collections.abc import Sequence
from typing import Final

from components import ports
from components.gateway.caddy import again, answers, begun, connections, lengths
from components.gateway.caddy.answers import Json
from components.settings import Settings

SPARE_S: Final = 5
"""Of a request's time, left over when it has waited for its turn and then for a lane, seconds."""


def limited(settings: Settings) -> dict[str, int]:
    """The clients with a limit, by name, and how many of their requests this instance takes at a time."""
    return {client.name: settings.share(client.max_requests) for client in settings.clients if client.max_requests}


def turn_s(settings: Settings) -> int:
    """Longest wait for a turn, seconds: a lane is waited for after it, and both must end before the request does."""
    wait_s, timeout_s = settings.wait_s, settings.gateway.timeout_s
    return max(1, min(wait_s, timeout_s - wait_s - SPARE_S))


def routes(settings: Settings, longer: Json, before: Sequence[Json]) -> list[Json]:
    """Routes of the clients with a limit, after the handlers `before`; not for a body that is `longer` than allowed."""
    found = limited(settings)
    if not found:
        return []
    each = [
        {"match": [{"vars": {"client": [client]}}], "handle": [_turn(settings, client, number, most)]}
        for number, (client, most) in enumerate(found.items())
    ]
    # What has no length goes back once before, and has one then or is too large to be kept (`lengths`).
    length_unknown = {**lengths.unknown(), "not": [again.back(ports.LENGTHS)]}
    first_time: Json = {
        "vars": {"client": list(found)},
        "method": ["POST"],
        "not": [again.back(ports.TURNS), longer, length_unknown],
    }
    return [{"match": [first_time], "handle": [answers.subroute([{"handle": list(before)}, *each])]}]


def _turn(settings: Settings, client: str, number: int, most: int) -> Json:
    host, _, port = again.listen(ports.TURNS).partition(":")
    proxy: Json = {
        "handler": "reverse_proxy",
        # A zero more for each: another spelling of one port, and another address to Caddy's counters.
        "upstreams": [{"dial": f"{host}:{'0' * number}{port}", "max_requests": most}],
        "load_balancing": {"try_duration": f"{turn_s(settings)}s", "try_interval": "10ms"},
        "headers": {
            "request": {"set": {"X-Request-Id": ["{request_id}"]}, "delete": ["Expect"]},
            # Said once, on the way to the caller (`cors`).
            "response": {"delete": ["Access-Control-*", "Vary", begun.LANE_MS]},
        },
        "handle_response": [begun.came_back(settings.lanes)],
        "transport": {
            "protocol": "http",
            "compression": False,
            "keep_alive": connections.kept(),
        },
    }
    which = "which is its limit" if settings.gateway.max_instances == 1 else "its share on an instance of the gateway"
    message = f"{client} has {most} requests under way, {which}, and none has ended within {turn_s(settings)} s."
    full = answers.error(429, "rate_limit_exceeded", f"{message} Try again.", retry_after=answers.RETRY_AFTER_S)
    none_free = "{http.error.status_code} == 503"
    as_it_is: Json = {"handler": "error", "status_code": "{http.error.status_code}", "error": "{http.error.message}"}
    return answers.subroute(
        [{"handle": [proxy]}],
        on_error=[{"match": [{"expression": none_free}], "handle": [full]}, {"handle": [as_it_is]}],
    )
