"""Tailscale's programs and the control plane, built from the module that `go.mod` pins.

Owns: building, and the folder that keeps what was built. Does not own: which version (`go.mod`; a unit test holds it
against the image's tag).
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from lab.read.stack import ROOT

HERE: Final = Path(__file__).parent
KEPT: Final = ROOT / ".lab" / "tailnet-bin"
TAILSCALE: Final = ("containerboot", "tailscale", "tailscaled")
BUILD_S: Final = 900


def unavailable() -> str:
    """Why they can't be built here; empty if they can."""
    return "" if shutil.which("go") else "Go is not installed (1.26 builds Tailscale v1.102)"


def built() -> Path:
    """The folder with the programs; builds them if their sources changed. Cold that takes some minutes."""
    sources = (HERE / "go.sum", HERE / "go.mod", *sorted((HERE / "controlplane").glob("*.go")))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = KEPT / digest
    if folder.exists():
        return folder
    KEPT.mkdir(parents=True, exist_ok=True)
    packages = [*(f"tailscale.com/cmd/{name}" for name in TAILSCALE), "./controlplane"]
    with tempfile.TemporaryDirectory(dir=KEPT) as building:
        subprocess.run(
            ["go", "build", "-mod=readonly", "-o", f"{building}/", *packages],
            cwd=HERE,
            env={**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"},
            check=True,
            timeout=BUILD_S,
        )
        for old in KEPT.glob("[0-9a-f]*"):
            shutil.rmtree(old)
        # Whole or not at all: a build that was broken off must not be taken for one.
        shutil.copytree(building, f"{building}.whole")
        Path(f"{building}.whole").rename(folder)
    return folder
