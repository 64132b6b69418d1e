"""What the logs of a running lab say went wrong.

Owns: which line of a program's log reports an error, and the last such line of each log since the lab started. Does not
own: writing the logs (`processes`), what the pilot knows of a lane's last error.
"""

import json
import re
from pathlib import Path
from typing import Any, Final, cast

TAIL: Final = 256 * 1024
"""Most bytes that are read from the end of a log."""
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_FRACTION: Final = re.compile(r"\.\d+(?=Z$)")
_SEVERE: Final = {"error", "critical", "fatal", "panic"}
_PLAIN: Final = re.compile(
    r"\b(?:ERR|FTL|ERROR|CRITICAL)\b"  # Traefik's and Python's levels
    r"|^[\d.]+ E "  # llama.cpp's level
    r"|^[\w.]*(?:Error|Exception): "  # the last line of a traceback
    r"|ended with status [1-9]"  # the loop around a sidecar
)


def error_in(line: str) -> str:
    """The error that a line of a log reports, with its time where the line has one; empty if it reports none."""
    line = _COLOUR.sub("", line).strip()
    if not line.startswith("{"):
        return line if _PLAIN.search(line) else ""
    try:
        entry = cast(dict[str, Any], json.loads(line))
    except ValueError:
        return ""
    if str(entry.get("severity", "")).lower() not in _SEVERE:
        return ""
    request = cast(dict[str, Any], entry.get("request") or {})
    if str(request.get("uri", "")).endswith(("/lanes", "/ready")):
        # Asked by the lab itself, and by the startup probe, while the pilot may still be starting.
        return ""
    # An access log's message is the same for every request.
    asked = f"{request.get('method')} {request.get('uri')}: {entry.get('status')}" if request else ""
    told = ": ".join(str(part) for part in (entry.get("message"), asked, entry.get("error")) if part)
    return f"{_FRACTION.sub('', str(entry.get('time', '')))} {told}".strip()


class Logs:
    """The logs in `folder`, from now on: what an earlier lab wrote into the same files does not count."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begin = {path: path.stat().st_size for path in folder.glob("*.log")}

    def last_errors(self) -> dict[str, str]:
        """Name of a log -> its last error, of those that have one."""
        found: dict[str, str] = {}
        for path in sorted(self._folder.glob("*.log")):
            with path.open("rb") as log:
                log.seek(max(self._begin.get(path, 0), path.stat().st_size - TAIL))
                lines = log.read().decode(errors="replace").splitlines()
            errors = (error for line in reversed(lines) if (error := error_in(line)))
            if last := next(errors, ""):
                found[path.stem] = last
        return found
