"""Demand: whether there is work for burst.

Owns: what counts as demand. Does not own: what follows from it (`burst`). Pure.
"""

from .state import Policy


def demand(policy: Policy, vm_running: int, vm_capacity: int, waiting: int, *, home_free: bool = False) -> bool:
    """Whether there is work for burst that home does not take. Without a VM (capacity 0) it shows as waiting.

    While home is up and has a free slot (`home_free`) nobody waits for a lane: who seems to is still sending a body.
    """
    if policy.wake == "never":
        return False
    enough = 1 if policy.wake == "first-fallback" else vm_capacity
    return (waiting > 0 and not home_free) or (vm_capacity > 0 and vm_running >= enough)
