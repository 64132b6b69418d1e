"""Timeouts of K3s' own Traefik, as a pure function.

Owns: the values that the stack adds to the Traefik that K3s ships. Does not own: Traefik's installation, the routes
(`charts/ai-service`).
"""

from typing import Any, Final

import yaml

MARGIN_S: Final = 60
"""How much longer Traefik waits than the gateway, seconds: the gateway ends a request, since it can say why."""

DIAL_S: Final = 2
"""How long Traefik waits for a pod's connection, seconds. Its default of 30 s is what each request would lose that goes
to a machine which is off, until Kubernetes has noticed; a pod that is there takes it in milliseconds."""
_BESIDE_OTHERS: Final = {
    # With the machine that the gateway calls: else one of the others, when it goes, would take all of home along.
    "nodeSelector": {"node-role.kubernetes.io/control-plane": "true"},
    "additionalArguments": [f"--serversTransport.forwardingTimeouts.dialTimeout={DIAL_S}s"],
}


def traefik_values(longest_request_s: int, *, nodes: int = 1) -> str:
    """`valuesContent` of the HelmChartConfig, for requests of at most `longest_request_s` seconds, at so many machines.

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
    values: dict[str, Any] = {"ports": {"web": {"transport": {"respondingTimeouts": timeouts}}}}
    return yaml.safe_dump(values | (_BESIDE_OTHERS if nodes > 1 else {}), sort_keys=False)
