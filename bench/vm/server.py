"""llama.cpp's server with the declared arguments: a process of its own, bound to some cores.

Owns: what stands in for arguments that belong to the declared machine. Does not own: the declaration, the paths
(`__main__`), the way to llama.cpp's parser (`lab.programs.model_server`). What is not declared stays as llama.cpp has
it, but for two values. Threads are as many as cores, because llama.cpp counts the machine's and not those it is bound
to; on a machine with that many cores it comes to the same. And its log says more (`VERBOSITY`).
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from bench.errors import BenchError
from lab.programs.model_server import parsed

READY: Final = "listening on "
"""How the one line on stdout begins; the address follows."""
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


def split(declared: Sequence[str]) -> dict[str, str]:
    """The declared arguments with their values; empty for those that have none."""
    found = dict[str, str]()
    words = [part for word in declared for part in (word.split("=", 1) if word.startswith("--") else [word])]
    while words:
        name = words.pop(0)
        if not name.startswith("--"):
            raise BenchError(f"the declared server arguments: {name!r} stands where an argument's name must")
        found[name] = "" if not words or words[0].startswith("--") else words.pop(0)
    return found


def parameters(given: Sequence[str], cores: int) -> Any:
    """What llama.cpp's parser makes of the arguments; it ends the process on one that it refuses."""
    return parsed([*given, "--threads", str(cores), "--verbosity", str(VERBOSITY)])


def main(argv: list[str]) -> None:
    """Serves until stdin ends, which it does with whoever started this."""
    parser = argparse.ArgumentParser(prog="bench.vm.server", allow_abbrev=False)
    parser.add_argument("--cpus", required=True, help="processors to run on, with commas")
    own, declared = parser.parse_known_args(argv)
    cpus = {int(cpu) for cpu in str(own.cpus).split(",")}
    os.sched_setaffinity(0, cpus)
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # llama.cpp may log to either; stdout carries the address alone
    server = importlib.import_module("xllamacpp").Server(parameters(declared, len(cpus)))
    print(READY + server.listening_address, file=report, flush=True)
    sys.stdin.read()
    os._exit(0)  # llama.cpp crashes when it ends while it generates


if __name__ == "__main__":
    main(sys.argv[1:])
