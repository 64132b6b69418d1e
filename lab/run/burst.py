"""The burst lane in the lab: a Cloud Run service with a cold start, an identity check, and its faults.

Owns: starting and ending burst's one instance, checking callers' ID tokens against the declared grant. Does not own:
Cloud Run's behaviour (`cloudrun`), the declared service (`read.burst`), the other lanes (`lab`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from lab.read.burst import Burst
from lab.run import cloudrun
from lab.run.metadata import Identities
from lab.run.processes import Process

BURST_IDLE_S: Final = 600.0
"""Cloud Run keeps an idle GPU instance for about 10 minutes."""


@dataclass(frozen=True)
class BurstRequest:
    """One request as it reached Cloud Run in front of burst, which lets it wait, refuses it, or hands it on."""

    request: str
    """`X-Request-Id`; empty where the pilot asked."""
    time: float
    """Unix time."""
    ready: bool
    """An instance ran."""


class Serverless:
    """The service on `port`; `launch(port)` starts the model there."""

    def __init__(
        self,
        burst: Burst,
        identities: Identities,
        *,
        port: int,
        instance_port: int,
        launch: Callable[[int], Awaitable[Process]],
        cold_start_s: float,
        idle_s: float = BURST_IDLE_S,
    ) -> None:
        self._burst, self._identities, self._launch_model = burst, identities, launch
        self.instance_port, self._cold_start_s = instance_port, cold_start_s
        self.requests: deque[BurstRequest] = deque(maxlen=10_000)
        """The latest requests that came, refused ones too."""
        self.may_start = asyncio.Event()
        """Cleared by a fault: an instance then never gets ready, and requests wait for it as long as they like."""
        self.may_start.set()
        self.service = cloudrun.Service(
            port=port,
            instance_port=instance_port,
            launch=self._launch,
            concurrency=burst.concurrency,
            timeout_s=burst.timeout_s,
            min_instances=burst.min_instances,
            idle_s=idle_s,
            authorize=self._refusal,
        )

    @property
    def process(self) -> Process | None:
        """The model's process, if an instance runs."""
        instance = self.service.current
        return instance.process if isinstance(instance, _Instance) else None

    async def _launch(self) -> cloudrun.Instance:
        """A cold start: the machine, the driver and the weights take their time, then the model answers."""
        await asyncio.sleep(self._cold_start_s)
        await self.may_start.wait()
        return _Instance(await self._launch_model(self.instance_port))

    def _refusal(self, request: web.Request) -> int | None:
        """401 without a good token for this service, 403 for somebody without the grant, None for a caller."""
        ready = self.process is not None and self.process.running
        self.requests.append(BurstRequest(request.headers.get("X-Request-Id", ""), time.time(), ready))
        given = request.headers.get("X-Serverless-Authorization") or request.headers.get("Authorization", "")
        email = self._identities.email(given.removeprefix("Bearer "), self._burst.audience)
        if email is None:
            return 401
        return None if email in self._burst.callers else 403


class _Instance:
    """One instance: the model's process."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @property
    def running(self) -> bool:
        return self.process.running

    async def stop(self) -> None:
        await self.process.stop(cloudrun.STOP_S)
