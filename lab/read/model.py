"""Which model the declared servers have, as their arguments say it, and what they take of one request.

Owns: reading name, weights and limits of llama.cpp's and vLLM's arguments, and the catalogue's model of these weights.
Does not own: the catalogue (`components.models`), the stand-ins' model, which is another one (`images`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.models.catalogue import DEFAULT, PRESETS
from components.models.contract import PICTURE_PIXELS
from components.models.shape import LEAST_PICTURE_TOKENS, Model
from lab.errors import LabError
from lab.read import images


@dataclass(frozen=True)
class Served:
    """One server's model."""

    name: str
    """By which clients ask for it."""
    weights: str
    """The GGUF file's name, or the repository with its commit."""
    preset: str
    """Of the catalogue; empty: it has no such weights."""
    context_tokens: int
    """Of one request."""
    most_picture_tokens: int
    """Of one picture; 0: it takes none."""

    @property
    def known(self) -> Model | None:
        """The catalogue's model of these weights."""
        return PRESETS.get(self.preset)

    @property
    def picture_tokens(self) -> int:
        """Of the picture that every table speaks of."""
        vision = self.known and self.known.vision
        return min(self.most_picture_tokens, PICTURE_PIXELS // vision.side**2) if vision else 0

    @property
    def told(self) -> str:
        """Name, where it comes from, and what it takes."""
        whose = f"preset {self.preset}" if self.preset else f"an own model, {self.weights}"
        pictures = f"pictures of at most {self.most_picture_tokens}" if self.most_picture_tokens else "no pictures"
        return f"{self.name} ({whose}): {self.context_tokens} tokens of context, {pictures}"


def of_llama_cpp(title: str, args: Sequence[str]) -> Served:
    """The model of llama.cpp's server, whose context is that of all slots together."""
    filename = _value(title, args, "--model").rsplit("/", 1)[-1]
    files = {name: model.gguf and model.gguf.filename for name, model in PRESETS.items()}
    slots = int(images.value_of(args, "--parallel") or 1)
    most = images.value_of(args, "--image-max-tokens") or "0"
    return Served(
        name=_value(title, args, "--alias"),
        weights=filename,
        preset=next((name for name, known in files.items() if known == filename), ""),
        context_tokens=int(_value(title, args, "--ctx-size")) // slots,
        most_picture_tokens=int(most) if images.value_of(args, "--mmproj") else 0,
    )


def of_vllm(title: str, args: Sequence[str]) -> Served:
    """The model of vLLM, by a repository or by a folder `/weights/OWNER/NAME/COMMIT`."""
    *_, owner, name, commit = args[0].split("/") if args[0].startswith("/") else _repository(title, args)
    weights, commits = f"{owner}/{name}@{commit}", {key: f"{m.weights}@{m.revision}" for key, m in PRESETS.items()}
    size: dict[str, int] = json.loads(images.value_of(args, "--mm-processor-kwargs") or "{}").get("size") or {}
    limit: dict[str, int] = json.loads(images.value_of(args, "--limit-mm-per-prompt") or "{}")
    most = size["longest_edge"] * LEAST_PICTURE_TOKENS // size["shortest_edge"] if size and limit.get("image") else 0
    return Served(
        name=_value(title, args, "--served-model-name"),
        weights=weights,
        preset=next((name for name, known in commits.items() if known == weights), ""),
        context_tokens=int(_value(title, args, "--max-model-len")),
        most_picture_tokens=most,
    )


def other(title: str, args: Sequence[str]) -> Served:
    """Another service's model, like one for embeddings: as fast as the default one, which is larger."""
    weights = _value(title, args, "--served-model-name")
    return Served(weights, weights, DEFAULT, int(images.value_of(args, "--max-model-len") or 0), 0)


def lines(lanes: Mapping[str, Served]) -> list[str]:
    """What every lane serves: a line, or one for each model where lanes differ."""
    on: dict[str, list[str]] = {}
    for lane, served in lanes.items():
        on.setdefault(served.told, []).append(lane)
    return [f"{', '.join(names)}: {told}" for told, names in on.items()]


def _repository(title: str, args: Sequence[str]) -> list[str]:
    return [*args[0].split("/"), _value(title, args, "--revision")]


def _value(title: str, args: Sequence[str], name: str) -> str:
    found = images.value_of(args, name)
    if not found:
        raise LabError(f"{title}: the lab needs {name} to know which model it serves, and what that takes")
    return found
