"""What llama.cpp's server is told: the model, its limits, and what a small machine needs to hear.

Owns: the arguments, and their values by the machine (`machines`). Does not own: the container that they go into
(`boot`). Pure.

The server looks at its other slots, and at callers who left, between two batches only; at its default of 2,048 tokens a
slow machine works for minutes on behalf of nobody. A picture's encoding is one piece of work whatever the batch.
"""

from typing import Final

from components import ports
from components.machines.memory import prompts_mib
from components.machines.speeds import Machine
from components.models.shape import LEAST_PICTURE_TOKENS, File
from components.settings import Settings

BATCH_S: Final = 2.0
"""Longest work on one batch, about, seconds."""
BATCH_LEAST: Final = 32
"""Below that, each batch reads all weights for too few tokens."""
BATCH_MOST: Final = 2048
"""llama.cpp's own."""
UBATCH_MOST: Final = 512
"""llama.cpp's own: what is computed at once."""


def machine_of(settings: Settings) -> Machine:
    """The lane's machine; the rules have refused settings that have none."""
    machine = settings.vm_machine
    assert machine is not None, "vm_rules lets no such settings through"
    return machine


def threads(machine: Machine) -> int:
    """Threads of the server: one for each core, for two on one core take turns; with a card one, which waits for it."""
    return 1 if machine.gpu else machine.cores


def batch_tokens(machine: Machine) -> int:
    """Prompt tokens that the server reads in one go: the largest power of two that takes no more than `BATCH_S`."""
    tokens = int(machine.speed.prompt * BATCH_S)
    return min(BATCH_MOST, max(BATCH_LEAST, 1 << (tokens.bit_length() - 1) if tokens else 0))


def weights(settings: Settings) -> File:
    """The model's file; the rules have refused a model without one."""
    found = settings.contract.model.gguf
    assert found is not None, "model_rules lets no such settings through"
    return found


def cached_tokens(settings: Settings) -> int:
    """Context of all slots together, tokens: each takes the same request as any other lane."""
    return settings.contract.context_tokens * settings.vm.max_requests


def arguments(settings: Settings) -> list[str]:
    """Arguments of llama.cpp's server inside its container."""
    contract, machine, tokens = settings.contract, machine_of(settings), cached_tokens(settings)
    batch = batch_tokens(machine)
    remembered = prompts_mib(machine, contract.model, tokens)
    found = [
        "--host", "0.0.0.0",
        "--port", str(ports.VM),
        "--model", f"/models/{weights(settings).filename}",
        "--alias", contract.model.name,
        "--ctx-size", str(tokens),
        "--parallel", str(settings.vm.max_requests),
        "--threads", str(threads(machine)),
        "--batch-size", str(batch),
        "--ubatch-size", str(min(batch, UBATCH_MOST)),
        # Its default of 8 GiB would kill a machine of 16 after some 110 pictures.
        "--cache-ram", str(remembered),
        "--metrics",
    ]  # fmt: skip
    if machine.gpu:
        found += ["--n-gpu-layers", "all"]
    if contract.model.chat_template:
        found += ["--chat-template", contract.model.chat_template]
    if projector := contract.model.projector:
        # As many as the other lanes give the smallest and the largest picture (`vllm.model`).
        found += [
            "--mmproj", f"/models/{projector.filename}",
            "--image-min-tokens", str(LEAST_PICTURE_TOKENS),
            "--image-max-tokens", str(contract.most_picture_tokens),
        ]  # fmt: skip
    return found
