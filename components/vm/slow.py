"""What the preview says about a VM that is slower than the gateway waits.

Owns: the sentences. Does not own: the speeds (`machines.speeds`), what a caller gets instead (`gateway`). Pure.
"""

from components.machines.requests import ANSWER_TOKENS, TEXT_TOKENS, answer_s, first_token_s
from components.settings import Settings
from components.vm.server import machine_of


def too_slow(settings: Settings) -> list[str]:
    """A sentence for a text, and one for a picture, that takes longer than `gateway.timeout_s`, with its answer."""
    machine, limit = machine_of(settings), settings.gateway.timeout_s
    asked = {f"a text of {TEXT_TOKENS} tokens": 0}
    if picture := settings.contract.picture_tokens:
        asked["a 1024 px picture"] = picture
    found: list[str] = []
    for what, pictures in asked.items():
        first = first_token_s(machine.speed, TEXT_TOKENS, pictures)
        whole = first + answer_s(machine.speed)
        if whole > limit:
            found.append(
                f"{what} takes about {first:.0f} s to the first token on this VM ({machine.title}), {whole:.0f} s with "
                + f"an answer of {ANSWER_TOKENS} tokens; the gateway ends a request after {limit} s "
                + "(gateway.timeout_s). docs/machines.md has faster machines"
            )
    return found
