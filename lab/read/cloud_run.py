"""The declared Cloud Run services: the gateway, and burst where the stack has it.

Owns: the type, and the one rule that tells the two apart. Does not own: reading either of them (`gateway`, `burst`).
"""

from collections.abc import Mapping
from typing import Any, Final

SERVICE: Final = "gcp:cloudrunv2/service:Service"


def has_gpu(inputs: Mapping[str, Any]) -> bool:
    """Whether a service asks for a GPU: burst does, the gateway does not."""
    return "nodeSelector" in inputs["template"]
