"""What a model needs of a machine's memory, or of a card's.

Owns: the arithmetic, from the model's files and the cache of its context. Does not own: the model (`models`), who is
refused for it (`settings.vm_rules`, `settings.model_rules`).
"""

from typing import Final

from components.machines.speeds import Machine
from components.models.catalogue import DEFAULT, PRESETS
from components.models.shape import Model

GIB: Final = 2**30
WORK_GIB: Final = 3.7
"""What processors take besides, for the default model: weights arranged anew for their vector units, and buffers.
Measured as the rest: 10.2 GiB were resident with 16,384 tokens, two slots, a picture, and a projector of 1.26 GiB
(bf16). Other models: in proportion to their file, which is an estimate."""
CARD_WORK_GIB: Final = 1.0
"""Buffers on a card, the picture's included. Estimated."""
SYSTEM_GIB: Final = 1.0
"""For Container-Optimized OS and docker."""
HOST_GIB: Final = 3.0
"""What the server takes of the machine's own memory when the model is on a card. Estimated; file pages give way."""
CARD_GIB: Final = {"t4": 15.0, "l4": 22.5}
"""Usable memory of a card: NVIDIA's tools show 15,360 and 23,034 MiB."""
PROMPTS_MOST_MIB: Final = 8192
"""llama.cpp's own limit for the prompts that it remembers."""
VLLM_WORK_GIB: Final = 1.5
"""What vLLM takes of its share besides weights and cache: CUDA, graphs, buffers, the largest picture. Estimated."""
VLLM_CACHE_GIB: Final = 4.0
"""What vLLM gets for its cache where nobody says otherwise: four whole requests of the default model, one and a half of
Qwen3-VL-4B. Most are far shorter."""

VLLM_HOST_GIB: Final = 6.0
"""What vLLM takes of the machine's own memory: 4 GB resident in an engine with CUDA, others report
(vllm-project/vllm#3035), 1.1 in the server in front of it (measured, 0.29.0), and 1 for compiling and for pictures
while they are decoded. Weights are read through the file cache, which gives way (config/load.py,
`safetensors_load_strategy`), nothing is offloaded by default (config/offload.py), and with one card nothing passes
through /dev/shm."""
VLLM_PICTURES_GIB: Final = 4.0
"""vLLM remembers prepared pictures, up to this, in the engine alone (config/multimodal.py, `mm_processor_cache_gb`;
multimodal/cache.py). Measured, 0.29.0: 40 pictures of 1024 x 768 added 180 MiB to the engine, 50 to the server."""


def cache_gib(model: Model, tokens: int) -> float:
    """Keys and values of so many tokens."""
    return tokens * model.shape.cache_bytes / GIB


def files_gib(model: Model) -> float:
    """llama.cpp's files: the model, and its projector."""
    return (model.gguf_bytes + (model.projector.bytes if model.projector else 0)) / GIB


def work_gib(machine: Machine, model: Model) -> float:
    """What llama.cpp and the system take besides, of the memory that the model is in."""
    in_proportion = WORK_GIB * model.gguf_bytes / PRESETS[DEFAULT].gguf_bytes
    return CARD_WORK_GIB if machine.gpu else in_proportion + SYSTEM_GIB


def needed_gib(machine: Machine, model: Model, tokens: int) -> float:
    """With a cache of `tokens` in all: of the card if the machine has one, else of the machine, the system included."""
    return files_gib(model) + cache_gib(model, tokens) + work_gib(machine, model)


def held_gib(machine: Machine) -> float:
    """Memory that the model has to fit into."""
    return CARD_GIB[machine.gpu] if machine.gpu else machine.memory_gib


def prompts_mib(machine: Machine, model: Model, tokens: int) -> int:
    """Memory for prompts that the server remembers beyond its slots, MiB: half of what is left, in steps of 256.

    Half, for the rest of the arithmetic is partly estimated, and a machine that runs out of memory serves nobody.
    """
    used = HOST_GIB + SYSTEM_GIB if machine.gpu else needed_gib(machine, model, tokens)
    left = int((machine.memory_gib - used) / 2 * 1024)
    return min(PROMPTS_MOST_MIB, max(0, left // 256 * 256))


def vllm_gib(model: Model, tokens: int) -> float:
    """What vLLM needs of a card, with a cache of `tokens` in all."""
    return model.weights_bytes / GIB + cache_gib(model, tokens) + VLLM_WORK_GIB


def vllm_host_gib(*, pictures: bool) -> float:
    """What vLLM needs of the machine's own memory, for a model that takes pictures or not."""
    return VLLM_HOST_GIB + (VLLM_PICTURES_GIB if pictures else 0)


def vllm_cache_bytes(share_mib: int, weights_bytes: int) -> int:
    """Keys and values that a share of a card holds beside weights and work, bytes; below 0 where it has no room."""
    return int(share_mib * 2**20 - weights_bytes - VLLM_WORK_GIB * GIB)


def vllm_share_gib(model: Model, context_tokens: int) -> float:
    """What vLLM gets of a card where nobody says otherwise: it holds one whole context at least."""
    usual = model.weights_bytes / GIB + VLLM_CACHE_GIB + VLLM_WORK_GIB
    return max(usual, vllm_gib(model, context_tokens))
