"""The table in docs/model.md: the presets with what each needs of the lanes.

Owns: the table's form. Does not own: the presets (`components.models`), the arithmetic (`components.machines`).
"""

from math import ceil
from typing import Final

from components.machines.memory import GIB, VLLM_WORK_GIB, cache_gib, files_gib, vllm_cache_bytes, vllm_share_gib
from components.models.catalogue import DEFAULT, PRESETS, STANDARD
from components.models.shape import Model
from lab.read.stack import ROOT

PAGE: Final = ROOT / "docs" / "model.md"
START, END = "<!-- models: made by `make golden` -->", "<!-- models end -->"


def table() -> str:
    """A row for each preset."""
    rows = [
        "| `model.preset` | served as | pictures | largest context | home's share: weights + work + cache | "
        + "VM: files + its two contexts | licence |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*rows, *(_row(preset, model) for preset, model in PRESETS.items())])


def _row(preset: str, model: Model) -> str:
    home = ceil(vllm_share_gib(model, STANDARD.context_tokens))
    cache = vllm_cache_bytes(home * 1024, model.weights_bytes) / GIB
    share = f"{home} GiB = {model.weights_bytes / GIB:.2f} + {VLLM_WORK_GIB:g} + {cache:.2f}"
    vm = f"{files_gib(model):.1f} + {cache_gib(model, 2 * STANDARD.context_tokens):.1f} GiB"
    named = f"`{preset}`{', the default' if preset == DEFAULT else ''}"
    cells = (named, model.name, "yes" if model.vision else "no", f"{model.shape.context_tokens:,}", share, vm)
    return f"| {' | '.join(cells)} | {model.licence} |"


def page() -> str:
    """docs/model.md with its table renewed."""
    before, _, rest = PAGE.read_text().partition(START)
    return f"{before}{START}\n{table()}\n{END}{rest.partition(END)[2]}"
