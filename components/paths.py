"""Every path of the API, once, so that gateway, burst's hop, home's Ingress and the settings mean the same ones.

Owns: the paths that lanes answer, those that the gateway answers itself, and OpenAI's others by the reason why
they are not here. Does not own: the paths of services at home, which are settings, and what is said (`gateway.caddy`).
"""

from typing import Final

ROOT: Final = "/v1"
"""In the settings: the service at home with the model of every lane, which answers `ANSWERS` and nothing else."""
CHAT: Final = f"{ROOT}/chat/completions"
RESPONSES: Final = f"{ROOT}/responses"
ANSWERS: Final = (CHAT, f"{ROOT}/completions", RESPONSES)
"""What lanes answer with the model, to POST; `declared_services.answered` says which where. Exactly these: engines have
others, which read, steer or stop them."""
MODELS: Final = f"{ROOT}/models"
LANES: Final = f"{ROOT}/lanes"
READ: Final = (MODELS, LANES)
"""What the gateway answers itself, to GET and HEAD, with all below."""

# Paths that a stock SDK knows, with all below them (platform.openai.com/docs/api-reference).
FOR_A_SERVICE: Final = (f"{ROOT}/embeddings", f"{ROOT}/audio", f"{ROOT}/images", f"{ROOT}/moderations")
"""Answered where a service has them."""
KEPT: Final = (
    *ANSWERS,
    *(
        f"{ROOT}/{name}"
        for name in (
            *("assistants", "batches", "containers", "conversations", "evals", "files", "fine_tuning", "threads"),
            *("uploads", "vector_stores"),
        )
    ),
)
"""About what OpenAI keeps between two requests; of `ANSWERS` what is below them, and what no lane answers."""
