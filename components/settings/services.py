"""One entry of `services`: an AI service on the home GPU.

Owns: the values of one entry, each for itself. Does not own: the presets that they start from (`presets`), the rules
between entries (`service_rules`), the complete value of an entry (`declared_services`).
"""

import difflib
import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from components import paths
from components.settings.presets import PRESETS
from components.settings.section import MODEL_NAME, REPOSITORY, Memory, Refusal, Section

SERVICE_NAME: Final = r"^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$"
_PATH: Final = re.compile(r"/v1(/[a-z0-9][a-z0-9._-]*)*")


def _known_preset(value: str) -> str:
    if value in PRESETS:
        return value
    near = difflib.get_close_matches(value, PRESETS, n=1, cutoff=0.4)
    raise Refusal(
        f"one of {', '.join(sorted(PRESETS))}; {value!r} is none",
        "nothing says which program to run",
        (f"did you mean `{near[0]}`? " if near else "") + "Or leave `preset` out and give `image` and `model`",
    )


def _service_path(value: str) -> str:
    if not _PATH.fullmatch(value):
        raise Refusal(
            f"/v1 or a path under it, in lower case and without a slash at its end; it is {value!r}",
            "the gateway would never send a request there",
            "write it as /v1/audio",
        )
    for taken, by in {**dict.fromkeys(paths.READ, "the gateway"), **dict.fromkeys(paths.ANSWERS, "every lane")}.items():
        if value != paths.ROOT and (f"{taken}/".startswith(f"{value}/") or value.startswith(f"{taken}/")):
            raise Refusal(f"apart from {taken}, which {by} answers", "one would get the other's requests",
                          "choose another path under /v1")  # fmt: skip
    return value


class ServiceSettings(Section):
    """An AI service at home. What an entry leaves out is its preset's; without one, `image` and `model` are due."""

    name: str = Field(
        pattern=SERVICE_NAME, description="The service's name in the cluster and in the logs, lower case."
    )
    preset: Annotated[str, AfterValidator(_known_preset)] | None = Field(
        default=None,
        description=f"Preset for the values that the entry leaves out: {', '.join(f'`{name}`' for name in PRESETS)}.",
    )
    image: str | None = Field(
        default=None,
        description="Image with an exact version. vLLM's own also gets the arguments that the gateway relies on.",
    )
    args: tuple[str, ...] | None = Field(
        default=None, description="Arguments, one text each, after the preset's; vLLM takes the last of two equal ones."
    )
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] | None = Field(
        default=None, description="Environment, over the preset's. No secrets: it is readable in the cluster."
    )
    model: str | None = Field(
        default=None,
        pattern=MODEL_NAME,
        max_length=128,
        description="The name that clients send as `model`. The service on `/v1` serves `model.name`, and takes none.",
    )
    weights: str | None = Field(
        default=None,
        pattern=REPOSITORY,
        description="vLLM only: Hugging Face repository of the weights (left out: `model`).",
    )
    weights_bytes: int | None = Field(
        default=None,
        gt=0,
        description="vLLM only: size of the weight files together, bytes. What `gpu_memory` leaves beside them and "
        + "1.5 GiB of work is the cache.",
    )
    paths: tuple[Annotated[str, AfterValidator(_service_path)], ...] | None = Field(
        default=None,
        description="URL paths that it answers, with all below them; the longest wins. `/v1` itself means completions.",
    )
    slices: Literal[0, 1] | None = Field(
        default=None,
        description="Time slices of the GPU: 1, or 0 for a service without a GPU. 2 slices give no more than 1.",
    )
    gpu_memory: Memory | None = Field(
        default=None,
        description="GPU memory that it may take, with unit (`9GiB`). vLLM is held to it; other programs are trusted.",
    )
    cpus: float | None = Field(
        default=None,
        ge=0.1,
        le=256,
        multiple_of=0.1,
        description="Processors that are kept for it, in steps of 0.1 (1 without preset). It may use more while others "
        + "don't: a limit would stop it in the middle of a stream.",
    )
    memory_gib: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="The machine's memory that is kept for it, whole GiB (4 without preset). It gets no more: beyond, "
        + "it is ended and started again, and no other service in its place.",
    )
    max_requests: int | None = Field(
        default=None, ge=1, le=1000,
        description="Requests that it answers at a time (16 without preset). The service on `/v1` has "
        + "`home.max_requests`.",
    )  # fmt: skip
    cache_gib: int | None = Field(
        default=None,
        ge=0,
        le=4096,
        description="Volume for downloads, mounted at /cache, GiB; 0 for none. Another number has no effect on one "
        + 'that is there (docs/services.md, "A larger cache").',
    )
    port: int | None = Field(
        default=None, ge=1024, le=65535, description="Port that it listens on (8000 without preset)."
    )
    health: str | None = Field(
        default=None,
        pattern=r"^(/[A-Za-z0-9._~-]+)+$",
        description="Path that answers 200 when it can serve (/health without preset).",
    )
    uid: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="User id that it runs as (1000 without preset); 0 for images that need root.",
    )
