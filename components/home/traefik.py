"""Timeouts of K3s' own Traefik, as a pure function.

Owns: the values that the stack adds to the Traefik that K3s ships. Does not own: Traefik's installation, the routes
(`charts/ai-service`).
"""

from typing import Final

import yaml

MARGIN_S: Final = 60
"""How much longer Traefik waits than the gateway, seconds: the gateway ends a request, since it can say why."""


def traefik_values(longest_request_s: int) -> str:
    """`valuesContent` of the HelmChartConfig, for requests of at most `longest_request_s` seconds.

    Keys of traefik-helm-chart 28 and newer (`ports.web.transport`), in K3s since 1.32.
    """
    limit = f"{longest_request_s + MARGIN_S}s"
    timeouts = {
        # The whole request with its body; Traefik's own 60 s cuts the upload of a large picture over a slow line.
        "readTimeout": limit,
        # 0 is no limit: it would count from the request's header on, so it would cut a long streamed answer.
        "writeTimeout": "0s",
        # Longer than the gateway keeps idle connections (4 s, `gateway.caddy.connections`), so that Caddy never writes
        # into a closing one.
        "idleTimeout": limit,
    }
    return yaml.safe_dump({"ports": {"web": {"transport": {"respondingTimeouts": timeouts}}}}, sort_keys=False)
