"""The clients: each one's program, what it needs on this machine, and the file that pins its version.

Owns: the list, installing what a program imports, talking to a running program. Does not own: what it is asked
(`scenarios`), the programs themselves, which stand in a folder for each language.
"""

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.read.stack import ROOT

HERE: Final = Path(__file__).parent
KEPT: Final = ROOT / ".clients"
"""What is installed for the programs: the Python environment of the larger ones, Go's binary, Java's class path."""
ANSWER_S: Final = 240.0
"""Longest time for one scenario, seconds. Before the first, Java compiles and LiteLLM imports, for seconds at best."""
QUIET: Final = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "CRITICAL", "NODE_NO_WARNINGS": "1"}
"""LiteLLM would fetch a list of prices while it is imported."""


@dataclass(frozen=True)
class Needed:
    """A program of this machine, and the oldest version with which its client was tried."""

    program: str
    least: tuple[int, ...] = ()
    asked: str = "--version"

    def missing(self) -> str:
        """Empty: it is there."""
        if not shutil.which(self.program):
            return f"no {self.program}"
        if not self.least:
            return ""
        told = subprocess.run([self.program, self.asked], capture_output=True, text=True, check=False)
        found = re.search(r"\d+(?:\.\d+)*", told.stdout)
        version = tuple(map(int, found[0].split("."))) if found else ()
        least = ".".join(map(str, self.least))
        return "" if version >= self.least else f"{self.program} is older than {least}"


@dataclass(frozen=True)
class Client:
    """One client: `install` is run where all that it `needs` is there."""

    name: str
    title: str
    package: str
    command: Callable[[], Sequence[str]]
    pinned: Path | None
    """Where its version stands; None: it is the machine's own."""
    needs: tuple["Needed", ...] = ()
    install: Sequence[str] = ()
    folder: Path = ROOT

    @property
    def version(self) -> str:
        """As its lock file has it; empty: the machine's own."""
        if self.pinned is None:
            return ""
        package = rf"(?<![\w/-]){re.escape(self.package)}\W+(?:artifactId\W+version\W+)?v?"
        found = re.search(rf"{package}(\d[\w.]*)", self.pinned.read_text())
        assert found, f"{self.pinned} has no {self.package}"
        return found[1]

    @property
    def missing(self) -> str:
        """What this machine lacks, in words; empty: nothing."""
        return ", ".join(filter(None, (needed.missing() for needed in self.needs)))

    def prepare(self) -> None:
        """Installs, in the locked versions, what the program imports."""
        KEPT.mkdir(exist_ok=True)
        if self.install:
            subprocess.run(self.install, cwd=self.folder, check=True, stdout=sys.stderr)

    @contextlib.contextmanager
    def running(self, url: str, key: str, model: str, picture: Path) -> Generator["Program"]:
        """The program, waiting for the name of a scenario."""
        own = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key, "MODEL": model, "PICTURE": str(picture)}
        log = picture.with_name(f"{self.name}.log")
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env=_environment() | QUIET | own,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            program = Program(self, process, log)
            try:
                yield program
            finally:
                program.end()


class Program:
    """A client's program that runs."""

    def __init__(self, client: Client, process: subprocess.Popen[str], log: Path) -> None:
        self.client = client
        self._process, self._log = process, log
        self._lines: queue.Queue[tuple[str, float]] = queue.Queue()
        self._sent = 0.0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put((line, time.monotonic()))
        self._lines.put(("", time.monotonic()))

    def end(self) -> None:
        """Ends it with all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join()

    def send(self, scenario: str) -> None:
        """Begins a scenario."""
        assert self._process.stdin
        self._sent = time.monotonic()
        # One that has ended says so when its answer is asked for.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{scenario}\n")
            self._process.stdin.flush()

    def receive(self, seconds: float = ANSWER_S) -> Mapping[str, Any]:
        """What came of it, and `seconds` until then."""
        try:
            line, when = self._lines.get(timeout=seconds)
        except queue.Empty:
            return {"error": f"nothing after {seconds:.0f} s"}
        if not line:
            told = self._log.read_text(errors="replace").splitlines()
            return {"error": f"the program has ended: {told[-1] if told else 'it says nothing'}"}
        return {**json.loads(line), "seconds": when - self._sent}

    def ask(self, scenario: str) -> Mapping[str, Any]:
        """One scenario, to its end."""
        self.send(scenario)
        return self.receive()


def _environment() -> dict[str, str]:
    """This process's own without proxies, and without what would lead a client elsewhere."""
    elsewhere = ("OPENAI_", "LANGCHAIN_", "LANGSMITH_", "LITELLM_")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(elsewhere)
    }


def _python(program: str, interpreter: str = sys.executable) -> Callable[[], Sequence[str]]:
    return lambda: (interpreter, str(HERE / "python" / program))


def _node(program: str) -> Callable[[], Sequence[str]]:
    return lambda: ("node", str(HERE / "node" / program))


def _java() -> Sequence[str]:
    return "java", "--class-path", (KEPT / "classpath").read_text(), str(HERE / "java" / "OpenAi.java")


_OWN: Final = str(KEPT / "python" / "bin" / "python")
_DEV, _APART = ROOT / "requirements-dev.txt", HERE / "requirements.txt"
_GO: Final = str(KEPT / "openai-go")
_NODE: Final = (Needed("node", (20,)), Needed("npm"))
_NPM: Final = ("npm", "ci", "--no-audit", "--no-fund")
_MAVEN: Final = ("mvn", "--quiet", "--batch-mode", "dependency:build-classpath",
                 f"-Dmdep.outputFile={KEPT / 'classpath'}")  # fmt: skip

PYTHON: Final = Client("openai-python", "openai, Python", "openai", _python("openai_sync.py"), _DEV)
PYTHON_ASYNC: Final = Client("openai-python-async", "openai, Python, async", "openai", _python("openai_async.py"), _DEV)
CURL: Final = Client(
    "curl", "curl", "", lambda: ("sh", str(HERE / "curl" / "curl.sh")), None, (Needed("curl", (7, 82)),)
)
CLIENTS: Final = (
    PYTHON,
    PYTHON_ASYNC,
    Client("openai-node", "openai, Node", "openai", _node("openai.mjs"), HERE / "node" / "package.json",
           _NODE, _NPM, HERE / "node"),
    Client("openai-go", "openai, Go", "github.com/openai/openai-go/v3", lambda: (_GO,), HERE / "go" / "go.mod",
           (Needed("go", (1, 26), "version"),), ("go", "build", "-o", _GO, "."), HERE / "go"),
    Client("openai-java", "openai, Java", "openai-java", _java, HERE / "java" / "pom.xml",
           (Needed("java", (17,)), Needed("mvn")), _MAVEN, HERE / "java"),
    Client("langchain", "LangChain", "langchain-openai", _python("langchain_chat.py", _OWN), _APART, (Needed(_OWN),)),
    Client("litellm", "LiteLLM", "litellm", _python("litellm_completion.py", _OWN), _APART, (Needed(_OWN),)),
    Client("ai-sdk", "Vercel's AI SDK", "ai", _node("ai_sdk.mjs"), HERE / "node" / "package.json",
           _NODE, _NPM, HERE / "node"),
    CURL,
)  # fmt: skip
IN_EVERY_TEST: Final = (PYTHON, PYTHON_ASYNC, CURL)
"""Those that need nothing more than the tests themselves."""
