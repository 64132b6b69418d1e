"""Starts the pilot: `python pilot.zip` in its container, `python -m components.gateway.pilot` anywhere else.

Owns: the process: its signals and exit codes (0 told to end, 1 the address is taken, 2 wrong settings).
"""

import asyncio
import os
import signal
import sys
from typing import NoReturn

from .answers import Answers
from .environment import Settings, SettingsError, settings
from .log import described, log
from .pilot import Pilot


async def serve(chosen: Settings) -> None:
    """Until cancelled; `OSError` if the address is taken."""
    pilot = Pilot(chosen)
    await asyncio.start_server(Answers(pilot).serve, *chosen.listen)
    log("INFO", "the pilot serves", lanes=list(chosen.dials), wake=chosen.policy.wake)
    pilot.start()
    # Not `serve_forever`: cancelled, it waits from Python 3.12 on for each connection that Caddy keeps.
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        pilot.tell()


async def main(chosen: Settings) -> int:
    """Run until SIGTERM; 1 if the address is taken."""
    serving = asyncio.create_task(serve(chosen))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        return 0
    except OSError as error:
        log("CRITICAL", f"the pilot can't listen on {chosen.listen[0]}:{chosen.listen[1]}: {described(error)}")
    return 1


def start() -> NoReturn:
    """Read the environment, run, exit."""
    try:
        chosen = settings(os.environ)
    except SettingsError as error:
        log("CRITICAL", f"the pilot can't start: {error}")
        sys.exit(2)
    # The loop is not taken down: a name that is still being resolved would hold the exit up, and nothing needs saving.
    loop = asyncio.new_event_loop()
    os._exit(loop.run_until_complete(main(chosen)))


if __name__ == "__main__":
    start()
