"""Local programs that stand in for container images; each runs as `python -m lab.programs.NAME`.

Owns: dying with the parent and logging to stderr, which each of them does. Does not own: their event loop
(`event_loop`), their HTTP (`serving`), the image that each of them stands in for (`lab.read.images`).
"""

import logging
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(sig: signal.Signals = signal.SIGTERM) -> None:
    """Ask Linux to send `sig` when the parent goes; elsewhere a lab that crashes leaves orphans.

    The kernel means the parent *thread* that forked: start these programs from a thread that stays.
    """
    if sys.platform != "linux":
        return
    import ctypes  # here, because the import is a tenth of containerboot's start time

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)


def log_to_stderr(program: str) -> logging.Logger:
    """Log lines as a container would: to stderr, with the program's name."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {program}: %(message)s")
    return logging.getLogger(program)
