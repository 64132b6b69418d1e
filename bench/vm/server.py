"""llama.cpp's server with the declared arguments: a process of its own, bound to some cores.

Owns: which declared arguments the library `xllamacpp` takes, and under what name. Does not own: the declaration, the
paths (`__main__`). What is not declared stays as the library has it, which is as llama.cpp's own program has it, but
for two values. Threads are as many as cores, because llama.cpp counts the machine's and not those it is bound to; on a
machine with that many cores it comes to the same. And its log says more (`VERBOSITY`).
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from bench.errors import BenchError

READY: Final = "listening on "
"""How the one line on stdout begins; the address follows."""
TAKEN: Final[dict[str, tuple[str, type]]] = {
    "--alias": ("model_alias", set),
    "--batch-size": ("n_batch", int),
    "--chat-template": ("chat_template", str),
    "--cache-ram": ("cache_ram_mib", int),
    "--ctx-size": ("n_ctx", int),
    "--image-max-tokens": ("image_max_tokens", int),
    "--image-min-tokens": ("image_min_tokens", int),
    "--metrics": ("endpoint_metrics", bool),
    "--mmproj": ("mmproj.path", str),
    "--model": ("model.path", str),
    "--parallel": ("n_parallel", int),
    "--ubatch-size": ("n_ubatch", int),
}
"""llama.cpp's argument -> the library's field, and what its value is; `bool`: it has none."""
VERBOSITY: Final = 4
"""llama.cpp's log tells of a picture's encoding from this level on; 3 is its own."""
REPLACED: Final = {
    "--host": "loopback",
    "--port": "a free one",
    "--model": "the random file",
    "--mmproj": "the random file",
    "--threads": "as many as cores are measured",
    "--threads-batch": "as many as cores are measured",
}
"""Declared arguments whose value belongs to the declared machine, and what stands in for it here."""


def split(declared: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The declared arguments with their values, and the names of those that the library can't take."""
    taken, left = dict[str, str](), list[str]()
    words = [part for word in declared for part in (word.split("=", 1) if word.startswith("--") else [word])]
    while words:
        name = words.pop(0)
        if not name.startswith("--"):
            raise BenchError(f"the declared server arguments: {name!r} stands where an argument's name must")
        value = "" if not words or words[0].startswith("--") else words.pop(0)
        if name in TAKEN or name in REPLACED:
            taken[name] = value
        else:
            left.append(name)
    return taken, left


def parameters(given: dict[str, str], cores: int) -> Any:
    """The library's parameters for declared arguments."""
    found = importlib.import_module("xllamacpp").CommonParams()
    for name, value in given.items():
        if name not in TAKEN:
            continue
        path, kind = TAKEN[name]
        *parents, field = path.split(".")
        owner = found
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, field, True if kind is bool else {value} if kind is set else kind(value))
    for threads in (found.cpuparams, found.cpuparams_batch):
        threads.n_threads = cores
    found.verbosity = VERBOSITY
    return found


def main(argv: list[str]) -> None:
    """Serves until stdin ends, which it does with whoever started this."""
    parser = argparse.ArgumentParser(prog="bench.vm.server", allow_abbrev=False)
    parser.add_argument("--cpus", required=True, help="processors to run on, with commas")
    own, declared = parser.parse_known_args(argv)
    cpus = {int(cpu) for cpu in str(own.cpus).split(",")}
    os.sched_setaffinity(0, cpus)
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # llama.cpp may log to either; stdout carries the address alone
    server = importlib.import_module("xllamacpp").Server(parameters(split(declared)[0], len(cpus)))
    print(READY + server.listening_address, file=report, flush=True)
    sys.stdin.read()
    os._exit(0)  # llama.cpp crashes when it ends while it generates


if __name__ == "__main__":
    main(sys.argv[1:])
