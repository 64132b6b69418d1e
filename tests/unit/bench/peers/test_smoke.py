"""A very short run of the comparison, with whatever peers are installed: it ends, and writes its tables."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.read.stack import ROOT


@pytest.mark.slow
def test_a_short_run_writes_its_tables(tmp_path: Path) -> None:
    parts = [word for name in ("line", "start", "failover") for word in ("--only", name)]
    command = [
        sys.executable,
        "lab/run/own_network.py",
        "-m",
        "bench",
        "--scale",
        "smoke",
        *parts,
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "RESULTS.md").read_text()
    served = re.search(r"^\| ours, 70 callers at once \| ([0-9.]+) \|.* (\S+) \|$", text, re.M)
    assert served, text
    assert float(served[1]) > 0
    assert served[2] == "0", "nobody in line is lost"
    started = re.search(r"^\| ours, VM lane, 1 client \| ([0-9.]+) \|", text, re.M)
    assert started, text
    assert re.search(r"^\| ours \| 0 of \d+ lost", text, re.M), "a home that refuses costs nobody his answer"
    assert (tmp_path / "line.svg").exists()
    assert "Left out of this run." in text
