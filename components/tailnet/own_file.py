"""The user's own policy file: HuJSON, which is JSON with comments and trailing commas.

Owns: reading it, and the form of the sections that this stack adds to or checks; every other section is kept unread.
Does not own: the limits of its content (`merge`).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import json5
from pydantic import TypeAdapter, ValidationError

from components.settings.section import SettingsError, problem

ROOT: Final = Path(__file__).parents[2]
"""The project's folder, which the file's path is relative to."""
Row = dict[str, Any]
Owners = dict[str, list[str]]
_ROWS: Final = TypeAdapter(list[Row] | None)
_OWNERS: Final = TypeAdapter(Owners | None)
_POSITION: Final = re.compile(r"<string>:(\d+) (.*) at column (\d+)", re.DOTALL)


def refused(rule: str, fix: str, *, at: str = "", consequence: str = "Tailscale would refuse the whole policy") -> str:
    """A problem of the file; `at` is the place in it."""
    return problem(f"tailnet.policy_file{' ' if at else ''}{at}", rule, consequence, fix)


@dataclass(frozen=True)
class OwnFile:
    """The file's content. Sections are found in any spelling (`ACLs`), as Tailscale finds them."""

    document: dict[str, Any]

    def written(self, section: str) -> str:
        """The section's name as the user wrote it, or as it is usually written."""
        return next((key for key in self.document if key.lower() == section.lower()), section)

    def section(self, name: str) -> Any:
        """What stands in a section, None if there is nothing."""
        return self.document.get(self.written(name))

    def rows(self, name: str) -> list[Row]:
        """A section that is a list of rules."""
        return _ROWS.validate_python(self.section(name)) or []

    def owners(self) -> Owners:
        """Who may give out each tag."""
        return _OWNERS.validate_python(self.section("tagOwners")) or {}


def read(path: str) -> OwnFile:
    """The file at `path`; raises `SettingsError` on one that can't be read or added to."""
    document = _parsed(path)
    found = OwnFile(document)
    problems = [
        refused("a section stands once, in one spelling", f"join it with {found.written(key)}", at=key)
        for key in document
        if found.written(key) != key
    ]
    for name in ("acls", "grants", "ssh", "tests"):
        try:
            found.rows(name)
        except ValidationError:
            fix = "see https://tailscale.com/s/acl-format"
            problems.append(refused("must be a list of rules in braces", fix, at=found.written(name)))
    try:
        found.owners()
    except ValidationError:
        fix = 'write "tag:x": ["me@example.com"]'
        problems.append(refused("must name a list of owners for each tag", fix, at=found.written("tagOwners")))
    if found.section("acls") is None and found.section("grants") is None:
        problems.append(
            refused("must have `acls` or `grants`", 'add "acls": [], or the rules you want',
                    consequence="a policy without either lets everything reach everything, and with this stack's rules "
                    + "no longer: machines of yours would be cut off unasked")
        )  # fmt: skip
    if problems:
        raise SettingsError(problems)
    return found


def _parsed(path: str) -> dict[str, Any]:
    try:
        text = (ROOT / path).read_text(encoding="utf-8-sig")
        parsed: object = json5.loads(text, allow_duplicate_keys=False)
    except OSError as error:
        rule, fix = (
            f"must be a file of the project, {path}: {error.strerror}",
            "write its path as seen from Pulumi.yaml",
        )
    except UnicodeDecodeError:
        rule, fix = f"must be text, {path} is no UTF-8", "save it as UTF-8"
    except RecursionError:
        rule, fix = f"must be a policy, {path} nests too deeply for one", "see https://tailscale.com/s/acl-format"
    except ValueError as error:
        at = _POSITION.match(str(error))
        what = f"line {at[1]}, column {at[3]}: {at[2]}" if at else str(error)
        rule, fix = f"must be HuJSON (JSON, comments, trailing commas), {path} is broken at {what}", "mend it there"
    else:
        if isinstance(parsed, dict):
            return cast(dict[str, Any], parsed)
        rule, fix = f"must hold one object of sections, {path} holds none", "wrap it in braces"
    raise SettingsError([refused(rule, fix)])
