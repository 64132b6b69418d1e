"""What a check gets: the tailnet, and gateways in it.

Owns: the key that joins, fresh folders, healing between checks. Does not own: what is checked (`reach`, `joining`,
`troubles`).
"""

import contextlib
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from tests.gateway.backends import Behaviour
from tests.gateway.world import Answer
from tests.tailnet.gateway import Declared, Gateway, declared
from tests.tailnet.gateway import gateway as started
from tests.tailnet.tailnet import NO_KEY, Tailnet, until

KEY: Final = "tskey-gateway"

Plant = Callable[[Gateway], None]
"""A mistake, planted in the declared containers."""


class World:
    """One tailnet for all checks, one gateway at a time."""

    def __init__(self, tailnet: Tailnet, programs: Path, folder: Path) -> None:
        self.tailnet, self.programs, self._folder = tailnet, programs, folder
        self.control, self.wires, self.home = tailnet.control, tailnet.wires, tailnet.home
        self._folders = 0

    def fresh(self) -> Path:
        """An empty folder. Its path is short: it holds sockets."""
        self._folders += 1
        folder = self._folder / str(self._folders)
        folder.mkdir()
        return folder

    @contextlib.contextmanager
    def gateway(self, *plants: Plant, stack: Declared | None = None, key: str = KEY) -> Generator[Gateway]:
        """A new instance as declared, listening. `key`: the one that joins."""
        self.tailnet.heal()
        self.control.tell(key=key)
        folder = self.fresh()
        try:
            with started(self.tailnet, self.programs, folder, (stack or declared(KEY)).gateway, *plants) as made:
                made.listening()
                yield made
        finally:
            # Who is in the middle of something may end it.
            self.tailnet.heal()
            self.control.tell(key=NO_KEY)
            until(lambda: not self.control.online("tag:gateway"), "the gateway has left")

    def held_at_home(self, gateway: Gateway) -> Future[Answer]:
        """A request that has reached home and gets no answer there before `release`; later ones do."""
        lane = self.tailnet.home_lane
        lane.behaviour = Behaviour(hold=True)
        held = gateway.later()
        until(lambda: lane.running, "a request is at home")
        # What the kernel at home has not acknowledged is sent again, and would find out by itself.
        time.sleep(0.3)
        lane.behaviour = Behaviour()
        return held
