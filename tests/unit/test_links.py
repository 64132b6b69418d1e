"""Links within the documentation: each leads to a file, folder or heading that is there."""

import re
import subprocess
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

from lab.read.stack import ROOT

CODE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|^\[[^\]]+\]: (\S+)", re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
ANCHOR = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")
ELSEWHERE = re.compile(r"[a-z][a-z+.-]*:", re.IGNORECASE)
"""A scheme: `https:`, `mailto:`."""


def pages() -> list[Path]:
    """Every Markdown file that is kept, or would be by `git add .`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(path for name in listed.split("\0") if name and (path := ROOT / name).exists())


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to a page's headings: a second equal one gets `-1`."""
    found: set[str] = set(ANCHOR.findall(text))
    seen = Counter[str]()
    for heading in HEADING.findall(CODE.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def links(text: str) -> list[str]:
    """Targets of a page's links, without those to other sites; code is no link."""
    text = re.sub(r"`[^`\n]*`", "``", CODE.sub("", text))
    targets = ["".join(found) for found in LINK.findall(text)]
    return [target for target in targets if not ELSEWHERE.match(target)]


def broken(page: Path, root: Path = ROOT) -> list[str]:
    """The page's links that lead nowhere, each with the reason."""
    found: list[str] = []
    for link in links(page.read_text()):
        place, _, anchor = unquote(link).partition("#")
        target = (page.parent / place).resolve() if place else page
        if place.startswith("/") or not target.is_relative_to(root.resolve()):
            found.append(f"{link}: not within the repository")
        elif not target.exists():
            found.append(f"{link}: there is no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
            found.append(f"{link}: {target.name} has no such heading")
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_link_leads_to_something(page: Path) -> None:
    assert broken(page) == []


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = links((folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("*.md") if path.name != "README.md")


# --- planted mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a](other.md) [b](folder/) [c](#here)\n\n## Here", None),
        ('[a](folder/deep.md#the-hop-burst-s) [b](<other.md>) [c](other.md "another")', None),
        ("`[a](nowhere.md)`\n\n```console\n$ [a](nowhere.md)\n```\n[b](https://example.com/nowhere.md)", None),
        ("## Twice\n## Twice\n[a](#twice-1)", None),
        ("[a](nowhere.md)", "nowhere.md: there is no such file"),
        ("[`f`, `g`](folder/nowhere.py)", "folder/nowhere.py: there is no such file"),
        ("![a](nowhere.svg)", "nowhere.svg: there is no such file"),
        ("[a][b]\n\n[b]: nowhere.md", "nowhere.md: there is no such file"),
        ("[a](folder/deep.md#nowhere)", "folder/deep.md#nowhere: deep.md has no such heading"),
        ("[a](#there)\n\n```console\n# there\n```", "#there: page.md has no such heading"),
        ("[a](../elsewhere.md)", "../elsewhere.md: not within the repository"),
        ("[a](/other.md)", "/other.md: not within the repository"),
    ],
)
def test_a_planted_link_is_seen(tmp_path: Path, text: str, told: str | None) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "deep.md").write_text("# The `hop`: [burst](x.md)-s!\n")
    (tmp_path / "other.md").write_text("")
    page = tmp_path / "page.md"
    page.write_text(text)
    assert broken(page, tmp_path) == ([told] if told else [])
