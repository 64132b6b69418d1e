"""The words of the lanes' state machine: a lane's states, what happens to it, and what the pilot then does.

Owns: plain data. Does not own: the steps from state to state (`lane`).
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

STUCK_S: Final = 3.0
"""An engine on a card in which nothing moves for so long is stuck: one step of it takes less than a second, two or
three where the card is shared."""


class Phase(StrEnum):
    """State of a lane. Requests go to burst in `warm` only; home and vm sleep never, and begin with `down`."""

    COLD = "cold"
    WARMING = "warming"
    WARM = "warm"
    SLOW = "slow"
    """Left by requests for what it produced, and tried by the pilot until it has recovered."""
    DOWN = "down"


class Ask(StrEnum):
    """What the pilot asks a lane for, one at a time."""

    WAKE = "wake"
    """`/health`: Cloud Run holds it until an instance is ready."""
    LOOK = "look"
    """The engine's metrics."""
    TRY = "try"
    """One token: the proof, in doubt and for a lane that is slow."""


@dataclass(frozen=True)
class Policy:
    """Settings of a lane's state machine; times in seconds."""

    wake: str
    """`first-fallback`, `pressure` or `never`."""
    idle_s: float
    deadline_s: float
    retry_s: float
    slow_s: float
    recovered_s: float
    sleeps: bool = True
    """Burst alone: it is cold until it is woken. The others are up or down, as their checks say."""
    watched: bool = True
    """Whether its engine is asked at all; otherwise its checks say everything."""
    stuck_s: float = STUCK_S
    """A token that is asked for in doubt may take so long. Doubt begins after half of it without a move."""
    slots: int = 0
    """What runs there at a time; nothing is asked for where no slot is free. 0: a token more is no matter."""


@dataclass(frozen=True)
class Load:
    """What Caddy shows: requests on the lane, whether others want it; new failures, and new answers of 500."""

    in_flight: int
    wanted: bool = False
    failures: int = 0
    errors: int = 0


@dataclass(frozen=True)
class Check:
    """How the lane's own check ended, as Caddy asks it; empty: it answers."""

    error: str


@dataclass(frozen=True)
class Answer:
    """How request `serial` to the lane ended; status 0: no answer."""

    serial: int
    status: int
    first_token_s: float | None = None
    late: bool = False
    error: str = ""
    moved: bool | None = True
    """Of a look: whether anything that the engine counts has changed since the look before, or it counts nothing; None:
    another engine behind the lane's address may be at work."""
    errors: int = 0
    """Of a look: the engine's answers of 5xx since the look before."""


@dataclass(frozen=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True)
class Request:
    """Do: ask the lane. Its end comes back as `Answer`."""

    ask: Ask
    serial: int
    timeout_s: float


@dataclass(frozen=True)
class Cancel:
    """Do: give up the request under way; its end is of no interest any more."""


@dataclass(frozen=True)
class Renew:
    """Do: fetch a new ID token, burst refused this one."""


Event: TypeAlias = Load | Check | Answer | Tick
Action: TypeAlias = Request | Cancel | Renew


@dataclass(frozen=True)
class Lane:
    """All that is known about a lane. Times are readings of one clock that never runs backwards here."""

    phase: Phase = Phase.COLD
    since: float = -math.inf
    reason: str = "the pilot started"
    now: float = -math.inf
    wanted: float = -math.inf
    busy: float = -math.inf
    used: float = -math.inf
    """End of the last use, or of the wake."""
    warmed: float = -math.inf
    asking: Ask | None = None
    serial: int = 0
    ask_at: float = -math.inf
    samples: int = 0
    """Latencies in a row that speak for leaving warm or slow."""
    strikes: int = 0
    struck: float = -math.inf
    doubt: bool = False
    """A request to burst failed: look at once, in use or not."""
    unproven: bool = False
    """Burst's last wake failed, or warmth did not last."""
    wakes: int = 0
    wake_s: float | None = None
    starts: tuple[float, ...] = ()
    """How long the latest cold starts took."""
    first_token_s: float | None = None
    error: str = ""
    failures: int = 0
    """Failed checks in a row."""
    in_flight: int = 0
    silent_s: float = 0.0
    """How long requests were there since anything moved."""
    suspicion: str = ""
    """Why a token is asked for while it is warm."""
    unanswered: bool = False
    """That token did not come: whether anything moved decides."""
    lateness_s: float = 0.0
    """Its first token as it was when it was left, until it is warm again; infinite for a sick lane."""
    mute: bool = False
    """Sick, because nothing moves: what is under way there hangs."""

    @property
    def takes(self) -> bool:
        """Whether it is well, and its last check too."""
        return self.phase is Phase.WARM and not self.failures

    @property
    def sick(self) -> bool:
        """Left as if it were down."""
        return self.phase is Phase.SLOW and self.lateness_s == math.inf

    @property
    def hangs(self) -> bool:
        """Whether nothing that is under way there will end."""
        return self.sick and self.mute and not self.samples
