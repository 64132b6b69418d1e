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
from components.models.contract import Contract

REPOSITORY: Final = "docker.io/vllm/vllm-openai"
"""vLLM's official image: who names it gets the arguments from here."""
CACHE: Final = "/cache"
"""Where the cache volume is mounted; HOME too, so that weights, compiled graphs and kernels all land on it."""
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
CONTRACT: Final = frozenset({
    "--max-model-len", "--limit-mm-per-prompt", "--mm-processor-kwargs", "--revision", "--enable-auto-tool-choice",
    "--tool-call-parser", "--reasoning-parser", "--chat-template",
})  # fmt: skip
"""Arguments of the model that every lane serves, which say what its requests may hold: `model` decides."""
MOST_CHOICES: Final = "VLLM_MAX_N_SEQUENCES"
ANY_NAME: Final = "VLLM_SKIP_MODEL_NAME_VALIDATION"
TOOL_PARSERS: Final = (
    "apertus", "cohere_command3", "cohere_command4", "deepseek_v3", "deepseek_v31", "deepseek_v32", "deepseek_v4",
    "dots", "ernie45", "functiongemma", "gemma4", "gigachat3", "glm45", "glm47", "granite", "granite-20b-fc",
    "granite4", "hermes", "hunyuan_a13b", "hy_v3", "hy_v4", "inkling", "internlm", "jamba", "kimi_k2", "kimi_k3",
    "lfm2", "ling3", "llama3_json", "llama4_json", "llama4_pythonic", "longcat", "mimo", "minicpm5", "minimax_m2",
    "minimax_m3", "mistral", "muse_glimmer", "olmo3", "openai", "phi4_mini_json", "poolside_v1", "pythonic",
    "qwen3_coder", "qwen3_xml", "seed_oss", "step3", "step3p5", "xlam",
)  # fmt: skip
"""What vLLM 0.29.0 knows (tool_parsers/__init__.py); with another it ends at its start."""
REASONING_PARSERS: Final = (
    "cohere_command3", "cohere_command4", "deepseek_r1", "deepseek_v3", "deepseek_v4", "ernie45", "gemma4", "glm45",
    "glm47", "granite", "holo2", "hunyuan_a13b", "hy_v3", "hy_v4", "inkling", "kimi_k2", "kimi_k3", "ling3", "mimo",
    "minimax_m2", "minimax_m2_append_think", "minimax_m3", "mistral", "muse_glimmer", "nemotron_v3", "olmo3",
    "openai_gptoss", "poolside_v1", "qwen3", "seed_oss", "step3", "step3p5",
)  # fmt: skip
"""The same of reasoning (reasoning/__init__.py)."""


def owned(arguments: Sequence[str], *, contract: bool) -> list[str]:
    """Which of `OWNED` stand among `arguments`, in any spelling vLLM's parser takes: `_` for `-`, or cut short.

    With `contract`, also those of `CONTRACT`.
    """
    words = [word.partition("=")[0].replace("_", "-") for word in arguments if len(word) > 2 and word.startswith("--")]
    flags = OWNED | CONTRACT if contract else OWNED
    return sorted(flag for flag in flags if any(flag.startswith(word) for word in words))


def arguments(
    *,
    weights: str,
    served_name: str,
    gpu_memory_utilization: float,
    kv_cache_bytes: int | None,
    max_requests: int,
    drain_s: int,
    own: Sequence[str],
) -> list[str]:
    """The arguments after `vllm serve`, in order; `own` are the model's, last, for vLLM takes the last of two.

    `max_requests` is what the gateway sends at most at a time, `drain_s` the longest time a request may run.
    `kv_cache_bytes` None: nobody else is on the card, so vLLM may measure what its share leaves.
    """
    # engine/arg_utils.py, CacheConfig. Else vLLM takes for its own all that vanishes from the card while it loads and
    # warms up (v1/worker/gpu_worker.py, determine_available_memory; utils/mem_utils.py, memory_profiling), and ends if
    # something else gives memory back meanwhile. The share is then still asked of the card, once, before it loads
    # (v1/worker/utils.py, request_memory): it is free whatever the others have, as long as each keeps to its own.
    cache = () if kv_cache_bytes is None else ("--kv-cache-memory-bytes", str(kv_cache_bytes))
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
        *cache,
        # engine/arg_utils.py, SchedulerConfig: no more than is ever sent, so graphs and buffers aren't sized for 256.
        "--max-num-seqs", str(max_requests),
        # engine/arg_utils.py, ModelConfig.allowed_media_domains: else callers make the home machine fetch any URL.
        # multimodal/media/connector.py compares it before the first fetch, so nobody is there to redirect it, for
        # pictures, video and audio alike; file:// needs an argument of its own.
        "--allowed-media-domains", NO_REMOTE_MEDIA,
        # engine/arg_utils.py (since 0.18): on SIGTERM running requests are finished; the default 0 aborts them.
        "--shutdown-timeout", str(drain_s),
        # entrypoints/launchers/cli_args.py: checks, and the pilot and K3s who read metrics, come all the time.
        "--disable-access-log-for-endpoints", "/health,/metrics",
        *own,
    ]  # fmt: skip


def context(tokens: int) -> tuple[str, ...]:
    """Context of one request, tokens: most models' own would not fit a share of the card."""
    # engine/arg_utils.py, ModelConfig.
    return ("--max-model-len", str(tokens))


def model(contract: Contract, *, revision: bool) -> tuple[str, ...]:
    """Arguments of the model of every lane. `revision`: the weights are a repository, not a folder of one commit."""
    found = context(contract.context_tokens)
    if revision:
        # engine/arg_utils.py, ModelConfig: the same commit as on burst, whatever its `main` becomes.
        found += ("--revision", contract.model.revision)
    # engine/arg_utils.py, MultiModalConfig.limit_per_prompt (default 999 each). A large limit costs nothing at start,
    # for vLLM reckons with what the context holds (multimodal/encoder_budget.py); video would cost memory.
    found += ("--limit-mm-per-prompt", _json({"image": contract.images, "video": 0}))
    if contract.model.vision:
        least, most = contract.pixels
        # engine/arg_utils.py, MultiModalConfig.mm_processor_kwargs: forwarded to the image processor, which counts both
        # edges in pixels of area. llama.cpp has the same bounds in tokens (`vm.server`).
        found += ("--mm-processor-kwargs", _json({"size": {"shortest_edge": least, "longest_edge": most}}))
    if contract.model.chat_template:
        # entrypoints/openai/cli_args.py: a file's name, or the template itself (entrypoints/chat_utils.py).
        found += ("--chat-template", contract.model.chat_template)
    if contract.model.tool_parser:
        # entrypoints/launchers/cli_args.py: without both, `tools` with the choice "auto" are refused.
        found += ("--enable-auto-tool-choice", "--tool-call-parser", contract.model.tool_parser)
    if contract.model.reasoning_parser:
        # engine/arg_utils.py, StructuredOutputsConfig.
        found += ("--reasoning-parser", contract.model.reasoning_parser)
    return found


def environment(contract: Contract) -> dict[str, str]:
    """What vLLM has no arguments for, so that it takes and refuses what llama.cpp does."""
    # entrypoints/serve/engine/serving.py: llama.cpp serves its one model under any name that a caller sends.
    found = {ANY_NAME: "1"}
    if contract.choices:
        # sampling_params.py: a larger `n` is refused with 400, as llama.cpp does it beyond its slots.
        found[MOST_CHOICES] = str(contract.choices)
    return found


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
