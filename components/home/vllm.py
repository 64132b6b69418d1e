"""vLLM as a release of `charts/ai-service`: its command line and its chart values, as pure functions.

Owns: every argument vLLM gets, and why. Does not own: the chart, the image's version (settings), the routing policy.

Each argument was read in vLLM 0.29.0 itself (wheel `vllm==0.29.0`; its CUDA 12.9 image is `v0.29.0-cu129`); the file
that declares it stands beside it.
"""

import json
from typing import Any, Final

from components.settings import Settings

PORT: Final = 8000
"""Port vLLM listens on inside its pod."""
CACHE: Final = "/cache"
"""Where the cache volume is mounted; HOME too, so that weights, compiled graphs and kernels all land on it."""
IMAGES_PER_PROMPT: Final = 2
MAX_PIXELS: Final = 589_824
"""Most pixels of one image after scaling (768 x 768): about 750 tokens, and it bounds the memory vLLM sets aside."""
NO_REMOTE_MEDIA: Final = "images-are-sent-inline.invalid"
"""The only host media may be fetched from: one that can't exist (RFC 6761). Inline `data:` images aren't checked."""
KEEP_ALIVE_S: Final = 120
"""How long idle connections are kept, seconds: longer than Traefik does (90 s). vLLM's own 5 s close a connection that
Traefik is just about to use, and that POST ends in 502."""


def arguments(
    *,
    weights: str,
    served_name: str,
    max_model_len: int,
    gpu_memory_utilization: float,
    max_requests: int,
    drain_s: int,
) -> list[str]:
    """The arguments after `vllm serve`, in order.

    `max_requests` is what the gateway sends at most at a time, `drain_s` the longest time a request may run.
    """
    return [
        # The model is positional in `vllm serve`; `--model` is deprecated there (entrypoints/cli/serve.py).
        weights,
        # entrypoints/launchers/cli_args.py: unset means every address; said, so that it stays so.
        "--host", "0.0.0.0",
        "--port", str(PORT),
        # engine/arg_utils.py, ModelConfig: every lane answers to one name, whatever weights stand behind it.
        "--served-model-name", served_name,
        # engine/arg_utils.py, ModelConfig: the model's own 128,000 tokens would not fit the card's share.
        "--max-model-len", str(max_model_len),
        # engine/arg_utils.py, CacheConfig: share of the whole card for this process; time slices limit no memory.
        "--gpu-memory-utilization", str(gpu_memory_utilization),
        # engine/arg_utils.py, SchedulerConfig: no more than is ever sent, so graphs and buffers aren't sized for 256.
        "--max-num-seqs", str(max_requests),
        # engine/arg_utils.py, MultiModalConfig.limit_per_prompt (default 999 each): video would cost memory at start.
        "--limit-mm-per-prompt", _json({"image": IMAGES_PER_PROMPT, "video": 0}),
        # engine/arg_utils.py, MultiModalConfig.mm_processor_kwargs: forwarded to Qwen2.5-VL's image processor.
        "--mm-processor-kwargs", _json({"max_pixels": MAX_PIXELS}),
        # engine/arg_utils.py, ModelConfig.allowed_media_domains: else callers make the home machine fetch any URL.
        "--allowed-media-domains", NO_REMOTE_MEDIA,
        # engine/arg_utils.py (since 0.18): on SIGTERM running requests are finished; the default 0 aborts them.
        "--shutdown-timeout", str(drain_s),
        # entrypoints/launchers/cli_args.py: health checks come several times a second.
        "--disable-access-log-for-endpoints", "/health",
    ]  # fmt: skip


def values(settings: Settings) -> dict[str, Any]:
    """Chart values of the vLLM release; what is not said here is the chart's default."""
    vllm = settings.home.vllm
    drain_s = settings.gateway.timeout_s
    return {
        "image": vllm.image,
        # Named, since the image's entry point changed between versions.
        "command": ["vllm", "serve"],
        "args": arguments(
            weights=vllm.weights,
            served_name=settings.model.name,
            max_model_len=vllm.max_model_len,
            gpu_memory_utilization=vllm.gpu_memory_utilization,
            max_requests=settings.home.max_requests,
            drain_s=drain_s,
        ),
        "env": {
            "HOME": CACHE,
            # Python asks for the user's name while importing torch; an id without a passwd entry would end it there.
            "USER": "vllm",
            "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(KEEP_ALIVE_S),
            "VLLM_NO_USAGE_STATS": "1",
        },
        "port": PORT,
        # Of vLLM's own paths, /tokenize, /pause, /metrics and the rest stay inside the cluster.
        "ingress": {"prefixes": ["/v1"], "exact": ["/health"]},
        "gpu": {"slices": vllm.slices},
        "cache": {"gib": vllm.cache_gib, "mountPath": CACHE},
        "drain": {"requestSeconds": drain_s},
    }


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
