"""Grants that a service reads its secrets by, and the wait until Google counts them.

Owns: how long a service waits after a new grant. Does not own: the grants, the service.

Cloud Run starts no revision that can't read its secrets, and the engine can't simply try again: such a service exists
already, so Google refuses its second creation (an `ErrorHook` repeats the creation). Hence the service waits.
"""

import asyncio
import time
from typing import Final

import pulumi

COUNTS_AFTER_S: Final = 120
"""IAM, "Access change propagation": a grant counts after 2 minutes typically, at times after 7 or more."""


class Grants:
    """Bound to each grant, `made` notes when it was made; bound to their service, `counted` waits.

    The network and the VM are made meanwhile. An update that makes no grant waits for nothing.
    """

    made: pulumi.ResourceHookBinding
    counted: pulumi.ResourceHookBinding

    def __init__(self, name: str) -> None:
        self._counts_at = time.monotonic()
        self.made = pulumi.ResourceHookBinding(after_create=[pulumi.ResourceHook(f"{name}-grant-made", self._note)])
        wait = pulumi.ResourceHook(f"{name}-grants-counted", self._wait)
        self.counted = pulumi.ResourceHookBinding(before_create=[wait], before_update=[wait])

    def _note(self, _: pulumi.ResourceHookArgs) -> None:
        self._counts_at = time.monotonic() + COUNTS_AFTER_S

    async def _wait(self, service: pulumi.ResourceHookArgs) -> None:
        left = self._counts_at - time.monotonic()
        if left > 0:
            pulumi.log.info(f"{service.name} waits {left:.0f} s, until Google counts its new grants.")
            await asyncio.sleep(left)
