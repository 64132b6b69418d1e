"""README's table of known troubles: each row names the test that shows it, and the test is there."""

import re

from lab.read.stack import ROOT

LINK = re.compile(r"\[((?:`\w+`(?:, )?)+)\]\(([\w/.]+)\)")


def test_each_known_trouble_links_to_its_test() -> None:
    section = (ROOT / "README.md").read_text().partition("## Known troubles")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 8
    for row in rows:
        links: list[tuple[str, str]] = LINK.findall(row.rsplit(" | ", 1)[-1])
        assert links, f"no test is named: {row}"
        for names, path in links:
            text = (ROOT / path).read_text()
            for name in re.findall(r"\w+", names):
                assert f"def {name}(" in text, f"{path} has no {name}"
