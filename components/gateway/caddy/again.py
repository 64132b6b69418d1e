"""Requests that come back: the server is its own upstream, on loopback, where that lets a request be known or counted.

Owns: how a request that is back is told from a caller's, and what must not be done for it twice. Does not own: why it
goes that way (`lengths`, `turns`).

What comes back is a request like any other, with its key. No header tells it apart, for a caller could send it: the
local address does.
"""

from typing import Final

from components import ports
from components.gateway.caddy.answers import Json

_SERVED_BY: Final = "{its_lane}"


def listen(port: int) -> str:
    """Address of the server where a request is back."""
    return ports.loopback(port)


def back(*at: int) -> Json:
    """Matcher of requests that are back, at one of the ports."""
    return {"vars": {"{http.request.local.port}": [str(port) for port in at]}}


def unlogged(*at: int) -> Json:
    """Route of the server: a request that is back is in the access log already, as its caller sees it."""
    return {"match": [back(*at)], "handle": [{"handler": "vars", "log_skip": True}]}


def lanes(*at: int) -> dict[str, str]:
    """What stands for the lane of a request whose upstream was the server itself, by that upstream's address."""
    return {listen(port): _SERVED_BY for port in at}


def its_lane() -> Json:
    """Handler that knows the lane of a request that came back by what it answered."""
    return {
        "handler": "map",
        "source": "{http.reverse_proxy.header.X-Served-By}",
        "destinations": [_SERVED_BY],
        "mappings": [{"input_regexp": ".+", "outputs": ["${0}"]}],
        "defaults": ["gateway"],
    }
