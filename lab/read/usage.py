"""What each client used, from the gateway's log lines: requests, errors, bytes and time of a lane's slot, by day.

Owns: reading the lines and adding them up. Does not own: the lines (Caddy writes them), how the table looks (`show`).

A slot's time is the lane's until its answer began, and from then on to the line's own time: it is there as well where
a caller hung up, for which Caddy logs no duration.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from lab.errors import LabError
from lab.read.metrics import logged, seconds

GATEWAY: Final = "-"
"""In the place of a lane: the gateway answered itself."""


@dataclass(frozen=True)
class Used:
    """One request of a client."""

    at: float
    """Its end, seconds since 1970."""
    client: str
    lane: str
    status: int
    broken: bool
    """Its answer began, and did not end: the caller hung up, or the lane did."""
    received: int
    sent: int
    slot_s: float


def text(file: str | None, logs: Path) -> str:
    """Of the file, of what is piped in (`-`), or of all logs of a lab in its folder."""
    if file == "-":
        return sys.stdin.read()
    return "".join(path.read_text(errors="replace") for path in ([Path(file)] if file else sorted(logs.glob("*.log"))))


def requests(text: str) -> list[Used]:
    """Of log lines, one JSON each, or of the list of entries that `gcloud logging read --format=json` prints."""
    return [
        _used(at, line) for at, line in _lines(text) if line.get("message") == "handled request" and "client" in line
    ]


def table(lines: str) -> list[list[str]]:
    """`by_day` of log lines."""
    return by_day(requests(lines))


def by_day(found: Iterable[Used]) -> list[list[str]]:
    """Rows of day (UTC), client, lane, requests, errors (4xx and 5xx), broken answers, MB in, MB out, seconds."""
    groups: dict[tuple[str, str, str], list[Used]] = {}
    for one in found:
        day = datetime.fromtimestamp(one.at, UTC).date().isoformat()
        groups.setdefault((day, one.client, one.lane), []).append(one)
    return [
        [
            *key,
            str(len(group)),
            str(sum(one.status >= 400 for one in group)),
            str(sum(one.broken for one in group)),
            f"{sum(one.received for one in group) / 1e6:.3f}",
            f"{sum(one.sent for one in group) / 1e6:.3f}",
            f"{sum(one.slot_s for one in group):.1f}",
        ]
        for key, group in sorted(groups.items())
    ]


def _lines(text: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Time and content of each entry."""
    if text.lstrip().startswith("["):
        try:
            entries = cast(list[Mapping[str, Any]], json.loads(text))
        except ValueError as error:
            raise LabError(f"these log entries are no JSON: {error}") from error
        for entry in entries:
            if "jsonPayload" in entry:
                yield entry["timestamp"], entry["jsonPayload"]
        return
    for line in logged(text.splitlines()):
        yield str(line["time"]), line


def _used(at: str, line: Mapping[str, Any]) -> Used:
    ended, lane = seconds(at), str(line.get("lane") or GATEWAY)
    slot_s = 0.0
    if lane != GATEWAY:
        slot_s = float(line["lane_ms"]) / 1000 + max(0.0, ended - float(line["begun_at_ms"]) / 1000)
    return Used(
        at=ended,
        client=str(line["client"]),
        lane=lane,
        status=int(line["status"]),
        broken=lane != GATEWAY and "whole" not in line,
        received=int(line["bytes_read"]),
        sent=int(line["size"]),
        slot_s=slot_s,
    )
