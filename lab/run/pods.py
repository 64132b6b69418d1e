"""The pods at home, as the kubelet keeps them: started, probed, and started again.

Owns: each pod's port, its endpoint in the Kubernetes API, the declared liveness and what follows from it. Does not own:
the process of a model server (`lab`), the verdict of a probe (the declared command, as it is), the pods (`read.home`).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from lab.errors import LabError
from lab.read import home, images
from lab.read.container import Container, Mount
from lab.run import folders, processes
from lab.run.kubernetes_api import KubernetesApi
from lab.run.ports import free_port
from lab.run.processes import Process

Start = Callable[[home.Pod, Container, int], Awaitable[Process]]
"""Starts a pod's container on a loopback port; returns when it is ready."""
STOP_S: Final = 5.0
"""A local stand-in has nothing to drain for longer, whatever grace is declared."""


def marker(pod: home.Pod) -> str:
    """Who a fake says it is: the lane for the pod of the model that every lane has, else the service."""
    return "home" if home.COMPLETIONS in pod.paths else pod.name


class Pods:
    """The pods of one lab. `run` and `logs` are its folders, `programs` stand in the PATH of a probe."""

    def __init__(
        self,
        pods: Sequence[home.Pod],
        api: KubernetesApi | None,
        start: Start,
        *,
        run: Path,
        logs: Path,
        programs: Path,
        say: Callable[[str], None],
    ) -> None:
        self._api, self._start, self._say = api, start, say
        self._run, self._logs, self._programs = run, logs, programs
        self._pods = {pod.name: pod for pod in pods}
        self.ports = {pod.name: free_port() for pod in pods}
        self.restarts: dict[str, int] = {}
        """Title of a pod -> how often liveness has restarted it; without those that it never did."""
        self._processes: dict[str, Process] = {}
        self._watching: list[asyncio.Task[None]] = []

    async def start(self, pod: home.Pod, *, watched: bool) -> None:
        """Returns when the pod is ready. `watched`: the kubelet looks after it until `stop`."""
        await self._begin(pod)
        if watched and pod.liveness.command:
            self._watching.append(asyncio.create_task(self._watch(pod)))

    async def again(self) -> None:
        """Starts the pods whose server has ended, as the kubelet does."""
        for title, pod in self._pods.items():
            if title in self._processes and not self._processes[title].running:
                self._lead(pod, None)
                await self._begin(pod)

    async def stop(self) -> None:
        """No probe and no restart from now on; the processes go on."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)

    async def _begin(self, pod: home.Pod) -> None:
        mounts = tuple(Mount(mount.path, {}) for mount in pod.mounts)
        container = Container("home", pod.name, pod.image, pod.command, pod.args, pod.env, mounts)
        self._processes[pod.name] = await self._start(pod, container, self.ports[pod.name])
        self._lead(pod, f"127.0.0.1:{self.ports[pod.name]}")

    def _lead(self, pod: home.Pod, address: str | None) -> None:
        assert self._api is not None
        self._api.set_endpoint(pod.service, address, namespace=pod.namespace)

    async def _watch(self, pod: home.Pod) -> None:
        probe, failed = pod.liveness, 0
        try:
            while True:
                alive, _ = await asyncio.gather(self._lives(pod), asyncio.sleep(probe.period_s))
                failed = 0 if alive else failed + 1
                if failed == probe.failures:
                    failed = 0
                    await self._restart(pod)
        except LabError as error:
            self._say(f"home/{pod.name}: it is not probed any more: {error}")

    async def _lives(self, pod: home.Pod) -> bool:
        """One probe; what it says goes into its log."""
        title = f"home/{pod.name}"
        mounted = {mount.path: str(self._run / title / mount.path.lstrip("/")) for mount in pod.mounts}
        here = {f"127.0.0.1:{pod.port}": f"127.0.0.1:{self.ports[pod.name]}"}
        declared = [here.get(word) or folders.translate(word, mounted) for word in pod.liveness.command]
        words = images.probe_command(title, pod.image, declared)
        env = processes.environment({}, self._programs)
        probe = await processes.start(f"{title}/liveness", words, env, logs=self._logs)
        try:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(probe.handle.wait(), pod.liveness.timeout_s) == 0
            return False
        finally:
            await probe.stop(0)

    async def _restart(self, pod: home.Pod) -> None:
        title = f"home/{pod.name}"
        self.restarts[title] = self.restarts.get(title, 0) + 1
        self._say(f"{title}: {pod.liveness.failures} probes of its liveness failed in a row; it is started again")
        self._lead(pod, None)
        await self._processes[pod.name].stop(min(STOP_S, pod.liveness.grace_s or pod.grace_s))
        try:
            await self._begin(pod)
        except LabError as error:
            self._say(f"{title}: {error}")
