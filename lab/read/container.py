"""A declared container, wherever it was declared: on Cloud Run or in the VM's user data.

Owns: the plain data that each reader produces. Does not own: reading (`gateway`, `burst`, `vm`), starting (`run.lab`).
"""

import bz2
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Mount:
    """A declared mount and the files a secret puts there (empty: a writable folder)."""

    path: str
    files: Mapping[str, bytes]
    shared: str = ""
    """Name of a volume that containers of one group share; empty: the mount is the container's own."""

    @property
    def texts(self) -> list[str]:
        """The files to look for words in, unpacked; bytes that are no text become replacement characters."""
        return [_unpacked(name, content).decode(errors="replace") for name, content in self.files.items()]


def _unpacked(name: str, content: bytes) -> bytes:
    """A broken one as it is: the container that reads it says so."""
    with contextlib.suppress(OSError, ValueError):
        return bz2.decompress(content) if name.endswith(".bz2") else content
    return content


@dataclass(frozen=True)
class Container:
    """One declared container."""

    group: str
    name: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    mounts: tuple[Mount, ...]
    working_dir: str = ""
    memory_mib: int = 0
    """Its declared limit; 0: none is declared."""

    @property
    def title(self) -> str:
        """`group/name`, as it stands in tables and logs."""
        return f"{self.group}/{self.name}"
