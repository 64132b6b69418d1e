"""A service at home as a release of `charts/ai-service`: its chart values, as a pure function.

Owns: the values that the chart gets for vLLM's image and for any other. Does not own: vLLM's arguments (`vllm`), the
verdict of a probe (`liveness`), the list of services (`settings.declared_services`), the chart's defaults.
"""

import json
from pathlib import Path
from typing import Any, Final

from components import vllm
from components.home import liveness
from components.settings import Settings
from components.settings.declared_services import Service, answered, replicas, utilization

LIVENESS: Final = Path(liveness.__file__).read_text()
"""The probe's program, whole: the image brings Python and nothing of ours."""
STATE: Final = "/tmp/liveness"
"""Where a probe leaves the metrics that it saw for the next one."""
EMBEDDINGS: Final = "/v1/embeddings"


def values(service: Service, settings: Settings) -> dict[str, Any]:
    """Chart values of one service; what is not said here is the chart's default."""
    drain_s = settings.gateway.timeout_s
    found: dict[str, Any] = {
        "image": service.image,
        **({"replicas": len(pods)} if len(pods := replicas(service, settings)) > 1 else {}),
        "args": list(service.args),
        # Downloads belong on the volume, for any library that goes by HOME.
        "env": {**({"HOME": vllm.CACHE} if service.cache_gib else {}), **service.env},
        "port": service.port,
        "ingress": {"prefixes": _routed(service, settings)},
        "gpu": {"slices": service.slices, "card": settings.home.gpu},
        "resources": {"cpu": f"{service.millicores}m", "memory": f"{service.memory_gib}Gi"},
        "cache": {"gib": service.cache_gib, "mountPath": vllm.CACHE},
        "user": {"uid": service.uid},
        "probes": {"path": service.health},
        "drain": {"requestSeconds": drain_s},
    }
    return found | _vllm(service, settings, drain_s) if service.is_vllm else found


def _vllm(service: Service, settings: Settings, drain_s: int) -> dict[str, Any]:
    return {
        # Named, since the image's entry point changed between versions.
        "command": ["vllm", "serve"],
        "args": vllm.arguments(
            weights=service.weights,
            served_name=service.model,
            gpu_memory_utilization=utilization(service, settings),
            kv_cache_bytes=service.kv_cache_bytes if service.slices else None,
            max_requests=service.max_requests,
            drain_s=drain_s,
            own=service.args,
        ),
        "env": {
            "HOME": vllm.CACHE,
            # Python asks for the user's name while importing torch; an id without a passwd entry would end it there.
            "USER": "vllm",
            "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(vllm.KEEP_ALIVE_S),
            "VLLM_NO_USAGE_STATS": "1",
            **service.env,
        },
        "ingress": {"prefixes": _routed(service, settings), "metrics": "/metrics"},
        "liveness": {"command": _alive(service)},
    }


def _routed(service: Service, settings: Settings) -> list[str]:
    """What Traefik leads to it. Of a server's own paths, /tokenize, /pause and the rest stay inside the cluster."""
    return list(answered(settings) if service.completes else service.paths)


def _alive(service: Service) -> list[str]:
    """The probe's command: who makes vectors is asked for one, everybody else for a token."""
    embeds = EMBEDDINGS in service.paths
    path = EMBEDDINGS if embeds else "/v1/completions"
    question = {"input": "a"} if embeds else {"prompt": "a", "max_tokens": 1}
    body = json.dumps({"model": service.model, **question}, separators=(",", ":"))
    return ["python3", "-I", "-c", LIVENESS, f"127.0.0.1:{service.port}", STATE, path, body]
