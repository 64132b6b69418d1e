"""`.github/drift.sh`, run with stand-ins for Pulumi and for GitHub's program: one issue, whatever happens."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = ROOT / ".github" / "drift.sh"
STAND_IN: Final = """#!{python}
import json, os, sys
told = json.load(open(os.environ["ANSWERS"]))
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + chr(10))
if sys.argv[0].endswith("gh"):
    if sys.argv[1:3] == ["issue", "list"]:
        assert "env.TITLE" in sys.argv[-1] and os.environ["TITLE"] == "Drift in the stack dev"
        print(told["issue"])
    sys.exit(told["gh"])
without_home = any("kubernetes" in word for word in sys.argv)
print(told["without home" if without_home else "all"][1])
sys.exit(told["without home" if without_home else "all"][0])
"""
SAME: Final = [0, "Resources:\n    42 unchanged"]
CHANGES: Final = "  ~ gateway-service\nerror: no changes were expected for preview but changes were proposed"
DIFFERS: Final = [255, CHANGES]
HOME_OFF: Final = [255, "error: failed to read resource state due to unreachable cluster"]
BROKEN: Final = [255, "error: googleapi: Error 403: Permission denied"]
VERSIONS: Final = "**SecretVersion::**"


@dataclass(frozen=True)
class Done:
    code: int
    calls: list[list[str]]

    def of(self, program: str, *words: str) -> list[list[str]]:
        return [call[1:] for call in self.calls if call[: 1 + len(words)] == [program, *words]]


Look = Callable[..., Done]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Runs the script; `issue` is the number of the one that is open."""
    for name in ("gh", "pulumi"):
        path = tmp_path / name
        path.write_text(STAND_IN.format(python=sys.executable))
        path.chmod(0o755)
    calls = tmp_path / "calls"

    def run(everything: list[Any], without_home: list[Any] | None = None, issue: str = "", gh: int = 0) -> Done:
        answers = {"all": everything, "without home": without_home or everything, "issue": issue, "gh": gh}
        (tmp_path / "answers").write_text(json.dumps(answers))
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "ANSWERS": str(tmp_path / "answers"),
            "CALLS": str(calls),
            "STACK": "dev",
            "RUN": "https://github.test/run/1",
        }
        done = subprocess.run([str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)
        return Done(done.returncode, [json.loads(line) for line in calls.read_text().splitlines()])

    return run


def test_it_compares_with_the_cloud_and_reads_no_secret(look: Look) -> None:
    [words] = look(SAME).of("pulumi")
    assert words[:5] == ["preview", "--stack", "dev", "--refresh", "--expect-no-changes"]
    assert words[words.index("--exclude") + 1] == VERSIONS


def test_without_a_difference_nothing_is_opened(look: Look) -> None:
    done = look(SAME)
    assert done.code == 0
    assert [words[:2] for words in done.of("gh")] == [["issue", "list"]]


def test_a_difference_opens_an_issue_that_says_what_to_do(look: Look) -> None:
    done = look(DIFFERS)
    assert done.code == 0, "the issue is the message"
    [created] = done.of("gh", "issue", "create")
    title, body = created[created.index("--title") + 1], created[created.index("--body") + 1]
    assert title == "Drift in the stack dev"
    assert "~ gateway-service" in body
    assert "https://github.test/run/1" in body
    assert "pulumi up --refresh" in body


def test_a_difference_renews_the_one_that_is_open(look: Look) -> None:
    done = look(DIFFERS, issue="7")
    [edited] = done.of("gh", "issue", "edit")
    assert edited[2] == "7"
    assert not done.of("gh", "issue", "create")


def test_the_issue_is_closed_when_nothing_differs_any_more(look: Look) -> None:
    done = look(SAME, issue="7")
    [closed] = done.of("gh", "issue", "close")
    assert closed[2] == "7"


def test_while_home_is_off_the_rest_is_compared(look: Look) -> None:
    done = look(HOME_OFF, SAME, issue="7")
    assert done.code == 0
    assert len(done.of("pulumi")) == 2
    assert not done.of("gh", "issue", "close"), "home's share of it may still differ"
    differing = look(HOME_OFF, DIFFERS)
    [created] = differing.of("gh", "issue", "create")
    assert "Home is off" in created[created.index("--body") + 1]


def test_a_comparison_that_fails_is_told_and_red(look: Look) -> None:
    done = look(BROKEN)
    assert done.code == 1
    [created] = done.of("gh", "issue", "create")
    assert "could not be compared" in created[created.index("--body") + 1]


def test_a_long_difference_fits_into_an_issue(look: Look) -> None:
    done = look([255, "x" * 90_000 + "\n" + CHANGES])
    [created] = done.of("gh", "issue", "create")
    body = created[created.index("--body") + 1]
    assert len(body) < 65_536
    assert "~ gateway-service" in body, "the end has the summary"


def test_github_s_refusal_is_red(look: Look) -> None:
    assert look(DIFFERS, gh=1).code == 1


def test_the_script_has_no_mistake_that_shellcheck_knows() -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
