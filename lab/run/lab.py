"""Runs a plan: starts the processes, watches them, switches faults, and ends everything.

Owns: the order of starting and stopping, and the folder `run/`. Does not own: the plan (`read.plan`, `read.images`), a
fault's effect (`faults`), Cloud Run's behaviour (`cloudrun`), how other commands reach a running lab (`control`).
"""

import asyncio
import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lab.control import Control
from lab.read import home, tables, user_data
from lab.read.container import Container
from lab.read.plan import LANES, Plan
from lab.read.stack import ROOT, Stack
from lab.run import cloudrun, folders, processes, traefik
from lab.run.burst import Serverless
from lab.run.faults import Faults
from lab.run.instances import WINDOW_S, Instance
from lab.run.kubernetes_api import KubernetesApi
from lab.run.logs import Logs
from lab.run.metadata import Identities
from lab.run.models import Models
from lab.run.pods import Pods, marker
from lab.run.ports import free_port, require_free
from lab.run.processes import Process
from lab.run.vm import Machines

MODEL_START_S: Final = 120.0


class Lab:
    """One running lab. `say` gets a line of progress at a time.

    Fake models answer as late as the declared machines do, burst starts after `cold_start_s`, and Google looks at its
    load over a minute; `time_scale` divides these times. With `answer_s` a fake answer takes that long instead.
    """

    def __init__(
        self,
        stack: Stack,
        plan: Plan,
        folder: Path,
        *,
        port: int,
        fake_models: bool = False,
        idle_s: float = cloudrun.IDLE_S,
        burst_port: int = 0,
        cold_start_s: float = 3.0,
        answer_s: float | None = None,
        time_scale: float = 1.0,
        say: Callable[[str], None] = print,
    ) -> None:
        self._stack, self.plan, self._folder, self._say = stack, plan, folder, say
        self.name, self.fake_models = stack.name, fake_models
        self._run, self._logs, self._bin = folder / "run", folder / "logs", folder / "bin"
        self._cache = ROOT / ".lab" / "models"
        self._models = Models(plan, self._cache, fake_models, time_scale if answer_s is None else None)
        self._processes: dict[str, Process] = {}
        self._began, self._errors = time.monotonic(), Logs(self._logs)
        self._instance_port, self._metadata_port = free_port(), free_port()
        self._traefik = traefik.Traefik(stack.resources, run=self._run, logs=self._logs)
        self._identities = Identities()
        self.burst = (
            Serverless(
                plan.burst,
                self._identities,
                port=burst_port,
                launch=self._launch_burst,
                cold_start_s=cold_start_s / time_scale,
                window_s=WINDOW_S / time_scale,
            )
            if plan.burst
            else None
        )
        self.vm = Machines(plan.vm, self._launch_vm, time_scale=time_scale) if plan.vm else None
        self._api = KubernetesApi(home.objects(stack.resources)) if plan.pods or plan.not_run else None
        self.pods = Pods(
            plan.pods, self._api, self._launch_pod, run=self._run, logs=self._logs, programs=self._bin, say=say,
            time_scale=time_scale,
        )  # fmt: skip
        self.traefik_address = self._traefik.address
        self.faults = Faults(self, folder, answer_s=answer_s or 0.0)
        self._switching = asyncio.Lock()
        self.stopped = asyncio.Event()
        self.control = Control(free_port(), status=self.status, fault=self.fault, down=self.stopped.set)
        gateway = plan.gateway
        self.gateway = cloudrun.Service(
            port=port,
            launch=self._launch_gateway,
            concurrency=gateway.concurrency,
            timeout_s=gateway.timeout_s,
            # One at most, whatever is declared: all of them would want the same addresses.
            min_instances=min(gateway.min_instances, 1),
            idle_s=idle_s,
        )
        self.port = port

    async def start(self) -> None:
        """Starts everything but the gateway's instance, which its first request starts; returns when all is ready."""
        for address in (f"127.0.0.1:{self.port}", *self._fixed_addresses()):
            require_free(address)
        for path in (self._run, self._logs, self._bin, self._cache):
            path.mkdir(parents=True, exist_ok=True)
        for lane in LANES:
            self.journal(lane).unlink(missing_ok=True)
        folders.write_programs(self._folder, self._bin)
        self.faults.write_tailnet()
        if self._api:
            await self._api.start()
            self._processes[traefik.TITLE] = await self._traefik.start(self._api.url)
        try:
            async with asyncio.TaskGroup() as models:
                if self.vm:
                    models.create_task(self.vm.start())
                for pod in self.plan.pods:
                    # A small real model has llama.cpp's metrics, and may be busy for longer than a probe waits.
                    models.create_task(self.pods.start(pod, watched=self.fake_models))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        await self._identities.serve(self.plan.gateway.identity, self._metadata_port, subject=self.plan.gateway.subject)
        if self.burst:
            await self.burst.service.start()
        await self.gateway.start()

    async def stop(self) -> None:
        """Ends all processes, the gateway first, so that no lane is missed by a request."""
        async with contextlib.AsyncExitStack() as last_first:
            last_first.callback(folders.forget, self._folder)
            last_first.push_async_callback(self.control.stop)
            last_first.callback(self.faults.close)
            if self._api:
                last_first.push_async_callback(self._api.stop)
            for process in self._processes.values():
                last_first.push_async_callback(process.stop, 0)
            last_first.push_async_callback(self._stop_processes)
            last_first.push_async_callback(self.pods.stop)
            if self.vm:
                last_first.push_async_callback(self.vm.stop)
            last_first.push_async_callback(self._identities.stop)
            if self.burst:
                last_first.push_async_callback(self.burst.service.stop)
            last_first.push_async_callback(self.gateway.stop)

    async def _stop_processes(self) -> None:
        await asyncio.gather(*(process.stop(5.0) for process in self._processes.values()))

    async def fault(self, name: str, on: bool) -> None:
        """Switches a fault and returns when it is in force; raises `LabError` on one that this stack can't have."""
        async with self._switching:
            await self.faults.switch(name, on)

    def model_addresses(self) -> dict[str, list[str]]:
        """Lane -> addresses of its model servers, of those that run."""
        in_cloud = {"vm": self.vm, "burst": self.burst}
        return self.pods.addresses() | {lane: one.addresses for lane, one in in_cloud.items() if one}

    def servers(self, of: str) -> list[Process]:
        """The model servers of a lane, or Traefik, that run."""
        named = {f"home/{pod.name}": marker(pod) for pod in self.plan.pods} | {traefik.TITLE: "traefik"}
        running = [one for one in self._processes.values() if one.running]
        return [one for one in running if (named.get(one.title) or one.title.partition("/")[0]) == of]

    async def revive(self, what: str) -> None:
        """Starts what of home was killed; burst's instances start when somebody asks for one."""
        if what == "traefik" and self._api and not self.servers(what):
            self._processes[traefik.TITLE] = await self._traefik.start(self._api.url)
        elif what == "home":
            await self.pods.again()

    def journal(self, lane: str) -> Path:
        """The log of the lane's fake model, from all its lives in this lab."""
        return self._run / f"{lane}.journal"

    @property
    def groups(self) -> dict[str, int]:
        """Process group of everything that runs, by title."""
        running = [one for one in (*self._processes.values(), *self._containers()) if one.running]
        return {one.title: one.handle.pid for one in running}

    def container_groups(self) -> list[int]:
        """Process groups of the gateway's containers."""
        return [process.handle.pid for process in self._containers()]

    def _containers(self) -> list[Process]:
        """The processes of the gateway's instance, if there is one."""
        running = self.gateway.instances.running
        return [one for instance in running if isinstance(instance, _GatewayInstance) for one in instance.containers]

    def status(self) -> dict[str, Any]:
        """What runs, for `lab status`."""
        running = [*self._processes.values(), *self._containers()]
        here = tables.addresses(
            self.plan, port=self.port, instance_port=self._instance_port, pods_at=self.pods.at,
            traefik_port=self._traefik.port,
        )  # fmt: skip
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._began, 1),
            "gateway": self.gateway.instances.status(),
            "burst": self.burst.service.instances.status() if self.burst else None,
            "vm": self.vm.status() if self.vm else None,
            "processes": {p.title: {"pid": p.handle.pid, "running": p.running} for p in running},
            "addresses": here,
            "restarts": self.pods.restarts,
            "faults": sorted(self.faults.on),
            "errors": self._errors.last_errors(),
        }

    def _fixed_addresses(self) -> list[str]:
        """Declared addresses the lab keeps: inside the gateway's instance, and the VM's."""
        containers = self.plan.gateway.containers
        texts = [text for c in containers for text in (*c.env.values(), *(t for m in c.mounts for t in m.texts))]
        vm = self.plan.vm
        return sorted({
            *re.findall(r"127\.0\.0\.1:\d+", "\n".join(texts)),
            *([f"{vm.address}:{vm.port}"] if vm else []),
        })  # fmt: skip

    async def _launch_gateway(self) -> Instance:
        """Starts the gateway's containers as Cloud Run does, all at once, and waits for the startup probe."""
        gateway = self.plan.gateway
        instance = _GatewayInstance(self._instance_port, [])
        shutil.rmtree(self._run / "gateway" / "volumes", ignore_errors=True)
        try:
            for container in gateway.containers:
                mounted = folders.mount(self._run, container, fresh=True)
                env = {key: folders.translate(value, mounted) for key, value in container.env.items()}
                env["LAB_TAILNET"] = str(self._folder / "tailnet.json")
                # Google's own variable for another metadata server; on Cloud Run it has a fixed name.
                env["GCE_METADATA_HOST"] = f"127.0.0.1:{self._metadata_port}"
                if container.name == gateway.ingress:
                    env["PORT"] = str(self._instance_port)
                argv = [folders.translate(word, mounted) for word in (*container.command, *container.args)]
                cwd = Path(folders.translate(container.working_dir, mounted)) if container.working_dir else self._run
                started = await processes.start(
                    container.title, argv, processes.environment(env, self._bin), cwd=cwd, logs=self._logs
                )
                instance.containers.append(started)
            url = f"http://127.0.0.1:{self._instance_port}{gateway.probe_path}"
            await processes.ready(url, gateway.start_limit_s, instance)
        except BaseException:
            await instance.stop()
            raise
        return instance

    async def _launch_burst(self, number: int, port: int) -> Process:
        """An instance of burst, ready: its own wait for readiness is part of the cold start."""
        burst = self.plan.burst
        assert burst is not None
        return await self._start_model(burst.container, "127.0.0.1", port, "burst", burst.health_path, number)

    async def _launch_vm(self, number: int, host: str, port: int) -> Process:
        assert self.plan.vm is not None
        return await self._start_model(self.plan.vm.container, host, port, "vm", "/health", number)

    async def _start_model(
        self, container: Container, host: str, port: int, lane: str, health: str, number: int = 1
    ) -> Process:
        title = container.title if number == 1 else f"{container.title}-{number}"
        command = self._models.command(container, f"{host}:{port}", lane, self.journal(lane))
        boot_id = uuid.uuid4().hex
        command = [word.replace(user_data.BOOT_ID, boot_id) for word in command]
        mounted = folders.mount(self._run, container, fresh=False)
        env = {key: folders.translate(value, mounted) for key, value in container.env.items()}
        began = time.monotonic()
        process = await processes.start(title, command, processes.environment(env, self._bin), logs=self._logs)
        self._processes[title] = process
        await processes.ready(f"http://{host}:{port}{health}", MODEL_START_S, process)
        self._say(f"{title}: model ready after {time.monotonic() - began:.1f} s")
        if self.fake_models:
            await self.faults.script(lane, f"{host}:{port}")
        return process

    async def _launch_pod(self, pod: home.Pod, container: Container, host: str, port: int) -> Process:
        return await self._start_model(container, host, port, marker(pod), pod.readiness.path)


class _GatewayInstance:
    """The gateway's containers; the instance ends when one of them does, as Cloud Run's do."""

    def __init__(self, port: int, containers: list[Process]) -> None:
        self._port, self.containers = port, containers

    @property
    def port(self) -> int:
        return self._port

    @property
    def running(self) -> bool:
        return all(container.running for container in self.containers)

    async def stop(self) -> None:
        await asyncio.gather(*(container.stop(cloudrun.STOP_S) for container in self.containers))
