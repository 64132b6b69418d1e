"""The pilot at work: feeds the decisions with what its parts see, and does what they say.

Owns: which duties there are, the lanes' states, and how the parts meet. Does not own: any decision (`lane`, `demand`,
`home`), any answer to others (`answers`).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Final

from .caddy import Caddy
from .checks import check
from .demand import loads
from .duties import Duties
from .environment import Further, Settings
from .expect import ALONE, Declared, Scene, allows_home, allows_vm, refuses
from .id_token import IdToken
from .lane import sends, step
from .lane_client import LaneClient
from .line import Line, Place
from .log import Moves, log
from .state import Cancel, Event, Lane, Phase, Renew, Request, Tick
from .tunnel import PROBE_S, Tunnel

SAMPLE_S: Final = 0.25
"""Between two looks at Caddy, and two ticks of the lanes' clocks."""
LINE_S: Final = 0.01
"""The same while somebody is in line: a slot that becomes free stays so for half of it, and for Caddy's own pause."""
CHECK_S: Final = 0.5
"""Between two checks of home or vm: as often as Caddy, which sends the VM nothing while home counts as up."""
TELL_S: Final = 60.0
"""Between two accounts of the lanes in the log."""


class Pilot:
    """Everything that is known, and what keeps it true."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.moves = Moves()
        self.caddy, self.token = Caddy(settings), IdToken(settings)
        self._duties = Duties()
        self.tunnel = Tunnel(settings.home, settings, self.caddy, self._duties) if settings.home else None
        now = time.monotonic()
        asleep, unknown = Lane(since=now, now=now), Lane(Phase.DOWN, since=now, now=now, error="not asked yet")
        self.lanes = {name: asleep if policy.sleeps else unknown for name, policy in settings.policies.items()}
        self._clients = {name: LaneClient(name, settings, self.token) for name in self.lanes}
        self.line = Line()
        self._called: dict[Place, asyncio.Future[None]] = {}
        self._somebody = asyncio.Event()
        self._requests: dict[str, asyncio.Task[None]] = {}
        self._told = {name: client.tokens for name, client in self._clients.items()}
        self._longest_s = 0.0

    def start(self) -> None:
        """Take up every duty; they end with the loop."""
        self._duties.every(SAMPLE_S, self._watch_caddy)
        self._duties.every(SAMPLE_S, self._tick)
        self.settings.line.unlink(missing_ok=True)
        self._duties.every(LINE_S, self._serve_line)
        self._duties.every(0, self._account)
        if self.settings.burst_url:
            self._duties.every(0, self.token.keep)
        if self.tunnel and self.settings.tailscaled:
            self._duties.every(PROBE_S, self.tunnel.watch)
        for name, client in self._clients.items():
            # An idle burst isn't looked at, so that it can sleep.
            if self.settings.further[name] and not self.settings.policies[name].sleeps:
                self._duties.every(0, client.see)
        for name, policy in self.settings.policies.items():
            if not policy.sleeps:
                self._duties.every(CHECK_S, partial(self._check, name))

    def tell(self) -> None:
        """Each lane's state, and what it did since this was told before, into the log."""
        now = time.monotonic()
        for name, lane in self.lanes.items():
            tokens, told = self._clients[name].tokens, self._told[name]
            seen = {"in_flight": self.caddy.traffic.in_flight.get(name, 0)}
            seen |= {"prompt_tokens": tokens[0] - told[0], "answer_tokens": tokens[1] - told[1]}
            if lane.first_token_s is not None and now - lane.used < TELL_S:
                seen |= {"first_token_s": round(lane.first_token_s, 4)}
            log("INFO", "account", lane=name, state=lane.phase, **seen)
            self._told[name] = tokens
        # Who waits now may be the first since the lane's last look.
        if longest_s := max(self._longest_s, self.line.longest_s(now)):
            log("INFO", "line", longest_s=round(longest_s, 3))
        self._longest_s = 0.0

    @property
    def correction(self) -> float:
        """How many times as long as declared the VM takes."""
        declared = self.settings.vm_prompt
        return self._clients["vm"].prompts.correction(*declared) if declared and "vm" in self._clients else 1.0

    def opens(self, lane: str, further: Further) -> bool:
        """Whether the slots of one more machine are there to be taken."""
        return self.lanes[lane].takes and self._clients[lane].machines.up(time.monotonic()) >= further.machines

    def slots(self, lane: str) -> int:
        """Of a lane, its further machines' included."""
        more = (each.slots for each in self.settings.further[lane] if self.opens(lane, each))
        return self.settings.capacities[lane] + sum(more)

    @property
    def declared(self) -> Declared:
        """What is declared of the lanes, with the slots that they have now."""
        known = self.settings.declared
        paces = {lane: replace(pace, capacity=self.slots(lane)) for lane, pace in known.paces.items()}
        return replace(known, paces=paces)

    def scene(self) -> Scene:
        """What is there now, as far as the choice between the lanes goes by it."""
        traffic = self.caddy.traffic
        found = Scene(
            now=time.monotonic(),
            in_flight=traffic.in_flight,
            waiting=traffic.waiting,
            failing=traffic.failing,
            correction=self.correction,
        )
        return replace(found, **self.lanes)

    def feed(self, name: str, event: Event) -> None:
        """One step of a lane's state machine, with what follows from it."""
        before = self.lanes[name]
        after, actions = step(before, event, time.monotonic(), self.settings.policies[name])
        self.lanes[name] = after
        if after.phase is not before.phase:
            self.moves.tell(name, before.phase, after.phase, after.reason, before.since)
        for action in actions:
            match action:
                case Request():
                    self._requests[name] = self._duties.start(self._ask(name, action))
                case Cancel():
                    if name in self._requests:
                        self._requests[name].cancel()
                case Renew():
                    self.token.renew()

    async def in_line(self, place: Place, gone: asyncio.Future[bytes]) -> None:
        """Until it is the turn of this caller, or he is gone."""
        called = self._called[place] = asyncio.get_running_loop().create_future()
        self.line.places.add(place)
        self._somebody.set()
        await asyncio.wait({called, gone}, return_when=asyncio.FIRST_COMPLETED)
        self.line.places.discard(place)
        del self._called[place]

    async def _serve_line(self) -> None:
        await self._somebody.wait()
        await self.caddy.count()
        scene, declared, now = self.scene(), self.declared, time.monotonic()
        self._longest_s = max(self._longest_s, self.line.longest_s(now))
        for place in self.line.turns(
            now,
            self.caddy.taken,
            self.caddy.counted,
            self._takes(scene, declared),
            lambda size: size != ALONE and refuses(size, declared, scene),
        ):
            self._called[place].set_result(None)
        if self.line.seeking:
            self.settings.line.touch()
        else:
            self.settings.line.unlink(missing_ok=True)
        if not self.line.places:
            self._somebody.clear()

    def _takes(self, scene: Scene, declared: Declared) -> Callable[[str, str], bool]:
        """Whether the lane of an address takes requests of a size, as far as the pilot knows Caddy's checks."""
        names = {dial: lane for lane in self.settings.dials for dial in self.settings.places(lane)}
        further = {each.dial: each for more in self.settings.further.values() for each in more}

        @cache
        def takes(dial: str, size: str) -> bool:
            lane = names[dial]
            if dial in self.caddy.failed or (lane == "burst" and not sends(scene.burst)) or self.lanes[lane].failures:
                return False
            if dial in further and not self.opens(lane, further[dial]):
                return False
            if size == ALONE:
                return not self.lanes[lane].sick
            verdict = {"home": allows_home, "vm": allows_vm}.get(lane)
            return not verdict or verdict(size, declared, scene)

        return takes

    async def _account(self) -> None:
        await asyncio.sleep(TELL_S)
        self.tell()

    async def _tick(self) -> None:
        for name in self.lanes:
            self.feed(name, Tick())

    async def _check(self, name: str) -> None:
        self.feed(name, await check(name, self.settings))

    async def _ask(self, name: str, request: Request) -> None:
        self.feed(name, await self._clients[name].ask(request))

    async def _watch_caddy(self) -> None:
        before = self.caddy.traffic
        if not await self.caddy.look(len(self.line.places)):
            return
        after = self.caddy.traffic
        full = self.settings.home_full[sum(self.opens("home", each) for each in self.settings.further["home"])]
        for name, load in loads(before, after, self.settings, self.lanes.get("home"), self.slots("vm"), full).items():
            self.feed(name, load)
        if len(self.lanes) > 1:
            self._rescue(self.lanes.get("home"), after.in_flight.get("home", 0), after.at_home)

    def _rescue(self, home: Lane | None, hanging: int, at_home: int) -> None:
        """Requests that hang at a stuck home go to the next lane, if they are all that is in the tunnel."""
        if self.tunnel and self.settings.tailscaled and home and home.hangs and 0 < hanging == at_home:
            self.tunnel.free(home.since)
