"""`python -m tests.supply.audit`: every locked package against the known vulnerabilities, by pip-audit and OSV.

Where OSV can't be reached, it says so and passes: a machine without a way there can't know. What it finds fails, unless
accepted.toml takes it with a reason and a day.
"""

import json
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, cast

from lab.read.stack import ROOT

OSV: Final = "https://api.osv.dev/v1/query"
LOCKS: Final = ("requirements-dev.txt", "tests/contract/requirements.txt", "tests/clients/requirements.txt",
                "bench/requirements.txt")  # fmt: skip
"""requirements.txt is a part of the first."""
ACCEPTED: Final = Path(__file__).parent / "accepted.toml"
REACHED_S: Final = 10
"""Longest wait for a first answer of OSV."""


class AuditError(Exception):
    """The audit could not be made, though OSV answers."""


@dataclass(frozen=True)
class Found:
    """One known vulnerability of a locked package."""

    package: str
    version: str
    names: frozenset[str]
    """Its ids: OSV's, CVE, GHSA."""
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fix = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "not fixed yet"
        return f"{self.package} {self.version}: {', '.join(sorted(self.names))}, {fix}"


def away(url: str) -> str:
    """Why OSV can't be asked; empty if it answers, whatever it says to an empty question."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=REACHED_S):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return ""
    except OSError as error:
        return str(getattr(error, "reason", error))


def found(lock: Path, url: str) -> list[Found]:
    """What pip-audit finds of a lock. It resolves nothing: names, versions and hashes stand there."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    command += ["--vulnerability-service", "osv", "--osv-url", url, "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report = cast(dict[str, Any], json.loads(done.stdout))
    except json.JSONDecodeError:
        raise AuditError(f"{lock.name}: {done.stderr.strip()[-500:]}") from None
    return [
        Found(one["name"], one["version"], frozenset({hole["id"], *hole["aliases"]}), tuple(hole["fix_versions"]))
        for one in report["dependencies"]
        for hole in one.get("vulns", ())
    ]


def accepted(path: Path = ACCEPTED) -> list[Mapping[str, Any]]:
    """The entries of accepted.toml; raises `AuditError` on one that lacks its reason or its day."""
    entries = cast(list[Mapping[str, Any]], tomllib.loads(path.read_text())["accepted"])
    for entry in entries:
        whole = set(entry) == {"id", "package", "reason", "until"} and entry["reason"]
        if not whole or type(entry["until"]) is not date:
            raise AuditError(f"{path.name}: an entry has id, package, reason and until (a day): {dict(entry)}")
    return entries


def judged(holes: Iterable[Found], entries: Sequence[Mapping[str, Any]], today: date) -> list[str]:
    """What is wrong: holes that nothing accepts any more, and entries that accept nothing."""
    wrong, used = list[str](), set[str]()
    for hole in sorted(set(holes), key=str):
        fitting = [entry for entry in entries if entry["id"] in hole.names and entry["package"] == hole.package]
        used |= {entry["id"] for entry in fitting}
        if not fitting:
            wrong.append(f"{hole}")
        elif all(entry["until"] < today for entry in fitting):
            wrong.append(f"{hole}; accepted until {fitting[0]['until']}: {fitting[0]['reason']}")
    left_over = [entry["id"] for entry in entries if entry["id"] not in used]
    return wrong + [f"{one} is accepted and not found: take it out" for one in left_over]


def main(url: str = OSV, locks: Iterable[Path] = tuple(ROOT / lock for lock in LOCKS), path: Path = ACCEPTED) -> int:
    """Exit status: 0 nothing known, or not run; 1 a hole, or the audit failed."""
    if reason := away(url):
        print(f"not run: the audit of the locked packages (OSV can't be asked: {reason})")
        return 0
    try:
        holes = [hole for lock in locks for hole in found(lock, url)]
        wrong = judged(holes, accepted(path), datetime.now(UTC).date())
    except AuditError as error:
        wrong = [str(error)]
    for line in wrong:
        print(f"audit: {line}")
    if not wrong:
        print("audit: no known vulnerability in the locked packages but those that are accepted")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
