"""CONTRIBUTING's commands, without running them: each `sed` changes its file, each pytest names tests that exist."""

import re
import shlex
import subprocess

import pytest

from lab.read.stack import ROOT

BLOCKS = re.findall(r"^```console\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)
LINES = [line.removeprefix("$ ") for block in BLOCKS for line in block.splitlines()]
SED = sorted({line for line in LINES if line.startswith("sed ")})
PYTEST = sorted({line for line in LINES if " -m pytest " in line})


def changed(command: str) -> bool:
    """Whether a `sed -i SCRIPT FILE` finds what it replaces, in exactly one line."""
    _, inplace, script, name = shlex.split(command, comments=True)
    assert inplace == "-i"
    before = (ROOT / name).read_text()
    after = subprocess.run(["sed", script], input=before, check=True, capture_output=True, text=True).stdout
    pairs = zip(before.splitlines(), after.splitlines(), strict=True)
    return sum(old != new for old, new in pairs) == 1


def missing(command: str) -> list[str]:
    """Words of a pytest command's `-k` that no test under its paths has."""
    words = shlex.split(command, comments=True)[3:]
    wanted = words[words.index("-k") + 1].split(" and ") if "-k" in words else []
    paths = [ROOT / word for word in words if word.startswith("tests/")]
    assert paths
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.glob("*.py")))]
    assert files, f"nothing is under {paths}"
    text = "".join(file.read_text() for file in files)
    return [word for word in wanted if word not in text]


@pytest.mark.parametrize("command", SED)
def test_each_mistake_can_be_planted(command: str) -> None:
    assert changed(command)


@pytest.mark.parametrize("command", PYTEST)
def test_each_named_test_is_there(command: str) -> None:
    assert missing(command) == []


def test_there_are_commands_to_try() -> None:
    assert len(SED) >= 2
    assert len(PYTEST) >= 4


# --- planted mistakes -------------------------------------------------------------------------------------------------


def test_a_mistake_that_is_not_planted_is_seen() -> None:
    assert not changed("sed -i 's/ --shields-down//' components/gateway/tunnel.py")


def test_a_test_that_is_not_there_is_seen() -> None:
    assert missing('.venv/bin/python -m pytest tests/unit/gateway -k "check_tunnel and no_such"') == ["no_such"]
