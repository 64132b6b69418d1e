"""What clients used, read from log lines in both forms: the lab's, and those of `gcloud logging read`."""

import json
from typing import Any

import pytest

from lab.read import usage

AT = 1795953600.0
"""2026-11-29T12:00:00Z."""


def line(**changes: Any) -> dict[str, Any]:
    whole = {
        "time": "2026-11-29T12:00:00.000000000Z", "message": "handled request", "client": "demo", "lane": "home",
        "status": 200, "bytes_read": 1000, "size": 3000, "lane_ms": "250.5", "begun_at_ms": str(int(1000 * AT - 2000)),
        "ended_ms": 2300.5, "whole": "yes",
    }  # fmt: skip
    return {key: value for key, value in (whole | changes).items() if value is not ...}


LINES = [
    line(),
    line(ended_ms=..., whole=..., duration=0),
    line(status=503, lane=..., lane_ms=..., begun_at_ms=..., ended_ms=..., whole=...),
    line(client=...),
    {"time": "2026-11-29T12:00:00Z", "message": "account", "lane": "home"},
]
ROWS = [
    ["2026-11-29", "demo", "-", "1", "1", "0", "0.001", "0.003", "0.0"],
    ["2026-11-29", "demo", "home", "2", "0", "1", "0.002", "0.006", "4.5"],
]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(["Traceback", "{broken", *map(json.dumps, LINES)]),
        json.dumps([{"timestamp": one["time"], "jsonPayload": one} for one in LINES] + [{"textPayload": "no JSON"}]),
    ],
    ids=["lines", "entries"],
)
def test_what_each_client_used_is_added_up(text: str) -> None:
    assert usage.table(text) == ROWS


def test_entries_that_are_cut_off_are_refused() -> None:
    with pytest.raises(usage.LabError, match="no JSON"):
        usage.table('[{"timestamp": ')
