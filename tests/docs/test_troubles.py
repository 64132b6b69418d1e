"""docs/troubles.md: each row names the test that shows it, and the test is there."""

import re

from lab.read.stack import ROOT

LINK = re.compile(r"\[((?:`\w+`(?:, )?)+)\]\(([\w/.]+)\)")


def test_each_known_trouble_links_to_its_test() -> None:
    page = ROOT / "docs" / "troubles.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 8
    for row in rows:
        links: list[tuple[str, str]] = LINK.findall(row.rsplit(" | ", 1)[-1])
        assert links, f"no test is named: {row}"
        for names, path in links:
            text = (page.parent / path).read_text()
            for name in re.findall(r"\w+", names):
                assert f"def {name}(" in text, f"{path} has no {name}"
