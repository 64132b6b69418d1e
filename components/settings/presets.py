"""Presets: services that are one line of settings, each an image with an OpenAI-compatible API.

Owns: image, model, path and needs of each preset, with their sources. Does not own: what an entry of `services` changes
(`services`), the arguments that every vLLM gets (`vllm`).

None of them ran on a GPU here. The source of each value stands beside it; memory and processors without a source are
our estimates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from components import ports, vllm
from components.machines.memory import vllm_host_gib

VLLM_IMAGE: Final = f"{vllm.REPOSITORY}:v0.29.0-cu129"
CACHE: Final = vllm.CACHE


@dataclass(frozen=True)
class Preset:
    """What a service is, where its entry doesn't say otherwise. The fields are those of `ServiceSettings`."""

    image: str
    paths: tuple[str, ...]
    gpu_memory: str
    max_requests: int
    cache_gib: int
    uid: int
    port: int
    health: str
    cpus: float
    """Processors that are kept for it."""
    memory_gib: int
    """Of the machine, not of the card; 0: what vLLM takes with the model."""
    model: str | None = None
    """Name clients send; None: that of `model`."""
    weights: str | None = None
    weights_bytes: int = 0
    """vLLM's weight files together; 0: not known, or not vLLM's."""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])


def _vllm(paths: tuple[str, ...], weights: str, gpu_memory: str, args: tuple[str, ...], **more: object) -> Preset:
    """vLLM's image: user `vllm` (2000) since 0.20, /health and port as in its own source at 0.29.0."""
    common = {"image": VLLM_IMAGE, "uid": 2000, "port": ports.VLLM, "health": "/health", "max_requests": 16}
    known = {**common, "paths": paths, "weights": weights, "gpu_memory": gpu_memory, "args": args, **more}
    return Preset(**known)  # pyright: ignore[reportArgumentType]


MODEL: Final = "model"
"""Preset of the service on `/v1`: the model of every lane, with weights, arguments and memory by `model`."""
PRESETS: Final[Mapping[str, Preset]] = {
    # 2 processors: vLLM's docs (configuration/optimization.md, "CPU Resources for GPU Deployments") want one for each
    # process; with one card those are the server and the engine, which is its own worker (config/parallel.py).
    MODEL: _vllm(("/v1",), "", "", (), cache_gib=40, cpus=2, memory_gib=0),
    # `--runner pooling` as in vLLM's docs (models/pooling_models), listed by its parser at 0.29.0; /v1/embeddings in
    # entrypoints/pooling/embed/api_router.py. Weights: 595,776,512 parameters of 16 bits with a header, rounded up. A
    # token takes 112 KiB of cache (28 layers, 8 heads of 128): 0.89 GiB hold two inputs of 4,096.
    "embeddings": _vllm(
        ("/v1/embeddings",),
        "Qwen/Qwen3-Embedding-0.6B",
        "3584MiB",
        ("--runner", "pooling", *vllm.context(4096)),
        model="Qwen/Qwen3-Embedding-0.6B",
        weights_bytes=1_200_000_000,
        cache_gib=10,
        # Half of what vLLM's docs want: an input is one step of the engine, which waits for the next one.
        cpus=1,
        memory_gib=ceil(vllm_host_gib(pictures=False)),
    ),
    # Kokoro-FastAPI: port, /v1/audio/speech, model name and tags in its README and CHANGELOG (CUDA 12.6, cards up to
    # RTX 40; v0.8.2 of 2026-09-05); 0.7 to 1.6 GB measured there (v0.5.0, a 4060 Ti). uid 1001 owns /app (docker/gpu/
    # Dockerfile), where it writes. The model is in the image: nothing is downloaded, nothing kept. Its entry point
    # starts uvicorn's own command line, which reads UVICORN_ variables; the reason is KEEP_ALIVE_S's. Memory: 1.8 GB
    # after one sentence and growing, others report (remsky/Kokoro-FastAPI#262).
    "tts": Preset(
        image="ghcr.io/remsky/kokoro-fastapi-gpu:v0.8.2",
        paths=("/v1/audio",),
        model="kokoro",
        gpu_memory="2GiB",
        cpus=1,
        memory_gib=4,
        max_requests=4,
        cache_gib=0,
        uid=1001,
        port=8880,
        health="/health",
        env={"UVICORN_TIMEOUT_KEEP_ALIVE": str(vllm.KEEP_ALIVE_S)},
    ),
    # LocalAI: tag form, folders and readiness path in docs/getting-started/containers.md and core/cli/run.go, model in
    # gallery/index.yaml; others report this version and model to answer /v1/images/generations (on a CPU). It runs as
    # root, as its image does, and downloads the model and the program for it (1.6 GB and more) at the first start.
    "image": Preset(
        image="docker.io/localai/localai:v4.8.2-gpu-nvidia-cuda-12",
        paths=("/v1/images",),
        model="sd-1.5-ggml",
        args=("sd-1.5-ggml",),
        gpu_memory="5GiB",
        cpus=1,
        memory_gib=6,
        max_requests=2,
        cache_gib=20,
        uid=0,
        port=8080,
        health="/readyz",
        env={
            # Its own default is the list on the main branch. The list of this version still names files there, and
            # programs by a moving tag.
            "LOCALAI_GALLERIES": '[{"name":"localai","url":"github:mudler/LocalAI/gallery/index.yaml@v4.8.2"}]',
            "LOCALAI_MODELS_PATH": f"{CACHE}/models",
            "LOCALAI_BACKENDS_PATH": f"{CACHE}/backends",
            "LOCALAI_CONFIG_DIR": f"{CACHE}/configuration",
            "LOCALAI_DATA_PATH": f"{CACHE}/data",
            # Its interface for people, where models can be installed, is of no use behind the gateway.
            "LOCALAI_DISABLE_WEBUI": "true",
        },
    ),
}
