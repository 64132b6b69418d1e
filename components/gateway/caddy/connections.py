"""How long Caddy keeps a connection to a lane: four idle seconds, or for one request.

Owns: the transport's keep-alive, and the header that ends a connection. Does not own: burst's hop, whose platform
spreads requests over its instances.

Where a balancer hands out connections, one that is in use again and again leads all its requests to one machine, while
another machine is idle. Keep-alive is the handler's, and home's connections go through the tunnel; so the header says
it: Go's transport closes a connection after a request with `Connection: close`.
"""

from collections.abc import Sequence
from typing import Final

from components.gateway.caddy.answers import Json
from components.gateway.caddy.upstreams import Upstream

IDLE: Final = "4s"
"""Below the 5 s after which llama.cpp closes an idle connection: a large body sent into a closing connection is lost,
for it can't be replayed. Home's Traefik (`home.traefik`) and vLLM (`vllm.KEEP_ALIVE_S`) keep theirs longer."""
_NEXT: Final = "{next_connection}"


def kept() -> Json:
    """A transport's `keep_alive`."""
    return {"max_idle_conns_per_host": 256, "idle_timeout": IDLE}


def named(lanes: Sequence[Upstream]) -> list[Json]:
    """Handler of the placeholder in `header`, where a lane needs it."""
    balanced = [upstream for upstream in lanes if upstream.balanced]
    if not balanced:
        return []
    return [
        {
            "handler": "map",
            "source": "{http.reverse_proxy.upstream.hostport}",
            "destinations": [_NEXT],
            "mappings": [{"input": upstream.address, "outputs": ["close"]} for upstream in balanced],
            "defaults": ["keep-alive"],
        }
    ]


def header(lanes: Sequence[Upstream]) -> dict[str, str]:
    """What a lane is told of the connection."""
    return {"Connection": _NEXT} if any(upstream.balanced for upstream in lanes) else {}
