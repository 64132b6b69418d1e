"""The main job: the examples get answers of a real model from the declared endpoint, and so do clients as they are.

Here are those that need nothing but the tests' own environment; the others' turn is `make clients`.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from lab.read.stack import ROOT
from tests.clients.programs import IN_EVERY_TEST, Client
from tests.clients.scenarios import ALL, GOOD
from tests.clients.trial import Cells, Trial, lab
from tests.lab.running import Running, environment

pytestmark = pytest.mark.usefixtures("declared_addresses")
CLIENTS = [client for client in IN_EVERY_TEST if not client.missing]


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


def test_an_example_without_a_lab_says_how_to_start_one() -> None:
    """First, for the lab of this module starts with the next test."""
    refused = example("examples/chat.py", "hello")
    assert refused.returncode == 1
    assert "start it with `python -m lab up`" in refused.stderr


@pytest.fixture(scope="module")
def here(declared_addresses: None) -> Iterator[Running]:
    del declared_addresses
    with lab(CLIENTS) as running:
        yield running


def test_examples_get_real_answers(here: Running, tmp_path: Path) -> None:
    picture = tmp_path / "photo.jpg"
    Image.new("RGB", (2000, 1000), (200, 30, 30)).save(picture)
    first = here.text.partition("first answer: ")[2].partition("\n")[0]
    assert any(letter.isalpha() for letter in first)
    assert "BACKEND:" not in first
    assert "s, served by home\n" in here.text
    chat = example("examples/chat.py", "hello")
    assert chat.returncode == 0, chat.stderr
    assert any(letter.isalpha() for letter in chat.stdout)
    assert "(served by home)" in chat.stderr
    seen = example("examples/describe_image.py", str(picture))
    assert seen.returncode == 0, seen.stderr
    # The small model sees noise, so nothing is said about the words; all that counts is that the picture was taken.
    assert "(served by home)" in seen.stderr


@pytest.fixture(scope="module")
def cells(here: Running, tmp_path_factory: pytest.TempPathFactory) -> Cells:
    return Trial(here, CLIENTS, tmp_path_factory.mktemp("clients") / "picture.png").run()


@pytest.mark.parametrize("client", IN_EVERY_TEST, ids=lambda client: client.name)
def test_a_client_gets_through_every_scenario(client: Client, cells: Cells) -> None:
    if client.missing:
        pytest.skip(client.missing)
    assert cells[client.name] == {scenario.title: GOOD for scenario in ALL}
