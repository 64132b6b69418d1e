"""The pilot's archive: the same bytes wherever it is built, nothing but the program and the standard library in it."""

import ast
import bz2
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.gateway.caddy.config import SECRET_LIMIT
from components.gateway.pilot_container import PACKAGE, START, TooLargeError, archive
from components.gateway.pilot_start import PACKED

ROOT = PACKAGE.parents[2]
BUILD = "import sys; from components.gateway.pilot_container import archive; sys.stdout.buffer.write(archive())"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the program to change; its name is part of the archive."""
    return shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))


def shipped(packed: bytes) -> dict[str, str]:
    """The text of every module, by name."""
    with zipfile.ZipFile(io.BytesIO(packed)) as found:
        return {"__main__": found.read("__main__.py").decode(), **json.loads(bz2.decompress(found.read(PACKED)))}


def imports(module: ast.Module) -> Iterator[str]:
    """What a file imports, wherever in it; a relative name begins with a dot."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "").split(".")[0]


def foreign(packed: bytes) -> dict[str, set[str]]:
    """What the modules of an archive import that is neither in it nor in the standard library."""
    modules = shipped(packed)
    own = {f".{name.rpartition('.')[2]}" for name in modules if "." in name}
    found = {name: set(imports(ast.parse(text))) - own - set(sys.stdlib_module_names) for name, text in modules.items()}
    return {name: names for name, names in found.items() if names}


def test_two_processes_build_the_same_bytes(tmp_path: Path) -> None:
    for seed, mask in (("1", 0o000), ("2", 0o077)):
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed, "TZ": f"UTC-{seed}"}
        built = subprocess.run(
            [sys.executable, "-c", BUILD], cwd=tmp_path, env=env, umask=mask, capture_output=True, check=True
        )
        assert built.stdout == archive()


def test_nothing_but_the_text_of_its_files_counts(package: Path) -> None:
    for day, path in enumerate(sorted(package.iterdir())):
        os.utime(path, (day * 86400.0, day * 86400.0))
        path.chmod(0o700)
    (package / "__pycache__").mkdir()
    for left in ("__pycache__/pilot.cpython-313.pyc", "pilot.pyc", "notes.txt", ".pilot.py.swp"):
        (package / left).write_bytes(b"left behind")
    assert archive(package) == archive()
    file = package / "pilot.py"
    file.write_text(file.read_text() + "# changed\n")
    assert archive(package) != archive()


def test_entries_are_stored_and_readable_by_all() -> None:
    with zipfile.ZipFile(io.BytesIO(archive())) as packed:
        found = packed.infolist()
    assert [entry.filename for entry in found] == ["__main__.py", PACKED]
    for entry in found:
        assert (entry.compress_type, entry.external_attr >> 16) == (zipfile.ZIP_STORED, 0o100644)
        assert (entry.date_time, entry.create_system, entry.flag_bits) == ((1980, 1, 1, 0, 0, 0), 3, 0)


def test_every_module_is_shipped_as_it_stands() -> None:
    sources = {f"pilot.{path.stem}": path.read_text() for path in PACKAGE.glob("*.py")}
    sources["pilot"] = sources.pop("pilot.__init__")
    assert shipped(archive()) == {"__main__": START.read_text(), **dict(sorted(sources.items()))}


def test_program_too_large_for_a_secret_is_refused(package: Path) -> None:
    file = package / "lane.py"
    # What no packing makes smaller: half a byte in each digit.
    file.write_text(f"{file.read_text()}\nX = '{os.urandom(SECRET_LIMIT).hex()}'\n")
    told = rf"has \d+ bytes; a secret takes at most {SECRET_LIMIT}, .*: pilot\.lane, {file.stat().st_size} bytes"
    with pytest.raises(TooLargeError, match=told):
        archive(package)


def test_it_needs_nothing_but_the_standard_library() -> None:
    assert foreign(archive()) == {}


@pytest.mark.parametrize("line", ["import yaml", "from components import settings", "from .nowhere import x"])
def test_a_foreign_import_is_seen(package: Path, line: str) -> None:
    file = package / "pilot.py"
    file.write_text(f"{file.read_text()}\n\ndef late() -> None:\n    {line}\n")
    assert list(foreign(archive(package))) == ["pilot.pilot"]


def test_it_starts_with_neither_site_packages_nor_environment(tmp_path: Path) -> None:
    """As far as the settings, which are not there."""
    (tmp_path / "pilot.zip").write_bytes(archive())
    started = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "pilot.zip"], cwd=tmp_path, env={}, capture_output=True, check=False
    )
    told = json.loads(started.stderr)
    assert (started.returncode, told["severity"]) == (2, "CRITICAL")
    assert "PILOT_LISTEN is not set" in told["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["pilot.zip"]


def test_a_traceback_names_module_and_line_of_the_source(package: Path, tmp_path: Path) -> None:
    file = package / "pilot.py"
    file.write_text(file.read_text().replace("\nclass Pilot:", "\n1 / 0  # planted\nclass Pilot:"))
    (tmp_path / "pilot.zip").write_bytes(archive(package))
    ended = subprocess.run([sys.executable, "pilot.zip"], cwd=tmp_path, env={}, capture_output=True, check=False)
    line = file.read_text().splitlines().index("1 / 0  # planted") + 1
    assert f'File "pilot.pilot", line {line}, in <module>\n' in ended.stderr.decode()
