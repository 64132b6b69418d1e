"""What llama.cpp's server is told: the model, its limits, and what a small machine needs to hear.

Owns: the arguments, and their values by the machine (`machines`). Does not own: the container that they go into
(`boot`). Pure.

The server looks at its other slots, and at callers who left, between two batches only; at its default of 2,048 tokens a
slow machine works for minutes on behalf of nobody. A picture's encoding is one piece of work whatever the batch.
"""

from typing import Final

from components import ports
from components.machines.memory import prompts_mib
from components.machines.requests import PICTURE_TOKENS
from components.machines.speeds import Machine
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


def arguments(settings: Settings) -> list[str]:
    """Arguments of llama.cpp's server inside its container."""
    vm, machine = settings.vm, machine_of(settings)
    batch = batch_tokens(machine)
    remembered = prompts_mib(machine, vm.context_tokens, pictures=vm.projector is not None)
    found = [
        "--host", "0.0.0.0",
        "--port", str(ports.VM),
        "--model", f"/models/{vm.model.filename}",
        "--alias", settings.model.name,
        "--ctx-size", str(vm.context_tokens),
        "--parallel", str(vm.max_requests),
        "--threads", str(threads(machine)),
        "--batch-size", str(batch),
        "--ubatch-size", str(min(batch, UBATCH_MOST)),
        # Its default of 8 GiB would kill a machine of 16 after some 110 pictures.
        "--cache-ram", str(remembered),
        "--metrics",
    ]  # fmt: skip
    if machine.gpu:
        found += ["--n-gpu-layers", "all"]
    if vm.projector:
        # As many as the other lanes give a picture (`vllm.vision`).
        found += ["--mmproj", f"/models/{vm.projector.filename}", "--image-max-tokens", str(PICTURE_TOKENS)]
    return found
