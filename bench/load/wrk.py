"""wrk, from Debian, in the place of `closed` where only a rate is asked for: it costs the load's core much less.

Owns: its script and the reading of what it prints. Does not own: latencies (`closed`), which it tells in sums only.
"""

import json
import re
import shutil
from collections.abc import Mapping
from typing import Final

PROGRAM: Final = shutil.which("wrk") or ""
_TOTAL: Final = re.compile(r"^ *([0-9]+) requests in ([0-9.]+)(ms|s|m),", re.M)
_WRONG: Final = re.compile(r"^ *Non-2xx or 3xx responses: ([0-9]+)", re.M)
_BROKEN: Final = re.compile(
    r"^ *Socket errors: connect ([0-9]+), read ([0-9]+), write ([0-9]+), timeout ([0-9]+)", re.M
)


def script(headers: Mapping[str, str], payload: bytes) -> str:
    """Lua. JSON's texts are Lua's, as long as they are plain ASCII without a slash that is escaped."""
    lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    return "\n".join(['wrk.method = "POST"', f"wrk.body = {json.dumps(payload.decode('ascii'))}", *lines]) + "\n"


def read(printed: str) -> tuple[int, int, float]:
    """Answers of 200, failures, and seconds; raises `ValueError` for anything else."""
    total = _TOTAL.search(printed)
    if not total:
        raise ValueError(printed[-500:])
    wrong, broken = _WRONG.search(printed), _BROKEN.search(printed)
    seconds = float(total[2]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[total[3]]
    refused = int(wrong[1]) if wrong else 0
    failed = refused + (sum(map(int, broken.groups())) if broken else 0)
    return int(total[1]) - refused, failed, seconds
