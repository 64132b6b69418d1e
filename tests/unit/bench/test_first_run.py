"""What ends a newcomer's wait is a token, and nothing that the lab says before it."""

import sys
from pathlib import Path

import pytest

from bench import first_run
from bench.errors import BenchError


@pytest.mark.parametrize(("says", "answers"), [("first answer: Hi", True), ("first answer: ", False), ("", False)])
def test_only_a_token_ends_the_wait(tmp_path: Path, says: str, answers: bool) -> None:
    """A clone whose lab says so, and ends."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / "lab/run").mkdir(parents=True)
    (tmp_path / "lab/run/own_network.py").write_text(f"print({says!r}, end='', flush=True)")
    if answers:
        assert first_run.first_token(tmp_path) > 0
    else:
        with pytest.raises(BenchError, match="no answer"):
            first_run.first_token(tmp_path)
