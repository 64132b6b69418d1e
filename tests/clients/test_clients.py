"""The main job: the examples get answers of a real model from the declared endpoint."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lab.read.stack import ROOT
from tests.lab.running import detached, environment

pytestmark = pytest.mark.usefixtures("declared_addresses")


# --- the main job ----------------------------------------------------------------------------------------------------


def test_examples_get_real_answers(tmp_path: Path) -> None:
    picture = tmp_path / "photo.jpg"
    Image.new("RGB", (2000, 1000), (200, 30, 30)).save(picture)

    def example(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    with detached() as text:
        first = text.partition("first answer: ")[2].partition("\n")[0]
        assert any(letter.isalpha() for letter in first)
        assert "BACKEND:" not in first
        assert "s, served by home\n" in text
        chat = example("examples/chat.py", "hello")
        assert chat.returncode == 0, chat.stderr
        assert any(letter.isalpha() for letter in chat.stdout)
        assert "(served by home)" in chat.stderr
        seen = example("examples/describe_image.py", str(picture))
        assert seen.returncode == 0, seen.stderr
        # The small model sees noise, so nothing is said about the words; all that counts is that the picture was taken.
        assert "(served by home)" in seen.stderr
    refused = example("examples/chat.py", "hello")
    assert refused.returncode == 1
    assert "start it with `python -m lab up`" in refused.stderr
