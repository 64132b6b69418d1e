"""The fenced blocks of README.md and docs/, and what may be said about them.

Owns: finding blocks, the mark `<!-- not run: REASON -->` above one, and typing a command. Does not own: which commands
are typed (`test_blocks`).
"""

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.read.stack import ROOT

PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
MARK: Final = re.compile(r"<!-- not run: (\S.*) -->")
OUTSIDE: Final = ("pulumi", "gcloud", "ssh", "k3s", "make", "git", "gh")
"""Programs that act on accounts, on other machines, or start the tests themselves: never run as they are."""
HEADING: Final = re.compile(r"#{1,6} (.*)")


@dataclass(frozen=True)
class Command:
    """One command of a console block, with the lines that its output must hold."""

    text: str
    expected: tuple[str, ...]

    @property
    def is_outside(self) -> bool:
        """Whether one of its parts is a program of `OUTSIDE`."""
        lexer = shlex.shlex(self.text, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        words = ["&&", *lexer]
        return any(word in OUTSIDE for before, word in itertools.pairwise(words) if before in ("|", "&&", ";"))


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first fence, `reason` why it isn't run, if it is marked."""

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page.name}:{self.line}"

    @property
    def commands(self) -> list[Command]:
        """Those of a console block: `$ ` begins one, a `\\` at its end goes on, and what follows is its output."""
        found: list[Command] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append(Command(line.removeprefix("$ "), ()))
            elif found and found[-1].text.endswith("\\"):
                found[-1] = Command(f"{found[-1].text[:-1]}{line.lstrip()}", ())
            else:
                assert found, f"{self.place}: a console block begins with `$ `"
                found[-1] = Command(found[-1].text, (*found[-1].expected, line))
        return found


def typed(
    text: str, folder: Path, environment: Mapping[str, str], limit_s: float
) -> "subprocess.CompletedProcess[str]":
    """What came of a command as somebody types it: its status, and all that it says in `stdout`."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", text],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s,
        check=False,
    )


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    return list(blocks_of(page, page.read_text()))


def blocks_of(page: Path, text: str) -> Iterator[Block]:
    """Those of a page's text."""
    lines = text.splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if start is None:
            start = number
            continue
        indent, _, language = lines[start].partition("```")
        above = MARK.fullmatch(lines[start - 1].strip()) if start else None
        body = "\n".join(one.removeprefix(indent) for one in lines[start + 1 : number])
        yield Block(page, start + 1, language, body, above[1] if above else None)
        start = None
    assert start is None, f"{page.name}:{start}: a block that isn't closed"


def section(page: Path, anchor: str) -> list[Block]:
    """The blocks below the heading that GitHub gives this anchor, up to the next heading of whatever level."""
    lines = page.read_text().splitlines()
    fenced = {number for block in blocks(page) for number in range(block.line, block.line + block.text.count("\n") + 2)}
    headings = [
        (number, re.sub(r"[^\w\- ]", "", found[1].lower()).replace(" ", "-"))
        for number, line in enumerate(lines)
        if (found := HEADING.fullmatch(line)) and number not in fenced
    ]
    [(begin, end)] = [
        (number, following)
        for (number, name), (following, _) in itertools.pairwise([*headings, (len(lines), "")])
        if name == anchor
    ]
    return [block for block in blocks(page) if begin < block.line <= end]


def problems(block: Block) -> list[str]:
    """What is wrong with a block before anything of it is run."""
    match block.language:
        case "console":
            commands = block.commands
            outside = [command.text for command in commands if command.is_outside]
            if outside and block.reason is None:
                return [f"{block.place}: say above the block why `{outside[0]}` can't run: <!-- not run: REASON -->"]
            inside = [command.text for command in commands if not command.is_outside]
            if inside and block.reason is not None:
                return [f"{block.place}: `{inside[0]}` runs here; take it out of the block that is marked as not run"]
            return [f"{block.place}: nobody sees the output" for c in commands if block.reason and c.expected]
        case "yaml" | "python":
            return [f"{block.place}: a {block.language} block needs no mark"] if block.reason is not None else []
        case "text":
            # Nothing reads it: a drawing, or another program's file, and no command.
            return [f"{block.place}: say above the block what it is: <!-- not run: REASON -->"] * (block.reason is None)
        case _:
            return [f"{block.place}: {block.language or 'a block without a language'}: nothing here can check it"]
