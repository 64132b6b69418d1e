"""The burst lane in the lab: a Cloud Run service with a cold start, an identity check, and its faults.

Owns: starting and ending burst's instances, checking callers' ID tokens against the declared grant. Does not own:
Cloud Run's behaviour (`cloudrun`, `instances`), the declared service (`read.burst`), the other lanes (`lab`).
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from lab.read.burst import Burst
from lab.run import cloudrun
from lab.run.instances import WINDOW_S
from lab.run.metadata import Identities
from lab.run.ports import free_port
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
    """The service on `port`; `launch(number, port)` starts an instance's model there. Numbers are given away again."""

    def __init__(
        self,
        burst: Burst,
        identities: Identities,
        *,
        port: int,
        launch: Callable[[int, int], Awaitable[Process]],
        cold_start_s: float,
        window_s: float = WINDOW_S,
        idle_s: float = BURST_IDLE_S,
    ) -> None:
        self._burst, self._identities, self._launch_model = burst, identities, launch
        self._cold_start_s = cold_start_s
        self._numbers: set[int] = set()
        """Of the instances that start or run."""
        self.requests: deque[BurstRequest] = deque(maxlen=10_000)
        """The latest requests that came, refused ones too."""
        self.may_start = asyncio.Event()
        """Cleared by a fault: an instance then never gets ready, and requests wait for it as long as they like."""
        self.may_start.set()
        self.service = cloudrun.Service(
            port=port,
            launch=self._launch,
            concurrency=burst.concurrency,
            timeout_s=burst.timeout_s,
            min_instances=burst.min_instances,
            max_instances=burst.max_instances,
            idle_s=idle_s,
            window_s=window_s,
            authorize=self._refusal,
        )

    @property
    def addresses(self) -> list[str]:
        """Of the instances that run."""
        return [f"127.0.0.1:{instance.port}" for instance in self.service.instances.running]

    async def _launch(self) -> "_Instance":
        """A cold start: the machine, the driver and the weights take their time, then the model answers."""
        number, port = next(n for n in itertools.count(1) if n not in self._numbers), free_port()
        self._numbers.add(number)
        try:
            await asyncio.sleep(self._cold_start_s)
            await self.may_start.wait()
            process = await self._launch_model(number, port)
        except BaseException:
            self._numbers.discard(number)
            raise
        return _Instance(process, port, lambda: self._numbers.discard(number))

    def _refusal(self, request: web.Request) -> int | None:
        """401 without a good token for this service, 403 for somebody without the grant, None for a caller."""
        ready = bool(self.service.instances.running)
        self.requests.append(BurstRequest(request.headers.get("X-Request-Id", ""), time.time(), ready))
        given = request.headers.get("X-Serverless-Authorization") or request.headers.get("Authorization", "")
        email = self._identities.email(given.removeprefix("Bearer "), self._burst.audience)
        if email is None:
            return 401
        return None if email in self._burst.callers else 403


class _Instance:
    """One instance: the model's process."""

    def __init__(self, process: Process, port: int, ended: Callable[[], None]) -> None:
        self._process, self._port, self._ended = process, port, ended

    @property
    def port(self) -> int:
        return self._port

    @property
    def running(self) -> bool:
        return self._process.running

    async def stop(self) -> None:
        await self._process.stop(cloudrun.STOP_S)
        self._ended()
