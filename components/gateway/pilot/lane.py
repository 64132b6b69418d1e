"""The lanes' state machine: cold, warming, warm, slow or down, and what follows from each for a lane's callers.

Owns: every decision about a lane but whether there is demand for burst (`demand`) and who is sooner (`expect`). Does
not own: any request, any clock. Pure.

A lane is left for what it produces, and no number alone is the verdict: metrics that stand still and answers of 500 are
doubt, and in doubt the pilot asks for one token itself. One in time ends the doubt; so a caller's poisonous request
marks nobody, nor does a large body that looks like silence while it is sent. A lane that was left comes back by tokens.
"""

import math
from dataclasses import replace
from typing import Any, Final

from .state import Action, Answer, Ask, Cancel, Check, Event, Lane, Load, Phase, Policy, Renew, Request

HOLD_S: Final = 10.0
"""How long demand is remembered: callers come and go between two attempts to wake burst."""
FRESH_S: Final = 0.8
"""How long a lane counts as in use after it was last seen so."""
PAUSE_S: Final = 1.0
"""Between two requests of the pilot to a lane."""
HELD_S: Final = 60.0
"""Longest single wake request. Cloud Run may hold it; a connection that died silently must not use up the deadline."""
LOOK_S: Final = 1.5
"""Longest wait for a lane's metrics. Shorter than Caddy's own pause after a failure (2 s): a burst that went away is
known to be cold before Caddy sends it the next request. llama.cpp answers between two batches, so a busy VM late."""
DOWN_AFTER: Final = 2
"""Failed checks in a row that make home or vm count as down."""
STRIKES: Final = 3
"""Failures in a row, none long ago, that end burst's warmth. A failed request is one, unanswered metrics are two."""
STRIKE_MEMORY_S: Final = 30.0
COLD_START_S: Final = 10.0
"""A wake that takes less found an instance still there."""
STARTS: Final = 5
"""Cold starts that are remembered."""
SLOW_SAMPLES: Final = 2
RECOVERED_SAMPLES: Final = 3
SLOW_AT_LEAST_S: Final = 5.0


def sends(state: Lane) -> bool:
    """Whether Caddy should send requests to burst."""
    return state.phase is Phase.WARM


def step(state: Lane, event: Event, now: float, policy: Policy) -> tuple[Lane, tuple[Action, ...]]:
    """The next state, after at most one transition, and what to do."""
    state = replace(state, now=max(now, state.now))
    if state.strikes and state.now - state.struck > STRIKE_MEMORY_S:
        state = replace(state, strikes=0, doubt=False)
    actions: list[Action] = []
    well = False
    if isinstance(event, Load):
        state = _loaded(state, event)
    elif isinstance(event, Check):
        well = not event.error
        error = event.error or (state.error if state.lateness_s else "")
        state = replace(state, failures=0 if well else state.failures + 1, error=error)
    elif isinstance(event, Answer) and state.asking is not None and event.serial == state.serial:
        if event.status in (401, 403):
            actions.append(Renew())
        well = state.asking is Ask.WAKE and 200 <= event.status < 300
        state = _answered(state, event, policy)
    before = state
    state = _moved(state, well, policy)
    if state.phase is not before.phase and state.asking is not None:
        state = replace(state, asking=None)
        actions.append(Cancel())
    ask = _due(state, policy)
    if ask is not None and state.asking is None and state.now >= state.ask_at:
        state = replace(state, asking=ask, serial=state.serial + 1)
        actions.append(Request(ask, state.serial, _patience(ask, state, policy)))
    return state, tuple(actions)


def _loaded(state: Lane, load: Load) -> Lane:
    now = state.now
    if load.wanted:
        state = replace(state, wanted=now)
    if load.in_flight > 0:
        silent = state.silent_s + (now - state.busy if state.in_flight else 0.0)
        state = replace(state, busy=now, used=now, silent_s=silent)
    state = replace(state, in_flight=load.in_flight)
    if load.errors and state.phase is Phase.WARM and now - state.busy <= FRESH_S:
        state = _suspected(state, "a request ended in 500")
    if load.failures > 0 and state.phase in (Phase.WARM, Phase.SLOW):
        state = replace(_struck(state, load.failures), doubt=True, error="Caddy saw requests to burst fail")
        # Not after the usual pause: a caller may come next.
        state = replace(state, ask_at=now)
    return state


def _struck(state: Lane, count: int) -> Lane:
    return replace(state, strikes=state.strikes + count, struck=state.now)


def _suspected(state: Lane, why: str) -> Lane:
    """The proof is asked for at once."""
    return replace(state, suspicion=state.suspicion or why, ask_at=state.now)


def _sick(state: Lane, why: str, *, mute: bool = False) -> Lane:
    return replace(state, lateness_s=math.inf, mute=mute, error=why, samples=0, suspicion="", unanswered=False)


def _answered(state: Lane, answer: Answer, policy: Policy) -> Lane:
    asked = state.asking
    state = replace(state, asking=None, ask_at=state.now + PAUSE_S, error=answer.error or state.error)
    alive = 200 <= answer.status < 500 and answer.status not in (401, 403, 429)
    if asked is Ask.LOOK:
        return _looked(state, answer, alive, policy)
    if asked is Ask.TRY:
        return _tried(state, answer, alive, policy)
    return state


def _looked(state: Lane, answer: Answer, alive: bool, policy: Policy) -> Lane:
    """Metrics that don't answer are no move."""
    if alive and answer.moved:
        # A token that did not come in time was behind others.
        state = replace(state, silent_s=0.0, unanswered=False, suspicion="" if state.unanswered else state.suspicion)
    elif state.failures or answer.moved is None:
        # A check that failed, too: the next ones say whether it is down, which is another thing than sick. Or one of
        # several engines stands, which says nothing about the others.
        pass
    elif state.unanswered:
        return _sick(state, f"nothing moves, and no token came in {policy.stuck_s:g} s", mute=state.phase is Phase.SLOW)
    elif state.silent_s >= policy.stuck_s and not _free(state, policy):
        return _sick(state, f"nothing has moved for {state.silent_s:.1f} s", mute=True)
    elif state.silent_s >= policy.stuck_s / 2:
        state = _suspected(state, "nothing moves")
    if answer.errors:
        state = _suspected(state, "it answered 500")
    if alive:
        return _timed(replace(state, doubt=False), answer, policy)
    return _struck(state, 2) if policy.sleeps else state


def _tried(state: Lane, answer: Answer, alive: bool, policy: Policy) -> Lane:
    if alive:
        state = replace(state, doubt=False, suspicion="", unanswered=False, silent_s=0.0)
        return _timed(state, answer, policy)
    state = replace(state, samples=0, first_token_s=answer.first_token_s or state.first_token_s)
    if answer.late or (answer.status == 0 and not policy.sleeps):
        # No proof that it is gone, nor that it is stuck: it may be busy.
        return replace(state, unanswered=True, ask_at=state.now)
    if answer.status == 500 or not policy.sleeps:
        return _sick(state, answer.error)
    return _struck(state, 2)


def _timed(state: Lane, answer: Answer, policy: Policy) -> Lane:
    seconds = answer.first_token_s
    if seconds is None:
        return state
    speaks = seconds > policy.slow_s if state.phase is Phase.WARM else seconds < policy.recovered_s
    cleared = 0 if seconds < policy.slow_s else state.strikes
    return replace(state, first_token_s=seconds, strikes=cleared, samples=state.samples + 1 if speaks else 0)


def _moved(state: Lane, well: bool, policy: Policy) -> Lane:
    now, age = state.now, state.now - state.since
    wanted = now - state.wanted <= HOLD_S and policy.wake != "never"
    idle = policy.sleeps and now - state.used >= policy.idle_s
    match state.phase:
        # Only new demand: what was wanted before it went cold was served.
        case Phase.COLD if wanted and state.wanted >= state.since:
            return replace(_enter(state, Phase.WARMING, "demand that home does not take"), wakes=state.wakes + 1)
        case Phase.WARMING if well:
            state = _enter(state, Phase.WARM, "burst answered")
            starts = (*state.starts, age)[-STARTS:] if age >= COLD_START_S else state.starts
            return replace(state, used=now, warmed=now, wake_s=age, starts=starts, error="")
        case Phase.WARMING if age >= policy.deadline_s:
            why = f": {state.error}" if state.error else ""
            return replace(_enter(state, Phase.DOWN, f"no answer within {policy.deadline_s:g} s{why}"), unproven=True)
        case Phase.WARMING if not wanted and state.asking is None:
            return _enter(state, Phase.COLD, "nobody needs burst any more")
        case Phase.WARM | Phase.SLOW if state.failures >= DOWN_AFTER:
            return _enter(state, Phase.DOWN, state.error)
        case Phase.WARM | Phase.SLOW if state.strikes >= STRIKES:
            if now - state.warmed < policy.retry_s and state.unproven:
                return _enter(state, Phase.DOWN, f"it failed again: {state.error}")
            return replace(_enter(state, Phase.COLD, f"it failed: {state.error}"), unproven=True)
        case Phase.WARM if state.lateness_s == math.inf:
            return _enter(state, Phase.SLOW, f"it is sick: {state.error}")
        case Phase.WARM if state.samples >= SLOW_SAMPLES:
            late = state.first_token_s or 0.0
            return replace(_enter(state, Phase.SLOW, f"first token after {late:.2f} s"), lateness_s=late)
        case Phase.WARM if idle:
            return _enter(state, Phase.COLD, f"idle for {policy.idle_s:g} s")
        case Phase.WARM if state.unproven and now - state.warmed >= policy.retry_s:
            return replace(state, unproven=False)
        case Phase.SLOW if state.samples >= RECOVERED_SAMPLES and age >= SLOW_AT_LEAST_S:
            state = _enter(state, Phase.WARM, f"first token after {state.first_token_s or 0:.2f} s")
            return replace(state, used=now, error="")
        case Phase.SLOW if idle and now - state.wanted >= policy.idle_s:
            return _enter(state, Phase.COLD, f"idle for {policy.idle_s:g} s")
        case Phase.DOWN if well:
            if not state.lateness_s:
                return _enter(state, Phase.WARM, "it answers its check")
            return _enter(state, Phase.SLOW, "it answers its check, which proves no token")
        case Phase.DOWN if policy.sleeps and age >= policy.retry_s:
            return _enter(state, Phase.COLD, f"{policy.retry_s:g} s have passed since it failed")
        case _:
            return state


def _enter(state: Lane, phase: Phase, reason: str) -> Lane:
    ask_at = state.now + PAUSE_S if phase is Phase.SLOW else state.now
    changes: dict[str, Any] = {"strikes": 0, "samples": 0, "doubt": False, "ask_at": ask_at, "silent_s": 0.0}
    if phase in (Phase.WARM, Phase.COLD):
        changes |= {"lateness_s": 0.0, "mute": False}
    changes |= {"suspicion": "", "unanswered": False}
    return replace(state, phase=phase, since=state.now, reason=reason, **changes)


def _free(state: Lane, policy: Policy) -> bool:
    return not policy.slots or state.in_flight < policy.slots


def _due(state: Lane, policy: Policy) -> Ask | None:
    """What there is to ask; nothing at all of a burst that is cold, down, or warm without use, so that it can sleep."""
    busy = state.now - state.busy <= FRESH_S
    wanted = state.now - state.wanted <= HOLD_S and policy.wake != "never"
    match state.phase:
        case Phase.WARMING:
            return Ask.WAKE
        case Phase.WARM | Phase.SLOW if state.unanswered:
            return Ask.LOOK
        case Phase.WARM if state.suspicion and _free(state, policy):
            return Ask.TRY
        case Phase.WARM if policy.watched and (busy or state.doubt):
            return Ask.LOOK
        case Phase.SLOW if (busy or wanted or not policy.sleeps) and _free(state, policy):
            return Ask.TRY
        case _:
            return None


def _patience(ask: Ask, state: Lane, policy: Policy) -> float:
    """Longest wait for the answer, seconds."""
    match ask:
        case Ask.WAKE:
            return min(HELD_S, state.since + policy.deadline_s - state.now)
        case Ask.LOOK:
            return LOOK_S
        case Ask.TRY:
            return policy.stuck_s if state.phase is Phase.WARM else max(policy.stuck_s, policy.recovered_s)
