"""The pilot at work: feeds the decisions with what its parts see, and does what they say.

Owns: which duties there are, burst's state, and how the parts meet. Does not own: any decision (`lane`, `demand`,
`home`), any answer to others (`answers`).
"""

import asyncio
import math
import time
from typing import Final

from .caddy import Caddy
from .checks import Lane
from .demand import load
from .duties import Duties
from .environment import Settings
from .expect import Scene
from .id_token import IdToken
from .lane import step
from .lane_client import BurstClient
from .log import Moves
from .state import Burst, Cancel, Event, Phase, Renew, Request, Tick
from .tunnel import PROBE_S, Tunnel
from .vm import Vm

SAMPLE_S: Final = 0.25
"""Between two looks at Caddy, and two ticks of burst's clock."""
CHECK_S: Final = 0.5
"""Between two checks of home or vm: as often as Caddy, which sends the VM nothing while home counts as up."""
METRICS_S: Final = 2.0
"""Between two looks at the VM's metrics."""


class Pilot:
    """Everything that is known, and what keeps it true."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        now = time.monotonic()
        self.burst = Burst(since=now, now=now)
        self.moves = Moves()
        self.lanes = {name: Lane(name, settings, self.moves) for name in ("home", "vm") if name in settings.dials}
        self.caddy, self.token = Caddy(settings), IdToken(settings)
        self._duties = Duties()
        self.vm = Vm(settings) if "vm" in settings.dials else None
        self.tunnel = Tunnel(settings.home, settings, self.caddy, self._duties) if settings.home else None
        self._client = BurstClient(settings, self.token)
        self._request: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take up every duty; they end with the loop."""
        self._duties.every(SAMPLE_S, self._watch_caddy)
        if self.settings.burst_url:
            self._duties.every(SAMPLE_S, self._tick)
            self._duties.every(0, self.token.keep)
        if self.tunnel and self.settings.tailscaled:
            self._duties.every(PROBE_S, self.tunnel.watch)
        for lane in self.lanes.values():
            self._duties.every(CHECK_S, lane.check)
        if self.vm and self.settings.vm_prompt:
            self._duties.every(METRICS_S, self._watch_vm)

    def scene(self) -> Scene:
        """What is there now, as far as the choice between the lanes goes by it."""
        home, traffic = self.lanes.get("home"), self.caddy.traffic
        return Scene(
            now=time.monotonic(),
            home=Phase.WARM if home and home.up else Phase.DOWN,
            home_since=home.since if home else -math.inf,
            burst=self.burst,
            in_flight=traffic.in_flight,
            waiting=traffic.waiting,
            failing=traffic.failing,
            correction=self.vm.correction if self.vm else 1.0,
        )

    def feed(self, event: Event) -> None:
        """One step of burst's state machine, with what follows from it."""
        before = self.burst
        self.burst, actions = step(before, event, time.monotonic(), self.settings.policy)
        if self.burst.phase is not before.phase:
            self.moves.tell("burst", before.phase, self.burst.phase, self.burst.reason, before.since)
        for action in actions:
            match action:
                case Request():
                    self._request = self._duties.start(self._ask(action))
                case Cancel():
                    if self._request is not None:
                        self._request.cancel()
                case Renew():
                    self.token.renew()

    async def _tick(self) -> None:
        self.feed(Tick())

    async def _ask(self, request: Request) -> None:
        self.feed(await self._client.ask(request))

    async def _watch_vm(self) -> None:
        if self.vm and self.caddy.traffic.in_flight.get("vm"):
            await self.vm.look()

    async def _watch_caddy(self) -> None:
        before = self.caddy.traffic
        if not await self.caddy.look() or "burst" not in self.settings.dials:
            return
        home = self.lanes.get("home")
        self.feed(
            load(
                before,
                self.caddy.traffic,
                self.settings,
                home_up=home is not None and home.phase is Phase.WARM,
                homeless=home is None or home.down,
            )
        )
