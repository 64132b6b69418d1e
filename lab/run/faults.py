"""Faults of a running lab: `lab fault NAME on|off` brings each of them about and mends it.

Owns: each fault's meaning, and the means, all of them outside the declared programs. Does not own: the processes
(`lab`), burst's behaviour (`burst`).
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp

from lab.errors import LabError
from lab.read.plan import LANES, Plan
from lab.run.burst import Serverless
from lab.run.cloudrun import Service
from lab.run.folders import PILOT_BROKEN
from lab.run.instances import Instances
from lab.run.pods import Pods
from lab.run.ports import BlackHole
from lab.run.processes import Process
from lab.run.vm import Machines

FAULTS: Final = {
    "home-refused": "home's machine is on, but nothing listens on its port",
    "home-blackhole": "home's packets are dropped, without a reset",
    "home-node-off": "the last of several machines at home is off: its packets are dropped, Kubernetes notices in 50 s",
    "home-slow": "home's model needs 8 s for its first token (fake models only)",
    "home-mute": "home's engine is stuck: /health says 200, and no token comes (fake models only)",
    "home-500": "home answers 500 to everything but /health and /metrics (fake models only)",
    "home-down": "home's model server is gone, as killed; off: the kubelet has started it again",
    "home-stopped": "home's model server stands still (SIGSTOP): it takes connections and answers none",
    "traefik-down": "home's Traefik is gone, as killed",
    "traefik-stopped": "home's Traefik stands still (SIGSTOP)",
    "tunnel-stopped": "the gateway's tunnel stands still (SIGSTOP)",
    "tunnel-down": "the gateway's Tailscale container lost the tailnet and can't join it again",
    "burst-down": "burst's instances are gone, as killed; the next request starts one",
    "burst-stopped": "burst's instances stand still (SIGSTOP)",
    "burst-mute": "burst's engine is stuck: /health says 200, and no token comes (fake models only)",
    "burst-500": "burst answers 500 to everything but /health and /metrics (fake models only)",
    "burst-never": "no new instance of burst gets ready; requests for one are held",
    "burst-5xx": "burst's front answers 503 to everybody",
    "burst-slow": "burst's model needs 3 s for its first token (fake models only)",
    "vm-down": "the VM's model server is gone",
    "vm-stopped": "the VM's model server stands still (SIGSTOP)",
    "vm-mute": "the VM's engine is stuck: /health says 200, and no token comes (fake models only)",
    "vm-500": "the VM answers 500 to everything but /health and /metrics (fake models only)",
    "vm-full": "the VM's answers take 15 s to begin, so that its slots stay taken (fake models only)",
    "vm-late": "the gateway's instance is replaced, and the VM's packets are dropped until the fault is switched off",
    "gateway-rolled": "a new revision: the gateway's instance is replaced when its requests are answered",
    "gateway-ended": "the gateway's instance is told to end under its requests (SIGTERM, 10 s later SIGKILL)",
    "pilot-down": "the pilot's program ends, and ends again whenever its loop starts it",
    "pilot-wedged": "the pilot's program stands still: it takes connections and answers none",
}
"""Faults by name."""
_SCRIPTED: Final[dict[str, dict[str, Any]]] = {
    "home-slow": {"first_token_delay": 8.0},
    "home-mute": {"mute": True},
    "home-500": {"status": 500},
    "burst-slow": {"first_token_delay": 3.0},
    "burst-mute": {"mute": True},
    "burst-500": {"status": 500},
    "vm-mute": {"mute": True},
    "vm-500": {"status": 500},
    "vm-full": {"first_token_delay": 15.0},
}
"""Faults that are a fake model's own."""
_KILLED: Final = ("home-down", "traefik-down", "burst-down")
_TAILNET: Final = {"home-refused": "refused", "home-blackhole": "blackhole"}


class Breakable(Protocol):
    """The running lab, as much of it as the faults need to break it."""

    name: str
    plan: Plan
    gateway: Service
    burst: Serverless | None
    vm: Machines | None
    pods: Pods
    fake_models: bool
    traefik_address: str

    def model_addresses(self) -> dict[str, list[str]]: ...
    def container_groups(self) -> list[int]: ...
    def servers(self, of: str) -> list[Process]: ...
    async def revive(self, what: str) -> None: ...


class Faults:
    """The faults in force on one lab."""

    def __init__(self, lab: Breakable, folder: Path, *, answer_s: float) -> None:
        self._lab, self._folder = lab, folder
        # A fake answer has 8 tokens: the first takes as long as the seven others.
        self._pace: dict[str, Any] = (
            {"first_token_delay": answer_s / 2, "token_interval": answer_s / 14} if answer_s else {}
        )
        self.on: set[str] = set()
        self._hole: BlackHole | None = None
        self._rolling: asyncio.Task[None] | None = None

    async def switch(self, name: str, on: bool) -> None:
        """Returns when the fault is in force or gone; raises `LabError` on one that this lab can't have."""
        if name not in FAULTS:
            raise LabError(f"no fault named {name!r}; there are: {', '.join(FAULTS)}")
        self._require_possible(name)
        (self.on.add if on else self.on.discard)(name)
        self.write_tailnet()
        if name in _SCRIPTED:
            lane = self._lane(name)
            for address in self._lab.model_addresses().get(lane, []):
                # Nobody listens while it is started again; then it hears of its faults when it is ready.
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    await self.script(lane, address)
        elif name == "home-node-off":
            await (self._lab.pods.switch_off() if on else self._lab.pods.switch_on())
        elif name == "tunnel-down" and on:
            self._signal("containerboot", signal.SIGTERM)
        elif name == "vm-down":
            await (self._vm.stop() if on else self._vm.start())
        elif name == "vm-late":
            await (self._hide_vm() if on else self._show_vm())
        elif name.endswith("-stopped"):
            self._stand_still(self._lane(name), on)
        elif name in _KILLED:
            await self._kill(self._lane(name), on)
        elif name.startswith("burst-"):
            self._burst()
        elif name.startswith("gateway-"):
            self._replace(at_once=name == "gateway-ended", on=on)
        elif name == "pilot-down":
            marker = self._folder / PILOT_BROKEN
            (marker.touch if on else _remover(marker))()
            if on:
                self._signal("pilot", signal.SIGKILL)
        elif name == "pilot-wedged":
            self._signal("pilot", signal.SIGSTOP if on else signal.SIGCONT)

    def _stand_still(self, what: str, on: bool) -> None:
        number = signal.SIGSTOP if on else signal.SIGCONT
        if what == "tunnel":
            self._signal("containerboot", number)
        for process in self._lab.servers(what):
            process.signal(number)

    async def _kill(self, what: str, on: bool) -> None:
        if not on:
            await self._lab.revive(what)
        for process in self._lab.servers(what) if on else ():
            await process.stop(0)

    def _replace(self, *, at_once: bool, on: bool) -> None:
        """Begins it: requests may wait for another fault's end, so nobody may wait for theirs here."""
        if on and (self._rolling is None or self._rolling.done()):
            instances = self._lab.gateway.instances
            self._rolling = asyncio.create_task(instances.end() if at_once else _replaced(instances))

    async def _hide_vm(self) -> None:
        """While no instance runs: the old one's network was up, the new one's isn't yet."""
        vm = self._lab.plan.vm
        assert vm is not None
        async with self._lab.gateway.instances.replaced():
            await self._vm.stop()
            self._hole = self._hole or BlackHole(vm.address, vm.port)

    async def _show_vm(self) -> None:
        self.close()
        await self._vm.start()

    @property
    def _vm(self) -> Machines:
        assert self._lab.vm is not None, "`_require_possible` was asked"
        return self._lab.vm

    def close(self) -> None:
        """Gives back what a fault holds."""
        if self._rolling:
            self._rolling.cancel()
        if self._hole:
            self._hole.close()
        self._hole = None

    def write_tailnet(self) -> None:
        """The tailnet file of `programs.containerboot`: who is where, which key opens it, and the fault in force."""
        plan, tailnet = self._lab.plan, self._lab.plan.tailnet
        home = tailnet.home
        broken = next((fault for name, fault in _TAILNET.items() if name in self.on), None)
        document = {
            "auth_key": "" if "tunnel-down" in self.on else tailnet.auth_key,
            "trusted": None if "tunnel-down" in self.on else tailnet.trusted,
            "hosts": {home: self._lab.traefik_address} if home and (plan.pods or plan.not_run) else {},
            "faults": {home: broken} if home else {},
        }
        path = self._folder / "tailnet.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(document))
        partial.chmod(0o600)
        partial.replace(path)

    async def script(self, lane: str, address: str) -> None:
        """Tells the lane's fake model at `address` its pace, and which faults are on."""
        wanted = dict(self._pace)
        for name in sorted(self.on):
            wanted |= _SCRIPTED.get(name, {}) if self._lane(name) == lane else {}
        url = f"http://{address}/_fault"
        async with aiohttp.ClientSession() as client:
            async with client.delete(url) as answer:
                await answer.read()
            if wanted:
                async with client.post(url, json=wanted) as answer:
                    await answer.read()

    def _lane(self, name: str) -> str:
        return name.partition("-")[0]

    def _require_possible(self, name: str) -> None:
        plan, lane = self._lab.plan, self._lane(name)
        there = {
            **{lane: lane in plan.lanes for lane in LANES},
            "tunnel": "home" in plan.lanes,
            "gateway": True,
            "traefik": bool(plan.pods),
            "pilot": any(container.name == "pilot" for container in plan.gateway.containers),
        }
        if not there[lane]:
            raise LabError(f"stack {self._lab.name} has no {'home' if lane == 'tunnel' else lane} to break")
        if name == "home-node-off" and not self._lab.pods.elsewhere:
            raise LabError(f"stack {self._lab.name} has one machine at home: set `home.nodes` to have more")
        if name in _SCRIPTED and not self._lab.fake_models:
            raise LabError(f"{name} needs scripted models: `python -m lab up --fake-models`")

    def _burst(self) -> None:
        burst = self._lab.burst
        assert burst is not None
        burst.service.refuses = 503 if "burst-5xx" in self.on else None
        (burst.may_start.clear if "burst-never" in self.on else burst.may_start.set)()

    def _signal(self, program: str, number: signal.Signals) -> None:
        """Signals a program inside one of the gateway's containers; the container stays."""
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int((self._folder / f"{program}.pid").read_text())
            # The number may be of an older instance and belong to someone else by now.
            if os.getpgid(pid) in self._lab.container_groups():
                os.kill(pid, number)


async def _replaced(instances: Instances) -> None:
    async with instances.replaced():
        pass


def _remover(path: Path) -> Callable[[], Awaitable[None] | None]:
    return lambda: path.unlink(missing_ok=True)
