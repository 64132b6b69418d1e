"""The words of burst's state machine: its states, what happens to it, and what the pilot then does.

Owns: plain data. Does not own: the steps from state to state (`lane`).
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Phase(StrEnum):
    """State of a lane. Requests go to burst in `warm` only; home and vm are `warm` or `down`."""

    COLD = "cold"
    WARMING = "warming"
    WARM = "warm"
    SLOW = "slow"
    DOWN = "down"


class Ask(StrEnum):
    """What the pilot asks burst for, one at a time."""

    WAKE = "wake"
    """`/health`: Cloud Run holds it until an instance is ready."""
    LOOK = "look"
    """The engine's metrics."""
    TRY = "try"
    """One token: whether a slow burst has recovered, for it gets no other request."""


@dataclass(frozen=True)
class Policy:
    """Settings of the state machine; times in seconds."""

    wake: str
    """`first-fallback`, `pressure` or `never`."""
    idle_s: float
    deadline_s: float
    retry_s: float
    slow_s: float
    recovered_s: float


@dataclass(frozen=True)
class Load:
    """What Caddy shows: requests on burst, whether others want it, failures since the last look."""

    in_flight: int
    wanted: bool
    failures: int = 0


@dataclass(frozen=True)
class Answer:
    """How request `serial` to burst ended; status 0: no answer."""

    serial: int
    status: int
    first_token_s: float | None = None
    late: bool = False
    error: str = ""


@dataclass(frozen=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True)
class Request:
    """Do: ask burst. Its end comes back as `Answer`."""

    ask: Ask
    serial: int
    timeout_s: float


@dataclass(frozen=True)
class Cancel:
    """Do: give up the request under way; its end is of no interest any more."""


@dataclass(frozen=True)
class Renew:
    """Do: fetch a new ID token, burst refused this one."""


Event: TypeAlias = Load | Answer | Tick
Action: TypeAlias = Request | Cancel | Renew


@dataclass(frozen=True)
class Burst:
    """All that is known about burst. Times are readings of one clock that never runs backwards here."""

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
    """A request failed: look at once, in use or not."""
    unproven: bool = False
    """The last wake failed, or warmth did not last."""
    wakes: int = 0
    wake_s: float | None = None
    starts: tuple[float, ...] = ()
    """How long the latest cold starts took."""
    first_token_s: float | None = None
    error: str = ""
