"""llama.cpp's own server, as the VM declares it: the declared command line through its own argument parser.

Owns: starting and ending it. Does not own: the declaration (`lab.read`), what is replaced in it (table 1 of the lab).
"""

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from lab.read import images
from lab.read.stack import ROOT
from lab.read.vm import Vm
from lab.run import processes
from lab.run.ports import free_port

WEIGHTS: Final = ROOT / ".lab" / "models"
"""The lab's own folder of weights, which are made once."""
START_S: Final = 120
"""Longest start on a busy machine, the making of the weights included."""


def command(vm: Vm, port: int) -> list[str]:
    """The process: the declared command line, but for what table 1 of the lab says."""
    one = vm.container
    line = images.local_command(one.title, one.image, one.command, one.args, host="127.0.0.1", port=port, cache=WEIGHTS)
    if template := images.value_of(one.args, "--chat-template"):
        # The lab's own is for conversations. The declared one says how tools are called.
        line[line.index("--chat-template") + 1] = template
    return line


@contextlib.asynccontextmanager
async def started(vm: Vm, folder: Path = ROOT / ".lab" / "contract") -> AsyncGenerator[str]:
    """The server's address while it runs; raises `LabError` if it ends instead. `folder` gets its log.

    Its environment is the declared container's.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    environment = processes.environment(vm.container.env, folder)
    process = await processes.start("llama.cpp", command(vm, port), environment, logs=folder)
    try:
        url = f"http://127.0.0.1:{port}"
        await processes.ready(f"{url}/health", START_S, process)
        yield url
    finally:
        await process.stop(2.0)
