"""Table 2 of the lab: declared mounts as folders, and the programs that stand in an image's PATH.

Owns: the files that are written for a container before it starts. Does not own: starting it (`lab`).
"""

import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lab.read.container import Container
from lab.read.stack import ROOT

PILOT_BROKEN: Final = "pilot.broken"
"""While this file is in the lab's folder, the pilot's program ends at once."""


def mount(run: Path, container: Container, *, fresh: bool) -> dict[str, str]:
    """Writes the mounts; declared path -> folder. `fresh`: nothing of an earlier one stays."""
    folders: dict[str, str] = {}
    for wanted in container.mounts:
        folder = run / container.title / wanted.path.lstrip("/")
        if wanted.shared:
            folder = run / container.group / "volumes" / wanted.shared
        elif fresh:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in wanted.files.items():
            file = folder / name
            file.touch(mode=0o600)
            file.write_bytes(content)
        folders[wanted.path] = str(folder)
    return folders


def forget(folder: Path) -> None:
    """Takes away what holds keys: the gateway's mounted secrets and ID token, and the key that its tailnet takes."""
    shutil.rmtree(folder / "run" / "gateway", ignore_errors=True)
    (folder / "tailnet.json").unlink(missing_ok=True)


def translate(text: str, folders: Mapping[str, str]) -> str:
    """Replaces mount paths by their folders, longest first."""
    for path in sorted(folders, key=len, reverse=True):
        text = re.sub(re.escape(path) + r"(?![\w.-])", lambda _, here=folders[path]: here, text)
    return text


def write_programs(folder: Path, programs: Path) -> None:
    """The programs that stand in for those of an image, found by name on PATH as in the image.

    Those that a fault ends, and not their container, leave their process id in `folder`.
    """
    python, root, here = shlex.quote(sys.executable), shlex.quote(str(ROOT)), shlex.quote(str(folder))
    bodies = {
        "containerboot": f"echo $$ > {here}/containerboot.pid\nPYTHONPATH={root} exec {python} "
        + '-m lab.programs.containerboot "$@"\n',
        "bzcat": f'PYTHONPATH={root} exec {python} -m lab.programs.bzcat "$@"\n',
        "python": f'[ -e {here}/{PILOT_BROKEN} ] && exit 1\necho $$ > {here}/pilot.pid\nexec {python} "$@"\n',
    }
    (folder / PILOT_BROKEN).unlink(missing_ok=True)
    for name, body in bodies.items():
        path = programs / name
        path.write_text(f"#!/bin/sh\n{body}")
        path.chmod(0o755)
