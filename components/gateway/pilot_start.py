"""Starts the pilot from its archive, in which this is `__main__.py` beside the packed text of all modules.

Owns: how the modules are found there. Does not own: the archive (`pilot_container`), the program (`pilot`). Nothing
unpacked is written anywhere, and a traceback names the module and its source's line.
"""

import bz2
import json
import pkgutil
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import CodeType
from typing import Final

PACKED: Final = "pilot.json.bz2"
PACKAGE: Final = "pilot"


class Packed(MetaPathFinder, InspectLoader):
    """Imports modules from their `sources`, by full name."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """None for a module of somebody else's."""
        return spec_from_loader(fullname, self) if fullname in self._sources else None

    def is_package(self, fullname: str) -> bool:
        """Whether it has modules of its own."""
        return fullname == PACKAGE

    def get_source(self, fullname: str) -> str:
        """As it stands in the repository."""
        return self._sources[fullname]

    def get_code(self, fullname: str) -> CodeType:
        """Named by the module, which tracebacks show as the file."""
        return self.source_to_code(self.get_source(fullname), fullname)


if __name__ == "__main__":
    sys.meta_path.insert(0, Packed(json.loads(bz2.decompress(pkgutil.get_data(__name__, PACKED) or b""))))
    import_module(f"{PACKAGE}.__main__").start()
