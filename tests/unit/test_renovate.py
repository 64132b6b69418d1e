"""Each version that is pinned is found by exactly one of Renovate's managers, so that none is forgotten."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import pytest

from components.settings.presets import PRESETS
from components.settings.section import EXACT_IMAGE
from components.settings.stack import Settings

ROOT: Final = Path(__file__).parents[2]
CONFIG: Final = cast(dict[str, Any], json.loads((ROOT / "renovate.json").read_text()))
MANAGERS: Final = cast(list[dict[str, Any]], CONFIG["customManagers"])
SETTINGS: Final = Settings(stack="dev", project="project", region="us-central1")
PIN: Final = re.compile(
    r'"(?P<commit>[0-9a-f]{40})"|[A-Z0-9]+_VERSION: Final = "(?P<version>[^"]+)"|pulumi-version: (?P<cli>\S+)'
    + r"|^ +version: (?P<tool>\d\S+)",
    re.MULTILINE,
)
"""How a pin that is no image looks, whoever updates it."""
DIGEST: Final = "sha256:" + "a" * 64


class Found(NamedTuple):
    """What one manager found."""

    manager: str
    path: str
    dependency: str
    version: str
    start: int
    """Where the version begins in the file."""
    digest: str
    """Of an image, where one is pinned beside its tag."""
    pinned: str
    """The file's text once Renovate has added or moved the digest; as it is, where the dependency has none."""


def files() -> dict[str, str]:
    """The texts in which versions are pinned, by their path in the repository."""
    paths = [*(ROOT / "components").rglob("*.py"), *(ROOT / ".github").rglob("*.yml")]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def found(texts: dict[str, str], managers: list[dict[str, Any]] = MANAGERS) -> Iterator[Found]:
    """What the managers find, as Renovate's RE2 would."""
    for manager in managers:
        for pattern in manager["matchStrings"]:
            for path, text in texts.items():
                if not any(re.search(files.strip("/"), path) for files in manager["managerFilePatterns"]):
                    continue
                for match in re.finditer(pattern.replace("(?<", "(?P<"), text):
                    named = match.groupdict()
                    kind = "currentValue" if "currentValue" in named else "currentDigest"
                    dependency = named.get("depName") or manager["depNameTemplate"]
                    digest = named.get("currentDigest") or "" if kind == "currentValue" else ""
                    pinned = text[: match.start()] + _replaced(manager, match) + text[match.end() :]
                    yield Found(
                        manager["description"], path, dependency, match[kind], match.start(kind), digest, pinned
                    )


def _replaced(manager: dict[str, Any], match: re.Match[str]) -> str:
    """What Renovate writes in the place of a match that is to get a digest: its template, in Handlebars."""
    template = manager.get("autoReplaceStringTemplate")
    if not template:
        return match[0]
    template = re.sub(r"\{\{#if newDigest\}\}(.*?)\{\{/if\}\}", r"\1", template)
    values = {"depName": match.groupdict().get("depName", ""), "newValue": match["currentValue"], "newDigest": DIGEST}
    return re.sub(r"\{\{\{(\w+)\}\}\}", lambda name: values[name[1]], template)


def check_images(texts: dict[str, str], images: set[str]) -> None:
    updated = {f"{one.dependency}:{one.version}{'@' if one.digest else ''}{one.digest}" for one in found(texts)}
    assert images - updated == set(), "no manager in renovate.json finds these"


def check_each_pin_has_one_manager(texts: dict[str, str], managers: list[dict[str, Any]] = MANAGERS) -> None:
    places = Counter((one.path, one.start) for one in found(texts, managers))
    assert [place for place, count in places.items() if count > 1] == [], "two managers would update one pin"
    for path, text in texts.items():
        for match in PIN.finditer(text):
            start = match.start(str(match.lastgroup))
            line = text.count("\n", 0, start) + 1
            assert (path, start) in places, f"{path}:{line}: no manager in renovate.json finds {match[0].strip()}"


def images() -> set[str]:
    """Every image that the defaults run, and every one of a preset."""
    sections = (SETTINGS.gateway, SETTINGS.burst)
    declared = {
        str(value) for section in sections for name, value in section.model_dump().items() if name.endswith("image")
    }
    both = [SETTINGS.model_copy(update={"vm": SETTINGS.vm.model_copy(update={"gpu": gpu})}) for gpu in (None, "t4")]
    return declared | {one.vm.server_image for one in both} | {preset.image for preset in PRESETS.values()}


def test_every_image_is_found() -> None:
    assert len(images()) >= 8
    assert [image for image in images() if not EXACT_IMAGE.fullmatch(image)] == []
    check_images(files(), images())


def test_every_pin_is_found_by_one_manager() -> None:
    check_each_pin_has_one_manager(files())
    assert sum(1 for text in files().values() for _ in PIN.finditer(text)) >= 15


def test_every_image_gets_its_digest_and_keeps_it() -> None:
    """The first run pins it. What is written then is found again, and is an image that the settings take."""
    texts = files()
    docker = [
        one for one in found(texts) if f"{one.dependency}:{one.version}" in {i.partition("@")[0] for i in images()}
    ]
    assert len(docker) >= 8
    rules = [rule for rule in CONFIG["packageRules"] if rule.get("pinDigests")]
    assert [rule["matchDatasources"] for rule in rules] == [["docker"]]
    for one in docker:
        again = {each.start: each for each in found({one.path: one.pinned})}[one.start]
        assert (again.dependency, again.version, again.digest) == (one.dependency, one.version, DIGEST)
        assert again.pinned == one.pinned, "a digest moves in its place"
        assert EXACT_IMAGE.fullmatch(f"{one.dependency}:{one.version}@{again.digest}")


def test_no_manager_is_left_over_and_none_finds_an_example() -> None:
    all_found = list(found(files()))
    assert {manager["description"] for manager in MANAGERS} == {one.manager for one in all_found}
    assert [one for one in all_found if "example" in one.dependency] == []


def test_rules_name_what_is_there() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    dependencies = {one.dependency for one in found(files())} | set(re.findall(r'"([\w-]+)==', text))
    for rule in CONFIG["packageRules"]:
        for name in rule.get("matchPackageNames", ()):
            assert name.startswith("/") or name in dependencies, name


def test_llama_cpp_s_builds_are_versions() -> None:
    [rule] = [rule for rule in CONFIG["packageRules"] if "versioning" in rule]
    pattern = rule["versioning"].removeprefix("regex:").replace("(?<", "(?P<")
    versions = [one.version for one in found(files()) if one.dependency in rule["matchPackageNames"]]
    matched = [re.fullmatch(pattern, version) for version in versions]
    assert [match["compatibility"] for match in matched if match] == ["server", "server-cuda"]


# --- planted mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        'SOME_VERSION: Final = "1.2.3"',
        'revision="0123456789012345678901234567890123456789"',
        "        version: 1.2.3",
    ],
)
def test_a_forgotten_pin_is_seen(line: str) -> None:
    with pytest.raises(AssertionError, match=r"new\.py:1: no manager"):
        check_each_pin_has_one_manager(files() | {"components/new.py": line})


def test_an_image_that_nobody_updates_is_seen() -> None:
    with pytest.raises(AssertionError, match="no manager"):
        check_images(files(), images() | {"ghcr.io/somebody/new:1.2.3"})


def test_two_managers_of_one_pin_are_seen() -> None:
    with pytest.raises(AssertionError, match="two managers would update one pin"):
        check_each_pin_has_one_manager(files(), [*MANAGERS, MANAGERS[0]])


@pytest.mark.parametrize("left_out", range(3, len(MANAGERS)), ids=str)
def test_a_manager_that_is_missing_is_seen(left_out: int) -> None:
    """The first three are images and LocalAI's list, which have no pin of another form."""
    with pytest.raises(AssertionError, match="no manager"):
        check_each_pin_has_one_manager(files(), [*MANAGERS[:left_out], *MANAGERS[left_out + 1 :]])
