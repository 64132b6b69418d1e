"""Caddy's start with its packed configuration: the declared command as it stands, by the shell, with the real Caddy."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from components.gateway.caddy.config import command, packed
from lab.run import folders
from tests.kit import until

LARGE: Final = {"note": "x'\"\\$(exit 7)`exit 7`$PATH\n" * 40_000}
"""More than a pipe holds, and all that a shell may take for its own."""


def config() -> str:
    return json.dumps({"admin": {"disabled": True, "config": {"persist": False}}, "apps": {"http": {}}})


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The folder of the lab's own programs: `bzcat` is one of them."""
    (tmp_path / "bin").mkdir()
    folders.write_programs(tmp_path, tmp_path / "bin")
    return tmp_path / "bin"


@contextmanager
def started(content: bytes, folder: Path, *programs: Path | str) -> Generator[tuple[subprocess.Popen[bytes], Path]]:
    """The command on `content`, with its log."""
    (folder / "caddy.json.bz2").write_bytes(content)
    path = ":".join(map(str, (*programs, Path(sys.executable).parent, "/usr/bin", "/bin")))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command(str(folder / "caddy.json.bz2")),
            env={"PATH": path, "HOME": str(folder)},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process, folder / "log"
    finally:
        process.kill()
        process.wait()


def test_what_is_packed_is_the_same_document_in_the_same_bytes_everywhere() -> None:
    """The sum is that of bzip2 1.0.8's own program: `bzip2 -9`."""
    text = json.dumps([{"dial": f"127.0.0.1:{n}", "max_requests": n % 7} for n in range(20_000)])
    assert (
        hashlib.sha256(packed(text)).hexdigest() == "d2e0344c666c94329d0490f439f6c6b5eee62d77cf7be2e5c793de54fb930030"
    )


def test_caddy_reads_it_writes_nothing_and_ends_in_its_own_way(tmp_path: Path, programs: Path) -> None:
    with started(packed(config()), tmp_path, programs) as (process, log):
        until(lambda: "serving initial configuration" in log.read_text())
        assert Path(f"/proc/{process.pid}/exe").readlink().name.startswith("caddy"), "it gets the signal itself"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert "shutdown complete" in log.read_text()
    assert {path.name for path in tmp_path.rglob("*caddy.json*")} == {"caddy.json.bz2"}


def test_every_byte_reaches_caddy(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    caddy = tmp_path / "bin" / "caddy"
    caddy.write_text('#!/bin/sh\necho "$@" > asked\nexec cat > read\n')
    caddy.chmod(0o755)
    folders.write_programs(tmp_path, tmp_path / "bin")
    text = json.dumps(LARGE)
    with started(packed(text), tmp_path, tmp_path / "bin") as (process, _):
        assert process.wait(20) == 0
    assert (tmp_path / "asked").read_text() == "run --config -\n"
    assert (tmp_path / "read").read_text() == f"{text}\n"


BROKEN: Final[dict[str, Callable[[bytes], bytes]]] = {
    "cut": lambda whole: whole[:-20],
    "one other bit": lambda whole: whole[:40] + bytes([whole[40] ^ 1]) + whole[41:],
    "not packed": lambda _: config().encode(),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_one_ends_the_container_and_says_so(tmp_path: Path, programs: Path, case: str) -> None:
    with started(BROKEN[case](packed(config())), tmp_path, programs) as (process, log):
        assert process.wait(20) == 1
    *_, last = log.read_text().splitlines()
    assert last == (
        f"pilotlight: {tmp_path}/caddy.json.bz2 is broken, so Caddy has no configuration and the gateway can't start; "
        "deploy it again"
    )
    assert "serving" not in log.read_text()
