"""A declared container, wherever it was declared: on Cloud Run or in the VM's user data.

Owns: the plain data that each reader produces. Does not own: reading (`gateway`, `burst`, `vm`), starting (`run.lab`).
"""

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
        """The files to look for words in; bytes that are no text become replacement characters."""
        return [content.decode(errors="replace") for content in self.files.values()]


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

    @property
    def title(self) -> str:
        """`group/name`, as it stands in tables and logs."""
        return f"{self.group}/{self.name}"
