"""What the gateway's sidecars share: the loop that keeps one running, and the folder in memory between containers.

Owns: two names and a command line, as plain data. Does not own: what runs in the loop.
"""

from pathlib import Path
from typing import Final

SHARED_FOLDER: Final = "/run/pilotlight"
"""In memory, in every container of the instance: Caddy's admin socket, the ID token, the tunnel daemon's socket."""


def kept_running(lost: str, *command: str) -> list[str]:
    """`command` in a loop; `lost` says in the log what is away while it doesn't run."""
    return ["/bin/sh", "-c", (Path(__file__).parent / "keep_running.sh").read_text(), lost, *command]
