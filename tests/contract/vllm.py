"""Real vLLM with the declared arguments, on this machine's processor.

Owns: which declared things a processor can't do, or this machine lacks, each with its reason; starting and ending.
Does not own: the declaration (`declared`), the environment with vLLM in it (`make engines`), what is asked.
"""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from components import vllm
from lab.errors import LabError
from lab.read.stack import ROOT
from lab.run import processes
from tests.contract.declared import Declared

FOLDER: Final = ROOT / ".engines"
"""Where `make engines` keeps vLLM's environment, the tiny model, caches and logs."""
BIN: Final = FOLDER / "vllm" / "bin"
TINY: Final = FOLDER / "tiny-qwen2.5-vl"
START_S: Final = 600
"""Longest start, seconds; 70 to 90 on two cores, most of it imports, and torch.compile at home."""
KV_CACHE_GIB: Final = "1"
ON_A_PROCESSOR: Final = {
    "VLLM_CPU_KVCACHE_SPACE": (KV_CACHE_GIB, "on a card vLLM measures what is free; on a processor it must be told"),
}


@dataclass(frozen=True)
class Here:
    """A declaration as it runs here, and what is not as declared."""

    args: tuple[str, ...]
    env: dict[str, str]
    liveness: tuple[str, ...]
    changes: tuple[str, ...]


def here(declared: Declared, tiny: Path, folders: Path) -> Here:
    """Pure but for the names of folders."""
    weights, *rest = declared.args
    changes = [f"{weights} -> {tiny.name}: random weights of the same kind of model"]
    env: dict[str, str] = {}
    for name, value in declared.env.items():
        env[name] = value
        if value in declared.mounts:
            env[name] = str(folders / value.lstrip("/"))
            changes.append(f"{name}={value} -> a folder: the mounted volume's place")
    for name, (value, why) in ON_A_PROCESSOR.items():
        env[name] = value
        changes.append(f"{name}={value}: {why}")
    # The image's own HOME, where vLLM keeps what it compiled.
    env.setdefault("HOME", str(folders / "root"))
    probe = [str(BIN / word) if word == "python3" else _mounted(word, declared, folders) for word in declared.liveness]
    return Here((str(tiny), *rest), env, tuple(probe), tuple(changes))


def _mounted(word: str, declared: Declared, folders: Path) -> str:
    """A file in a mounted folder, as a file of this machine."""
    return str(folders / word.lstrip("/")) if any(word.startswith(f"{path}/") for path in declared.mounts) else word


def make_tiny() -> None:
    """The tiny model, once."""
    if not (TINY / "preprocessor_config.json").exists():
        _python(str(ROOT / "tests" / "contract" / "tiny_model.py"), str(TINY))


def parsers() -> dict[str, list[str]]:
    """The names of the parsers that this vLLM has: of tool calls, and of reasoning."""
    program = (
        "import json; from vllm.tool_parsers import ToolParserManager as T; "
        "from vllm.reasoning import ReasoningParserManager as R; "
        "print(json.dumps({'tool': T.list_registered(), 'reasoning': R.list_registered()}))"
    )
    return dict(json.loads(_python("-c", program).splitlines()[-1]))


def parsers_differ(found: Mapping[str, Sequence[str]]) -> list[str]:
    """How the parsers that the settings accept differ from those that vLLM has."""
    accepted = {"tool": vllm.TOOL_PARSERS, "reasoning": vllm.REASONING_PARSERS}
    told: list[str] = []
    for kind, names in accepted.items():
        told += [
            f"vLLM has no {kind} parser {name}, and the settings accept it" for name in names if name not in found[kind]
        ]
        told += [f"vLLM's {kind} parser {name} is refused by the settings" for name in found[kind] if name not in names]
    return told


def _python(*words: str) -> str:
    done = subprocess.run([BIN / "python", *words], capture_output=True, text=True, check=False, cwd=FOLDER)
    if done.returncode:
        raise LabError(f"vLLM's Python: {' '.join(words)[:80]}: {done.stderr[-500:]}")
    return done.stdout


@contextlib.asynccontextmanager
async def started(declared: Declared, found: Here) -> AsyncGenerator[processes.Process]:
    """vLLM while it answers; whatever is left of it ends with the context."""
    folders = [
        Path(found.env["HOME"]),
        FOLDER / "logs",
        *(FOLDER / declared.lane / m.lstrip("/") for m in declared.mounts),
    ]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    log = FOLDER / "logs" / f"vllm-{declared.lane}.log"
    log.unlink(missing_ok=True)
    process = await processes.start(
        f"vllm-{declared.lane}",
        [str(BIN / "vllm"), "serve", *found.args],
        processes.environment(found.env, BIN),
        cwd=FOLDER,
        logs=FOLDER / "logs",
    )
    try:
        try:
            await processes.ready(f"http://127.0.0.1:{declared.port}/health", START_S, process)
        except LabError as error:
            raise LabError(f"vLLM as {declared.lane} declares it: no start; the log: {log}") from error
        yield process
    finally:
        await process.stop()


def engine_of(process: processes.Process) -> int:
    """The process in which vLLM computes; the one that was started only listens."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(folder.name)) == process.handle.pid and b"EngineCore" in (folder / "cmdline").read_bytes():
                return int(folder.name)
    raise LabError("vLLM: no process of its session is called EngineCore")


def terminate(process: processes.Process) -> None:
    """SIGTERM to the first process alone, as Kubernetes and Cloud Run send it."""
    os.kill(process.handle.pid, signal.SIGTERM)
