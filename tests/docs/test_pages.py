"""README.md and docs/: what holds without running anything."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from components.settings import Settings, reading
from components.settings.section import SettingsError
from lab.read.stack import ROOT
from lab.run.faults import FAULTS
from tests.docs.blocks import PAGES, Block, blocks, blocks_of, problems
from tests.docs.walk import STEPS, steps

README = ROOT / "README.md"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PLACEHOLDERS = {"<commit>": "a" * 40, "<sha256>": "a" * 64, "<repository>": "somebody/weights"}
"""What only the reader knows."""
OF_PROVIDERS = ("gcp:project", "gcp:region", "tailscale:tailnet")
ALL = [block for page in PAGES for block in blocks(page)]


def place(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("block", ALL, ids=place)
def test_a_block_is_run_or_says_why_not(block: Block) -> None:
    assert problems(block) == []


def test_the_readme_is_for_one_sitting() -> None:
    assert len(README.read_text().splitlines()) <= 200


def test_the_readme_s_order_is_its_reader_s() -> None:
    headings = re.findall(r"^## (.*)$", README.read_text(), re.MULTILINE)
    assert headings == [
        "What it costs",
        "Try it",
        "Deploy it",
        "Verify it",
        "Change the model",
        "Operate it",
        "Limits",
        "Contribute",
    ]


def test_the_readme_links_each_page_once() -> None:
    linked = [target.partition("#")[0] for target in LINK.findall(README.read_text())]
    pages = [f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")]
    for page in (*pages, "docs/decisions/README.md", "CONTRIBUTING.md"):
        assert linked.count(page) == 1, f"{page}: linked {linked.count(page)} times"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^\$ )make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets


def test_the_walk_leads_through_every_step_to_something_to_type() -> None:
    found = steps()
    assert tuple(found) == STEPS
    for step, sections in found.items():
        for blocks_there in sections:
            assert blocks_there, f"{step}: a section has nothing to type"


# --- settings that the pages show -------------------------------------------------------------------------------------


def settings_of(text: str) -> Settings:
    """What the stack would make of a block of Pulumi.<stack>.yaml."""
    for placeholder, value in PLACEHOLDERS.items():
        text = text.replace(placeholder, value)
    document = yaml.safe_load(text)
    assert set(document) == {"config"}, "only Pulumi.<stack>.yaml is known here"
    given = {key: json.dumps(value, default=str) for key, value in document["config"].items()}
    return reading.read({"gcp:project": "my-project-123", "gcp:region": "us-central1", **given}, stack="dev")


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "yaml"], ids=place)
def test_the_stack_takes_the_settings_shown(block: Block) -> None:
    assert settings_of(block.text)


def config_set(command: str) -> dict[str, str]:
    """The config that a `pulumi config set` writes, as the engine hands it to the program."""
    words = [
        word for word in shlex.split(command.partition("<")[0].partition("&&")[0])[3:] if not word.startswith("--")
    ]
    key, *value = words
    if key in OF_PROVIDERS:
        return {key: value[0]}
    top, *path = key.split(".")
    if not value:
        assert top == "kubeconfig", f"{command}: no value"
        return {}
    tree = yaml.safe_load(value[0])
    for name in reversed(path):
        tree = {name: tree}
    return {f"pilotlight:{top}": json.dumps(tree)}


def config_sets(block: Block) -> list[str]:
    commands = [part.strip() for command in block.commands for part in command.text.split("&&")]
    return [command for command in commands if command.startswith("pulumi config set ")]


@pytest.mark.parametrize(
    "block", [block for block in ALL if block.language == "console" and config_sets(block)], ids=place
)
def test_the_stack_takes_what_pulumi_is_told_to_set(block: Block) -> None:
    for command in config_sets(block):
        base = {"gcp:project": "my-project-123", "gcp:region": "us-central1"}
        assert reading.read(base | config_set(command), stack="dev"), command


def test_every_fault_is_in_the_table() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.*) \|$", (ROOT / "docs" / "lab.md").read_text(), re.MULTILINE)
    assert {name: text for name, text in rows if not name.startswith("make")} == FAULTS


# --- planted mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```console\n$ pulumi up\n```", "say above the block why `pulumi up` can't run"),
        ("```console\n$ true && gcloud auth login\n```", "why `true && gcloud auth login` can't run"),
        ("```console\n$ cat key | ssh my-server sudo bash\n```", "can't run"),
        ("```console\n$ cat key \\\n    | ssh my-server\n```", "why `cat key | ssh my-server` can't run"),
        ("<!-- not run: why -->\n```console\n$ pulumi up\n$ python -m lab plan\n```", "`python -m lab plan` runs here"),
        ("<!-- not run: why -->\n```yaml\na: 1\n```", "needs no mark"),
        ("<!-- not run: -->\n```console\n$ make lab\n```", "say above the block"),
        ("<!-- not run: why -->\n\n```console\n$ make lab\n```", "say above the block"),
        ("```console\n$ k3s kubectl delete crd all\n```", "why `k3s kubectl delete crd all` can't run"),
        ("```text\nk3s kubectl delete crd all\n```", "say above the block what it is"),
        ("```\n$ make lab\n```", "a block without a language"),
        ("```sh\nmake lab\n```", "sh: nothing here can check it"),
    ],
)  # fmt: skip
def test_a_block_that_says_nothing_is_seen(text: str, told: str) -> None:
    [block] = blocks_of(README, text)
    [found] = problems(block)
    assert told in found


@pytest.mark.parametrize(
    "text", ["pilotlight:vm: {spott: true}", "pilotlight:lanes: [home, homee]", "pilotlight:vmm: {}"]
)
def test_a_setting_that_is_none_is_seen(text: str) -> None:
    with pytest.raises(SettingsError):
        settings_of(f"config:\n  {text}\n")


def test_a_path_that_is_none_is_seen() -> None:
    with pytest.raises(SettingsError, match="spott"):
        reading.read(
            {"gcp:project": "my-project-123", "gcp:region": "us-central1"}
            | config_set("pulumi config set --path 'vm.spott' true"),
            stack="dev",
        )
