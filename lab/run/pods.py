"""The pods at home, as the kubelet keeps them: started, probed, started again, and gone with their machine.

Owns: each pod's port, its endpoint in the Kubernetes API, the declared liveness and what follows from it. Does not own:
the process of a model server (`lab`), the verdict of a probe (the declared command, as it is), the pods (`read.home`).
"""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from lab.errors import LabError
from lab.read import home, images
from lab.read.container import Container, Mount
from lab.run import folders, processes
from lab.run.kubernetes_api import KubernetesApi
from lab.run.ports import FullQueue, free_port
from lab.run.processes import Process

Start = Callable[[home.Pod, Container, str, int], Awaitable[Process]]
"""Starts a pod's container at a loopback address and port; returns when it is ready."""
ELSEWHERE: Final = 11
"""Last number of the loopback address of the first pod that has a machine of its own; the VM has 2."""
STOP_S: Final = 5.0
"""A local stand-in has nothing to drain for longer, whatever grace is declared."""
NOTICED_S: Final = 50.0
"""After which Kubernetes gives up a machine that says nothing, and takes its pods' endpoints away
(kube-controller-manager's `--node-monitor-grace-period`, since 1.32)."""


def hosts(pods: Sequence[home.Pod]) -> dict[str, str]:
    """Name of a pod -> its loopback address: to Traefik those of one address are one, whatever their ports."""
    numbers = itertools.count(ELSEWHERE)
    return {pod.name: f"127.0.0.{next(numbers) if pod.apart else 1}" for pod in pods}


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
        time_scale: float = 1.0,
    ) -> None:
        self._api, self._start, self._say, self._time_scale = api, start, say, time_scale
        self._pods = {pod.name: pod for pod in pods}
        self.elsewhere = next((pod for pod in reversed(pods) if pod.apart), None)
        """The last pod that has a machine of its own."""
        self._silent: FullQueue | None = None
        """Its machine, while that is off."""
        self._run, self._logs, self._programs = run, logs, programs
        self.at = {name: f"{host}:{free_port(host)}" for name, host in hosts(pods).items()}
        """Name of a pod -> its address here."""
        self.restarts: dict[str, int] = {}
        """Title of a pod -> how often liveness has restarted it; without those that it never did."""
        self._processes: dict[str, Process] = {}
        self._watching: list[asyncio.Task[None]] = []

    def addresses(self) -> dict[str, list[str]]:
        """Marker -> addresses of the model servers, without the machine that is off."""
        found: dict[str, list[str]] = {}
        for pod in self._pods.values():
            if not (self._silent and pod is self.elsewhere):
                found.setdefault(marker(pod), []).append(self.at[pod.name])
        return found

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
        if self._silent:
            self._silent.close()

    async def switch_off(self) -> None:
        """The last machine: nothing that was sent to it is answered, and no connection comes about."""
        pod = self.elsewhere
        assert pod is not None
        if self._silent:
            return
        os.killpg(self._processes[pod.name].handle.pid, signal.SIGSTOP)
        self._silent = FullQueue(self.at[pod.name])
        self._watching.append(asyncio.create_task(self._notice(pod)))

    async def switch_on(self) -> None:
        """It has forgotten all connections, and starts its pod anew."""
        pod = self.elsewhere
        if pod is None or self._silent is None:
            return
        self._lead(pod, None)
        await self._processes[pod.name].stop(0)
        self._silent.close()
        self._silent = None
        await self._begin(pod)

    async def _notice(self, pod: home.Pod) -> None:
        silent = self._silent
        await asyncio.sleep(NOTICED_S / self._time_scale)
        if self._silent is silent:
            self._lead(pod, None)

    async def _begin(self, pod: home.Pod) -> None:
        mounts = tuple(Mount(mount.path, {}) for mount in pod.mounts)
        container = Container("home", pod.name, pod.image, pod.command, pod.args, pod.env, mounts)
        host, _, port = self.at[pod.name].rpartition(":")
        self._processes[pod.name] = await self._start(pod, container, host, int(port))
        self._lead(pod, self.at[pod.name])

    def _lead(self, pod: home.Pod, address: str | None) -> None:
        assert self._api is not None
        self._api.set_endpoint(pod.service, address, namespace=pod.namespace, pod=pod.name)

    async def _watch(self, pod: home.Pod) -> None:
        probe, failed = pod.liveness, 0
        try:
            while True:
                alive, _ = await asyncio.gather(self._lives(pod), asyncio.sleep(probe.period_s))
                # Whose machine is off has no kubelet.
                off = pod is self.elsewhere and self._silent
                failed = 0 if alive or off else failed + 1
                if failed == probe.failures:
                    failed = 0
                    await self._restart(pod)
        except LabError as error:
            self._say(f"home/{pod.name}: it is not probed any more: {error}")

    async def _lives(self, pod: home.Pod) -> bool:
        """One probe; what it says goes into its log."""
        title = f"home/{pod.name}"
        mounted = {mount.path: str(self._run / title / mount.path.lstrip("/")) for mount in pod.mounts}
        here = {f"127.0.0.1:{pod.port}": self.at[pod.name]}
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
