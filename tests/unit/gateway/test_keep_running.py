"""The loop around a sidecar, run by the shell: a bad key costs the home lane, never the instance."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.gateway import tunnel

ENDS = "exit 3\n"
STAYS = 'echo up >> "$STATE/started"\nexec /bin/sleep 60\n'
SAYS_GOODBYE = """trap '/bin/sleep 0.3; echo bye > "$STATE/left"; exit 0' TERM
echo up >> "$STATE/started"
while :; do /bin/sleep 0.02; done
"""
# The ninth pause is a real one, so that the tries end.
COUNTS = """n=$(cat "$STATE/pauses" 2>/dev/null | wc -l)
echo "$1" >> "$STATE/pauses"
[ "$n" -lt 8 ] || exec /bin/sleep 60
"""
PAUSES = 'echo "$1" >> "$STATE/pauses"\nexec /bin/sleep 60\n'
# Runs of 5, 89, 90 and 5 s, then none.
CLOCK = """n=$(cat "$STATE/clock" 2>/dev/null || echo 0)
echo $((n + 1)) > "$STATE/clock"
set -- 0 5 10 99 110 200 210 215
[ "$n" -lt 8 ] || n=7
shift "$n"
echo "$1"
"""


class Loop:
    """The script as the container runs it, `/bin/sh -c TEXT`, with programs of ours on PATH that leave traces."""

    patience_s = 2.0
    """How long it may take to end; the longest of the true ones takes 0.3 s."""

    def __init__(self, folder: Path) -> None:
        self.state, self._bin = folder / "state", folder / "bin"
        self.state.mkdir()
        self._bin.mkdir()
        self._process: subprocess.Popen[str] | None = None

    def start(self, script: str | None, **programs: str) -> None:
        for name, body in programs.items():
            path = self._bin / name
            path.write_text(f"#!/bin/sh\n{body}")
            path.chmod(0o755)
        command = tunnel.command()
        self._process = subprocess.Popen(
            [*command[:2], script or command[2], *command[3:]],
            env={"PATH": f"{self._bin}:/usr/bin:/bin", "STATE": str(self.state)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def traces(self, name: str) -> list[str]:
        path = self.state / name
        return path.read_text().split() if path.exists() else []

    def until(self, name: str, count: int) -> None:
        """Waits for so many traces."""
        assert self._process
        deadline = time.monotonic() + 10
        while len(self.traces(name)) < count:
            assert self._process.poll() is None, f"the loop ended with {self._process.returncode}"
            assert time.monotonic() < deadline, self.traces(name)
            time.sleep(0.01)

    def terminate(self) -> list[str]:
        """What Cloud Run does at the end: SIGTERM to the shell. It must be gone soon, with all it started.

        Returns the script's own lines; some shells add that they terminated a child.
        """
        assert self._process
        self._process.terminate()
        try:
            _, told = self._process.communicate(timeout=self.patience_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {self.patience_s:g} s") from None
        assert self._process.returncode == 0
        assert not self._alive(), "an orphan is left"
        return [line for line in told.splitlines() if line.startswith("pilotlight")]

    def _alive(self) -> bool:
        assert self._process
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def end(self) -> None:
        if not self._process:
            return
        if self._alive():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(5)
        if self._process.stderr:
            self._process.stderr.close()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    found = Loop(tmp_path)
    try:
        yield found
    finally:
        found.end()


def check_tries_again(loop: Loop, script: str | None = None) -> None:
    """Pauses double to about a minute, and every try is told in one line."""
    loop.start(script, containerboot=ENDS, sleep=COUNTS)
    loop.until("pauses", 9)
    told = loop.terminate()
    pauses = ["1", "2", "4", "8", "16", "32", "64", "64", "64"]
    assert loop.traces("pauses") == pauses
    assert told == [
        "pilotlight: the tailnet is away, only the home lane needs it (containerboot ended with status 3); "
        + f"next try in {pause} s"
        for pause in pauses
    ]


def check_missing_entrypoint(loop: Loop, script: str | None = None) -> None:
    loop.start(script, sleep=COUNTS)
    loop.until("pauses", 9)
    assert "ended with status 127" in loop.terminate()[0]


def check_pause_resets(loop: Loop, script: str | None = None) -> None:
    """After a run of 90 s or more it's a new trouble."""
    loop.start(script, containerboot=ENDS, sleep=COUNTS, date=CLOCK)
    loop.until("pauses", 9)
    loop.terminate()
    assert loop.traces("pauses")[:5] == ["1", "2", "1", "2", "4"]


def check_ends_with_the_entrypoint(loop: Loop, script: str | None = None) -> None:
    loop.start(script, containerboot=STAYS)
    loop.until("started", 1)
    assert loop.terminate() == []
    assert loop.traces("started") == ["up"]


def check_ends_in_a_pause(loop: Loop, script: str | None = None) -> None:
    loop.start(script, containerboot=ENDS, sleep=PAUSES)
    loop.until("pauses", 1)
    loop.terminate()
    assert loop.traces("pauses") == ["1"]


def check_entrypoint_may_say_goodbye(loop: Loop, script: str | None = None) -> None:
    """It logs out of the tailnet; the shell must not leave before it."""
    loop.start(script, containerboot=SAYS_GOODBYE)
    loop.until("started", 1)
    loop.terminate()
    assert loop.traces("left") == ["bye"]


CHECKS = [
    check_tries_again,
    check_missing_entrypoint,
    check_pause_resets,
    check_ends_with_the_entrypoint,
    check_ends_in_a_pause,
    check_entrypoint_may_say_goodbye,
]


@pytest.mark.parametrize("check", CHECKS)
def test_the_loop_keeps_the_instance_alive(loop: Loop, check: Callable[[Loop], None]) -> None:
    check(loop)


@pytest.mark.parametrize(
    ("check", "text", "instead"),
    [
        (check_tries_again, "while :; do", "for once in 1; do"),
        (check_tries_again, "pause * 2", "pause * 1"),
        (check_tries_again, '"$pause" -lt 60', '"$pause" -lt 600'),
        (check_tries_again, ">&2", ">/dev/null"),
        (check_tries_again, "status=$?", "status=0"),
        (check_pause_resets, "-ge 90 ] && pause=1", "-ge 90 ]"),
        (check_pause_resets, "-ge 90", "-ge 89"),
        (check_pause_resets, "-ge 90", "-ge 91"),
        (check_ends_with_the_entrypoint, "trap stop TERM INT", ":"),
        (check_ends_with_the_entrypoint, "kill -TERM", "kill -0"),
        (check_ends_with_the_entrypoint, "exit 0", "exit 1"),
        (check_ends_in_a_pause, 'sleep "$pause" &\n  wait "$!"', 'sleep "$pause"'),
        (check_entrypoint_may_say_goodbye, '2>/dev/null && wait "$!"', "2>/dev/null"),
    ],
)
def test_a_mistake_in_the_loop_is_seen(loop: Loop, check: Callable[[Loop, str], None], text: str, instead: str) -> None:
    script = tunnel.command()[2]
    assert script.count(text) == 1
    # Those that never end are waited for in vain.
    loop.patience_s = 0.8
    with pytest.raises(AssertionError):
        check(loop, script.replace(text, instead))


def test_the_script_needs_no_bash() -> None:
    subprocess.run(["/bin/sh", "-n", "-c", tunnel.command()[2]], check=True, timeout=10)
    assert "[[" not in tunnel.command()[2]
