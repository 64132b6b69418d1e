"""A lab under test as its user has it: the command line, the processes behind it, and a caller of its endpoint."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai

from lab import control
from lab.read.stack import ROOT
from tests.kit import until


def environment() -> dict[str, str]:
    """The tests' own calls go to loopback, whatever the machine's proxy is."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def folder() -> Path:
    """Of the lab under test, which is another one than that of whoever runs the tests."""
    return control.folder_of("dev")


def lab(*words: str, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
    """One command of the real command line."""
    return subprocess.run(
        [sys.executable, "-m", "lab", *words],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


# --- processes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A process as /proc shows it; the start time tells it from a later one of the same number."""

    pid: int
    parent: int
    session: int
    started: int


def running_processes() -> list[Seen]:
    """All processes but zombies: nobody may be there to reap an orphan."""
    found: list[Seen] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX":
                found.append(Seen(int(stat.parent.name), int(fields[1]), int(fields[3]), int(fields[19])))
    return found


def family(pid: int) -> set[Seen]:
    """`pid`, its descendants, and whoever is in a session that one of them leads."""
    everyone = running_processes()
    found = {seen for seen in everyone if seen.pid == pid}
    while True:
        pids = {seen.pid for seen in found}
        grown = found | {seen for seen in everyone if seen.parent in pids or seen.session in pids}
        if grown == found:
            return found
        found = grown


def left_of(before: set[Seen]) -> set[int]:
    """Those of `before` that still run."""
    now = {(seen.pid, seen.started) for seen in running_processes()}
    return {seen.pid for seen in before if (seen.pid, seen.started) in now}


def none_left(before: set[Seen], seconds: float) -> None:
    until(lambda: not left_of(before), f"still there: {left_of(before)}", seconds)


@contextlib.contextmanager
def detached(*options: str) -> Generator[str]:
    """A lab in the background; ends it with `down`, or by force if that fails."""
    up = lab("up", "--detach", *options, limit_s=240)
    assert up.returncode == 0, up.stdout + up.stderr
    before = family(status()["pid"])
    try:
        yield up.stdout
    finally:
        with contextlib.suppress(control.LabError):
            before |= family(status()["pid"])
        lab("down")
        for seen in left_of(before):
            with contextlib.suppress(ProcessLookupError):
                os.kill(seen, signal.SIGKILL)


def status() -> dict[str, Any]:
    return control.call(folder(), "GET", "/status")


# --- one running lab with fake models --------------------------------------------------------------------------------


class Running:
    """A caller of the running lab, with the first client's key, and the fakes behind it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.outputs: dict[str, Any] = json.loads(lab("outputs", "--json").stdout)
        self.key: str = self.outputs["api_keys"]["demo"]
        self.model: str = self.outputs["model"]
        self.http = httpx.Client(base_url=self.outputs["base_url"], trust_env=False, timeout=60)
        self.authorized = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        addresses = status()["addresses"]
        self.fakes = {
            "vm": f"http://{addresses['vm: 0.0.0.0:9931']}",
            "home": f"http://{addresses['home/vllm: pod port 8000']}",
        }

    def client(self, key: str | None = None) -> openai.OpenAI:
        """The stock SDK without its retries, so that every failure shows."""
        direct = openai.DefaultHttpxClient(trust_env=False)
        return openai.OpenAI(
            base_url=self.outputs["base_url"], api_key=key or self.key, max_retries=0, timeout=30, http_client=direct
        )

    def ask(self, client: openai.OpenAI) -> tuple[str, str]:
        """(lane by header, text) of one plain answer."""
        raw = client.chat.completions.with_raw_response.create(
            model=self.model, messages=[{"role": "user", "content": "hello"}]
        )
        return raw.headers["X-Served-By"], raw.parse().choices[0].message.content or ""

    def lane(self, limit_s: float = 30) -> str:
        """Who serves now; empty after `limit_s`: a request that a black hole has swallowed never comes back."""
        with self.client() as client, contextlib.suppress(openai.APITimeoutError):
            return self.ask(client.with_options(timeout=limit_s))[0]
        return ""

    def settle(self, lane: str) -> None:
        until(lambda: self.lane(2) == lane, f"{lane} never served")

    def fault(self, name: str, on: bool) -> None:
        control.call(folder(), "POST", "/fault", {"name": name, "on": on})

    @contextlib.contextmanager
    def broken(self, name: str) -> Generator[None]:
        self.fault(name, True)
        try:
            yield
        finally:
            self.fault(name, False)

    def close(self) -> None:
        self.http.close()

    def behave(self, lane: str, **change: object) -> None:
        self.http.post(f"{self.fakes[lane]}/_fault", json=change).raise_for_status()
