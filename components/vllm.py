"""vLLM's command line, as pure functions, for home's services and for the burst lane.

Owns: every argument that vLLM gets, and its reason. Does not own: images and weights (`settings.presets`,
`settings.burst`), the chart's values (`home.chart`), the routing.

Each argument was read in vLLM 0.29.0 itself (wheel `vllm==0.29.0`; its CUDA 12.9 image is `v0.29.0-cu129`). The file
that declares an argument stands beside it, and tests hold all of them against the whole list of that version.
"""

import json
from collections.abc import Sequence
from typing import Final

from components import ports

REPOSITORY: Final = "docker.io/vllm/vllm-openai"
"""vLLM's official image: who names it gets the arguments from here."""
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
OWNED: Final = frozenset({
    "--host", "--port", "--served-model-name", "--gpu-memory-utilization", "--kv-cache-memory-bytes",
    "--allowed-media-domains", "--shutdown-timeout", "--api-key", "--root-path", "--config",
})  # fmt: skip
"""Arguments that say what other settings, the chart or the gateway rely on."""


def owned(arguments: Sequence[str]) -> list[str]:
    """Which of `OWNED` stand among `arguments`, in any spelling vLLM's parser takes: `_` for `-`, or cut short."""
    words = [word.partition("=")[0].replace("_", "-") for word in arguments if len(word) > 2 and word.startswith("--")]
    return sorted(flag for flag in OWNED if any(flag.startswith(word) for word in words))


def arguments(
    *,
    weights: str,
    served_name: str,
    gpu_memory_utilization: float,
    max_requests: int,
    drain_s: int,
    own: Sequence[str],
) -> list[str]:
    """The arguments after `vllm serve`, in order; `own` are the model's, last, for vLLM takes the last of two.

    `max_requests` is what the gateway sends at most at a time, `drain_s` the longest time a request may run.
    """
    return [
        # The model is positional in `vllm serve`; `--model` is deprecated there (entrypoints/cli/serve.py).
        weights,
        # entrypoints/launchers/cli_args.py: unset means every address; said, so that it stays so.
        "--host", "0.0.0.0",
        "--port", str(ports.VLLM),
        # engine/arg_utils.py, ModelConfig: every lane answers to one name, whatever weights stand behind it.
        "--served-model-name", served_name,
        # engine/arg_utils.py, CacheConfig: share of the whole card for this process; time slices limit no memory.
        "--gpu-memory-utilization", str(gpu_memory_utilization),
        # engine/arg_utils.py, SchedulerConfig: no more than is ever sent, so graphs and buffers aren't sized for 256.
        "--max-num-seqs", str(max_requests),
        # engine/arg_utils.py, ModelConfig.allowed_media_domains: else callers make the home machine fetch any URL.
        # multimodal/media/connector.py compares it before the first fetch, so nobody is there to redirect it, for
        # pictures, video and audio alike; file:// needs an argument of its own.
        "--allowed-media-domains", NO_REMOTE_MEDIA,
        # engine/arg_utils.py (since 0.18): on SIGTERM running requests are finished; the default 0 aborts them.
        "--shutdown-timeout", str(drain_s),
        # entrypoints/launchers/cli_args.py: health checks come several times a second.
        "--disable-access-log-for-endpoints", "/health",
        *own,
    ]  # fmt: skip


def context(tokens: int) -> tuple[str, ...]:
    """Context of one request, tokens: most models' own would not fit a share of the card."""
    # engine/arg_utils.py, ModelConfig.
    return ("--max-model-len", str(tokens))


def vision(tokens: int) -> tuple[str, ...]:
    """Arguments of Qwen2.5-VL with a context of `tokens`."""
    return (
        *context(tokens),
        # engine/arg_utils.py, MultiModalConfig.limit_per_prompt (default 999 each): video would cost memory at start.
        "--limit-mm-per-prompt", _json({"image": IMAGES_PER_PROMPT, "video": 0}),
        # engine/arg_utils.py, MultiModalConfig.mm_processor_kwargs: forwarded to Qwen2.5-VL's image processor.
        "--mm-processor-kwargs", _json({"max_pixels": MAX_PIXELS}),
    )  # fmt: skip


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
