"""The loop that keeps a sidecar of the gateway running, as a command line; what runs in it is the sidecar's."""

from pathlib import Path


def kept_running(lost: str, *command: str) -> list[str]:
    """`command` in a loop; `lost` says in the log what is away while it doesn't run."""
    return ["/bin/sh", "-c", (Path(__file__).parent / "keep_running.sh").read_text(), lost, *command]
