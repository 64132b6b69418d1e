"""What the model needs of a machine's memory, or of a card's.

Owns: the arithmetic, for the default weights: Qwen2.5-VL-7B, Q4_K_M, with the projector of q8_0. Does not own: who is
refused for it (`settings.rules`).
"""

from typing import Final

from components.machines.speeds import Machine

MODEL_GIB: Final = 4.36
"""The file: 4,677,120,000 bytes of tensors (`bench.vm.shapes`, which has the true shapes)."""
PROJECTOR_GIB: Final = 0.8
"""The file: 853,119,712 bytes."""
CACHE_BYTES: Final = 57_344
"""Of the KV cache for one token, f16: 28 layers x 4 heads x 128 values x 2 bytes, twice (keys, values)."""
WORK_GIB: Final = 3.7
"""What processors take besides: weights arranged anew for their vector units, and buffers. Measured as the rest: 10.2
GiB were resident with 16,384 tokens, two slots, a picture, and a projector of 1.26 GiB (bf16)."""
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


def needed_gib(machine: Machine, context_tokens: int, *, pictures: bool) -> float:
    """Of the card if the machine has one, else of the machine, the system's share included."""
    files = MODEL_GIB + (PROJECTOR_GIB if pictures else 0)
    work = CARD_WORK_GIB if machine.gpu else WORK_GIB + SYSTEM_GIB
    return files + context_tokens * CACHE_BYTES / 2**30 + work


def held_gib(machine: Machine) -> float:
    """Memory that the model has to fit into."""
    return CARD_GIB[machine.gpu] if machine.gpu else machine.memory_gib


def prompts_mib(machine: Machine, context_tokens: int, *, pictures: bool) -> int:
    """Memory for prompts that the server remembers beyond its slots, MiB: half of what is left, in steps of 256.

    Half, for the rest of the arithmetic is partly estimated, and a machine that runs out of memory serves nobody.
    """
    used = HOST_GIB + SYSTEM_GIB if machine.gpu else needed_gib(machine, context_tokens, pictures=pictures)
    left = int((machine.memory_gib - used) / 2 * 1024)
    return min(PROMPTS_MOST_MIB, max(0, left // 256 * 256))
