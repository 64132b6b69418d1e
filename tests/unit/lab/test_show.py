"""What the lab's commands print: readable in a pipe, without colour, at a width of 80."""

import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from lab import show
from lab.read.stack import ROOT

KEY = "sk-lab-" + "k" * 80
SCRIPT = "#!/bin/sh\n" + "echo [bold] :smile:\n" * 99
OUTPUTS: dict[str, Any] = {
    "next_steps": ["Do this first.", "Then do that, which is a sentence of the length that sentences often have."],
    "home_bootstrap": SCRIPT,
    "policy": "x" * 101,
    "base_url": "http://127.0.0.1:8787/v1",
    "api_keys": {"demo": KEY, "robot": "sk-lab-r"},
}
STATUS: dict[str, Any] = {
    "pid": 17,
    "uptime_s": 3725.2,
    "gateway": {"instances": 1, "in_flight": 2, "starts_s": [1.5, 0.3]},
    "burst": {"instances": 2, "most": 3, "in_flight": 1, "starts_s": []},
    "vm": {"machines": 2, "starting": 1, "most": 4},
    "lanes": {
        "home": {"state": "down", "seconds": 61, "in_flight": None, "error": "its check says 502 " * 5},
        "burst": {"state": "warm", "seconds": 5, "in_flight": 1, "error": "", "first_token_s": 0.25},
    },
    "processes": {"vm/model": {"pid": 18, "running": True}, "gateway/pilot": {"pid": 19, "running": False}},
    "restarts": {"home/vllm": 2},
    "faults": ["home-refused"],
    "errors": {"gateway-pilot": "2026-11-28T15:08:03Z " + "home is silent " * 8},
}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show.console, "width", 80)


def rows(text: str) -> list[list[str]]:
    """Cells of the printed tables; two blanks part them."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


# --- outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("terminal")
def test_outputs_show_values_to_copy_and_sizes_of_long_ones(capsys: pytest.CaptureFixture[str]) -> None:
    show.outputs(OUTPUTS)
    assert rows(capsys.readouterr().out) == [
        [],
        ["output", "value"],
        ["api_keys.demo", KEY],
        ["api_keys.robot", "sk-lab-r"],
        ["base_url", "http://127.0.0.1:8787/v1"],
        ["home_bootstrap", "script, 100 lines, 1.9 KiB"],
        ["next_steps", "list, 2 entries, 0.1 KiB"],
        ["policy", "text, 1 line, 0.1 KiB"],
        [],
        ["`python -m lab outputs home_bootstrap` prints that value whole"],
    ]


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (SCRIPT, "script, 100 lines, 1.9 KiB"),
        ("a\nb", "text, 2 lines, 0.0 KiB"),
        ("ä" * 512, "text, 1 line, 1.0 KiB"),
        (["x" * 1010], "list, 1 entry, 1.0 KiB"),
    ],
)
def test_size(value: Any, size: str) -> None:
    assert show.size_of(value) == size


def test_every_listed_name_is_a_value() -> None:
    known = show.named(OUTPUTS)
    assert known["api_keys.robot"] == "sk-lab-r"
    assert known["home_bootstrap"] == SCRIPT
    assert "api_keys" not in known
    assert show.named({"api_keys": {}}) == {"api_keys": {}}, "what is empty is listed, too"


# --- status ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("terminal")
def test_status_as_tables(capsys: pytest.CaptureFixture[str]) -> None:
    show.status("dev", STATUS)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    found = rows(text)
    for row in (
        ["stack dev", "up 1 h 2 min, pid 17"],
        ["gateway", "1 instance, 2 in flight"],
        ["cold starts", "2, the last took 0.30 s"],
        ["burst", "2 of up to 3 instances"],
        ["vm", "2 of up to 4 machines, 1 on the way"],
        ["faults", "home-refused"],
        ["lane", "state", "for", "in flight", "first token", "last error"],
        ["burst", "warm", "5 s", "1", "0.25 s", "-"],
        ["vm/model", "running", "18"],
        ["gateway/pilot", "ended", "19"],
        ["home/vllm", "2"],
    ):
        assert row in found
    assert ["home", "down", "1 min 1 s", "-", "-"] in [row[:5] for row in found]
    assert " ".join(text.split()).count("its check says 502") == 5, "a long error is folded, not cut"
    assert " ".join(text.split()).count("home is silent") == 8


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"lanes": {}}, "lanes: no pilot answers"),
        (
            {"lanes": {}, "gateway": {"instances": 0, "in_flight": 0, "starts_s": []}},
            "lanes: unknown while no gateway runs; a request starts one",
        ),
        ({"gateway": {"instances": 0, "in_flight": 0, "starts_s": []}}, "cold starts    none yet"),
        ({"faults": []}, "faults         none"),
        ({"errors": {}}, "errors in the logs: none"),
    ],
)
def test_status_says_what_is_not_there(capsys: pytest.CaptureFixture[str], change: dict[str, Any], line: str) -> None:
    show.status("dev", STATUS | change)
    assert " ".join(line.split()) in [" ".join(shown.split()) for shown in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.9, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert show.duration(seconds) == text


# --- progress --------------------------------------------------------------------------------------------------------

SAID = "lab: vm/model: [bold] :smile:" + " a line that goes on" * 5
PROGRAM = f"""
import time
from lab import show
with show.busy("models load"):
    show.say({SAID.removeprefix("lab: ")!r})
    time.sleep(0.3)
show.say("done")
"""


def run(*, terminal: bool, **environment: str) -> str:
    """The output of `PROGRAM`, on a terminal or in a pipe."""
    words = [sys.executable, "-c", PROGRAM]
    base = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    env = base | {"TERM": "xterm-256color"} | environment
    if not terminal:
        return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    ours, theirs = pty.openpty()
    process = subprocess.Popen(words, cwd=ROOT, env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    try:
        while piece := os.read(ours, 4096):
            text += piece
    except OSError:
        # Linux says so when the last writer has closed the terminal.
        pass
    finally:
        os.close(ours)
        process.wait(30)
    return text.decode()


def test_in_a_pipe_progress_is_lines_alone() -> None:
    assert run(terminal=False) == f"{SAID}\nlab: done\n"


def test_on_a_terminal_a_spinner_says_what_is_waited_for() -> None:
    text = run(terminal=True)
    assert "models load" in text
    assert f"{SAID}\r\n" in text
    assert "\x1b[32m" in text, "the spinner is green"


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(environment: dict[str, str]) -> None:
    text = run(terminal=True, **environment)
    assert f"{SAID}\r\n" in text
    assert "\x1b[3" not in text
