"""How a lab begins and ends: by a signal, by force, beside another program on its address, without a key."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator

import pytest

from lab.read.stack import ROOT
from tests.kit import until
from tests.lab.running import Running, detached, environment, family, folder, lab, left_of, none_left, status

UP = (sys.executable, "-u", "-m", "lab", "up")

pytestmark = pytest.mark.usefixtures("declared_addresses")


# --- joining without a key --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_gateway_joins_by_its_identity() -> None:
    log = folder() / "logs" / "gateway-tailscale.log"
    earlier = log.stat().st_size if log.exists() else 0
    with (
        detached("--fake-models", "--answer-in", "0", "--config", 'tailnet={"join": "federated"}') as text,
        contextlib.closing(Running(text)) as here,
    ):
        here.settle("home")
        assert "invalid key" not in log.read_text()[earlier:]
        with here.broken("tunnel-down"):
            here.settle("vm")
        here.settle("home")


# --- beginning and end -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a parent's death is told by Linux only")
def test_killed_supervisor_leaves_no_process() -> None:
    with detached("--fake-models", "--answer-in", "0"):
        before = family(status()["pid"])
        os.kill(status()["pid"], signal.SIGKILL)
        none_left(before, 60)
        assert lab("status").returncode == 1


@contextlib.contextmanager
def foreground(*options: str) -> Generator[subprocess.Popen[str]]:
    """`up` as in a terminal: in a process group of its own, its output in a pipe."""
    process = subprocess.Popen(
        [*UP, *options],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.terminate()
    finally:
        assert process.poll() is not None


def read_until(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stdout
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(f"it ended before it said {beginning!r}")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--fake-models", "--answer-in", "0"], id="serving"),
        pytest.param([], id="loading", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_ends_everything(options: list[str]) -> None:
    """When it serves, and before: while real models load."""
    with foreground(*options) as process:
        read_until(process, "ready" if options else "lab: starting")
        if not options:
            until(lambda: len(family(process.pid)) >= 5, "nothing was started")
        before = family(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.stdout
        rest = process.stdout.read()
        assert process.wait(60) == 0
        assert "lab: ending\n" in rest
        assert "ready\n" not in rest
        assert "Traceback" not in rest
        assert not left_of(before)
    assert not (folder() / "state.json").exists()


def test_taken_address_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 1055))
        taken.listen()
        up = lab("up", "--detach", "--fake-models", "--answer-in", "0")
    assert up.returncode == 1
    assert "lab: 127.0.0.1:1055 is in use; is another lab up? End it with `python -m lab down`\n" in up.stdout
    assert "Traceback" not in up.stdout + up.stderr
