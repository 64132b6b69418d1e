"""The lab's tailnet, as its file says it: who lets the node in, who is where, and what is broken.

Owns: reading the file again and again. Does not own: writing it (`lab.run.faults`), acting on it (`containerboot`
before the node has joined, `tunnel` after that).

The file is `{"auth_key": …, "trusted": …, "hosts": {"home:80": "127.0.0.1:41234"}, "faults": {"home:80": …}}`.
`trusted` names the identity whose token is as good as a key (`federation`). A fault is null, "refused" (nothing listens
there: dials are refused, open connections are reset) or "blackhole" (packets are dropped: dials fail after 5 s, open
connections stand still until it is lifted).
"""

import json
import logging
from pathlib import Path
from typing import Any, cast

log = logging.getLogger("containerboot")


class Tailnet:
    """What the lab's tailnet file says now. A file caught half-written keeps the last good state."""

    def __init__(self, path: Path) -> None:
        """Read the file once; without it there is no tailnet to join."""
        self._path = path
        self.auth_key = ""
        self.trusted: dict[str, str] = {}
        self.hosts: dict[str, str] = {}
        self.faults: dict[str, str | None] = {}
        self.read()

    def read(self) -> None:
        """Take over the file's present content."""
        try:
            content = cast("dict[str, Any]", json.loads(self._path.read_text()))
        except (OSError, ValueError) as error:
            log.warning("tailnet file %s: %s; keeping what was known", self._path, error)
            return
        self.auth_key, self.hosts = content.get("auth_key", ""), content.get("hosts", {})
        self.trusted, self.faults = content.get("trusted") or {}, content.get("faults", {})

    def fault(self, destination: str) -> str | None:
        """Return the fault in force for `destination`, or None."""
        return self.faults.get(destination)
