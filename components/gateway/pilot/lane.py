"""Burst's state machine: cold, warming, warm, slow or down, and what follows from each for its callers.

Owns: every decision about burst but whether there is demand (`demand`). Does not own: any request, any clock. Pure.
"""

from dataclasses import replace
from typing import Any, Final

from .state import Action, Answer, Ask, Burst, Cancel, Event, Load, Phase, Policy, Renew, Request

HOLD_S: Final = 10.0
"""How long demand is remembered: callers come and go between two attempts to wake burst."""
FRESH_S: Final = 0.8
"""How long burst counts as in use after it was last seen so."""
PAUSE_S: Final = 1.0
"""Between two requests of the pilot to burst."""
HELD_S: Final = 60.0
"""Longest single wake request. Cloud Run may hold it; a connection that died silently must not use up the deadline."""
LOOK_S: Final = 1.5
"""Longest wait for burst's metrics. Shorter than Caddy's own pause after a failure (2 s): a burst that went away is
known to be cold before Caddy sends it the next request."""
STRIKES: Final = 3
"""Failures in a row, none long ago, that end warmth. A failed request is one, unanswered metrics are two."""
STRIKE_MEMORY_S: Final = 30.0
COLD_START_S: Final = 10.0
"""A wake that takes less found an instance still there."""
STARTS: Final = 5
"""Cold starts that are remembered."""
SLOW_SAMPLES: Final = 2
RECOVERED_SAMPLES: Final = 3
SLOW_AT_LEAST_S: Final = 5.0


def sends(state: Burst) -> bool:
    """Whether Caddy should send requests to burst."""
    return state.phase is Phase.WARM


def step(state: Burst, event: Event, now: float, policy: Policy) -> tuple[Burst, tuple[Action, ...]]:
    """The next state, after at most one transition, and what to do."""
    state = replace(state, now=max(now, state.now))
    if state.strikes and state.now - state.struck > STRIKE_MEMORY_S:
        state = replace(state, strikes=0, doubt=False)
    actions: list[Action] = []
    woken = False
    if isinstance(event, Load):
        state = _loaded(state, event)
    elif isinstance(event, Answer) and state.asking is not None and event.serial == state.serial:
        if event.status in (401, 403):
            actions.append(Renew())
        woken = state.asking is Ask.WAKE and 200 <= event.status < 300
        state = _answered(state, event, policy)
    before = state
    state = _moved(state, woken, policy)
    if state.phase is not before.phase and state.asking is not None:
        state = replace(state, asking=None)
        actions.append(Cancel())
    ask = _due(state, policy)
    if ask is not None and state.asking is None and state.now >= state.ask_at:
        left = state.since + policy.deadline_s - state.now
        timeout = {Ask.WAKE: min(HELD_S, left), Ask.LOOK: LOOK_S, Ask.TRY: max(LOOK_S, policy.slow_s)}[ask]
        state = replace(state, asking=ask, serial=state.serial + 1)
        actions.append(Request(ask, state.serial, timeout))
    return state, tuple(actions)


def _loaded(state: Burst, load: Load) -> Burst:
    now = state.now
    if load.wanted:
        state = replace(state, wanted=now)
    if load.in_flight > 0:
        state = replace(state, busy=now, used=now)
    if load.failures > 0 and state.phase in (Phase.WARM, Phase.SLOW):
        state = replace(_struck(state, load.failures), doubt=True, error="Caddy saw requests to burst fail")
        # Not after the usual pause: a caller may come next.
        state = replace(state, ask_at=now)
    return state


def _struck(state: Burst, count: int) -> Burst:
    return replace(state, strikes=state.strikes + count, struck=state.now)


def _answered(state: Burst, answer: Answer, policy: Policy) -> Burst:
    asked = state.asking
    state = replace(state, asking=None, ask_at=state.now + PAUSE_S, error=answer.error or state.error)
    alive = 200 <= answer.status < 500 and answer.status not in (401, 403, 429)
    if asked is Ask.WAKE:
        return state
    if not alive:
        # A slow engine may leave the one-token request without an answer; that is no proof that it is gone.
        gone = not (asked is Ask.TRY and answer.late)
        state = replace(state, samples=state.samples if asked is Ask.LOOK else 0)
        return _struck(state, 2) if gone else replace(state, first_token_s=answer.first_token_s)
    state = replace(state, doubt=False)
    seconds = answer.first_token_s
    if seconds is None:
        return state
    speaks = seconds > policy.slow_s if state.phase is Phase.WARM else seconds < policy.recovered_s
    cleared = 0 if seconds < policy.slow_s else state.strikes
    return replace(state, first_token_s=seconds, strikes=cleared, samples=state.samples + 1 if speaks else 0)


def _moved(state: Burst, woken: bool, policy: Policy) -> Burst:
    now, age = state.now, state.now - state.since
    wanted = now - state.wanted <= HOLD_S and policy.wake != "never"
    idle = now - state.used >= policy.idle_s
    match state.phase:
        # Only new demand: what was wanted before it went cold was served.
        case Phase.COLD if wanted and state.wanted >= state.since:
            return replace(_enter(state, Phase.WARMING, "demand that home does not take"), wakes=state.wakes + 1)
        case Phase.WARMING if woken:
            state = _enter(state, Phase.WARM, "burst answered")
            starts = (*state.starts, age)[-STARTS:] if age >= COLD_START_S else state.starts
            return replace(state, used=now, warmed=now, wake_s=age, starts=starts, error="")
        case Phase.WARMING if age >= policy.deadline_s:
            why = f": {state.error}" if state.error else ""
            return replace(_enter(state, Phase.DOWN, f"no answer within {policy.deadline_s:g} s{why}"), unproven=True)
        case Phase.WARMING if not wanted and state.asking is None:
            return _enter(state, Phase.COLD, "nobody needs burst any more")
        case Phase.WARM | Phase.SLOW if state.strikes >= STRIKES:
            if now - state.warmed < policy.retry_s and state.unproven:
                return _enter(state, Phase.DOWN, f"it failed again: {state.error}")
            return replace(_enter(state, Phase.COLD, f"it failed: {state.error}"), unproven=True)
        case Phase.WARM if state.samples >= SLOW_SAMPLES:
            return _enter(state, Phase.SLOW, f"first token after {state.first_token_s or 0:.2f} s")
        case Phase.WARM if idle:
            return _enter(state, Phase.COLD, f"idle for {policy.idle_s:g} s")
        case Phase.WARM if state.unproven and now - state.warmed >= policy.retry_s:
            return replace(state, unproven=False)
        case Phase.SLOW if state.samples >= RECOVERED_SAMPLES and age >= SLOW_AT_LEAST_S:
            state = _enter(state, Phase.WARM, f"first token after {state.first_token_s or 0:.2f} s")
            return replace(state, used=now)
        case Phase.SLOW if idle and now - state.wanted >= policy.idle_s:
            return _enter(state, Phase.COLD, f"idle for {policy.idle_s:g} s")
        case Phase.DOWN if age >= policy.retry_s:
            return _enter(state, Phase.COLD, f"{policy.retry_s:g} s have passed since it failed")
        case _:
            return state


def _enter(state: Burst, phase: Phase, reason: str) -> Burst:
    ask_at = state.now + PAUSE_S if phase is Phase.SLOW else state.now
    changes: dict[str, Any] = {"strikes": 0, "samples": 0, "doubt": False, "ask_at": ask_at}
    return replace(state, phase=phase, since=state.now, reason=reason, **changes)


def _due(state: Burst, policy: Policy) -> Ask | None:
    """What there is to ask burst; nothing at all while it is cold, down, or warm without use, so that it can sleep."""
    busy = state.now - state.busy <= FRESH_S
    wanted = state.now - state.wanted <= HOLD_S and policy.wake != "never"
    match state.phase:
        case Phase.WARMING:
            return Ask.WAKE
        case Phase.WARM if busy or state.doubt:
            return Ask.LOOK
        case Phase.SLOW if busy or wanted:
            return Ask.TRY
        case _:
            return None
