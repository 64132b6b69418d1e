"""Whether vLLM still produces: liveness.py ADDRESS STATE PATH BODY. Status 1: it doesn't, and a restart may help.

Owns: the verdict of one probe. Does not own: how often it is asked and how many failures end the container (the chart's
`liveness`). K3s runs it inside the container, by Python's standard library alone.

`/health` says that a process listens. An engine that is stuck answers it, and nobody else. Any progress since the last
probe is life, so a long prompt, a long answer and a full queue never count as stuck. Without progress the engine is
asked for one token: an idle one gives it, and the next probe finds that token as progress.
"""

import contextlib
import http.client
import sys
from pathlib import Path
from typing import Final

PROGRESS: Final = (
    "vllm:iteration_tokens_total_count",
    "vllm:generation_tokens_total",
    "vllm:kv_cache_usage_perc",
)
"""Metrics that every step of an engine at work changes (0.29.0, v1/metrics/loggers.py). A step that reads one part of
a long prompt has no output and changes the last one alone."""
METRICS_S: Final = 2.0
ANSWER_S: Final = 6.0
"""For one token beside nobody else, seconds. Both times together are below the probe's own (the chart's
`liveness.timeoutSeconds`)."""


def main(address: str, state: Path, path: str, body: str) -> int:
    """0: it lives. `address` is HOST:PORT, `state` keeps the last metrics, `body` sent to `path` asks for a token."""
    if moved(address, state):
        print("alive: it has worked since the last probe")
        return 0
    try:
        status = answer(address, "POST", path, body, ANSWER_S)[0]
    except (OSError, http.client.HTTPException) as error:
        print(f"no progress since the last probe, and no token within {ANSWER_S:g} s: {error!r}")
        return 1
    if status >= 500:
        print(f"no progress since the last probe, and status {status} for a token")
        return 1
    # A refusal is the server's, not the engine's. A model that takes no such question is not restarted for it.
    print("alive: it gave a token" if status == 200 else f"alive: it refuses {path} with status {status}")
    return 0


def moved(address: str, state: Path) -> bool:
    """Whether the engine has worked since the last probe, or is another process; False where nobody knows."""
    try:
        status, text = answer(address, "GET", "/metrics", "", METRICS_S)
    except (OSError, http.client.HTTPException):
        return False
    now = "\n".join(line for line in text.splitlines() if status == 200 and line.startswith(PROGRESS))
    before = ""
    with contextlib.suppress(OSError):
        before = state.read_text()
    with contextlib.suppress(OSError):
        state.write_text(now)
    return bool(before and now) and now != before


def answer(address: str, method: str, path: str, body: str, limit_s: float) -> tuple[int, str]:
    """Status and text."""
    connection = http.client.HTTPConnection(address, timeout=limit_s)
    with contextlib.closing(connection):
        connection.request(method, path, body or None, {"Content-Type": "application/json"})
        found = connection.getresponse()
        return found.status, found.read().decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
