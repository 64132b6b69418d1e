"""The VM group in the lab: a balancer spreads connections over healthy machines, and an autoscaler adds some."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from lab.read.vm import Balancing, Scaling, Vm
from lab.run import vm as lane
from lab.run.balancer import Balancer
from lab.run.ports import free_port
from lab.run.processes import Process
from lab.run.vm import Autoscaler, Machines
from tests.kit import eventually, run

HOST = "127.0.0.1"


class Machine:
    """A server that says which machine it is. `well`: what its check finds; `busy`: share of its time at work."""

    def __init__(self, number: int) -> None:
        self.number, self.well, self.busy = number, True, 0.0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.answering = 0
        self.running = False
        self._busy_s, self._since = 0.0, 0.0
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> None:
        app = web.Application()
        app.add_routes([
            web.get("/health", self._health), web.get("/_busy", self._tell), web.post("/", self._answer),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, port).start()
        self.running, self._since = True, asyncio.get_running_loop().time()

    async def stop(self, grace_s: float = 0.0) -> None:
        del grace_s
        self.running = False
        if self._runner:
            await self._runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.well else 503)

    async def _tell(self, _: web.Request) -> web.Response:
        now = asyncio.get_running_loop().time()
        self._busy_s, self._since = self._busy_s + self.busy * (now - self._since), now
        return web.json_response({"busy_s": self._busy_s, "at_s": now})

    async def _answer(self, request: web.Request) -> web.Response:
        self.answering += 1
        try:
            body = await request.read()
            await self.may_answer.wait()
            return web.Response(text=f"{self.number} {len(body)}")
        finally:
            self.answering -= 1


async def ask(port: int, body: bytes = b"") -> tuple[int, int]:
    """Which machine answered on a connection of its own, and how much it got."""
    async with aiohttp.ClientSession() as client, client.post(f"http://{HOST}:{port}/", data=body) as answer:
        number, length = (await answer.text()).split()
        return int(number), int(length)


async def answered(port: int, count: int = 40) -> set[int]:
    return {(await ask(port))[0] for _ in range(count)}


# --- the balancer ----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def balanced(*machines: Machine) -> AsyncGenerator[tuple[Balancer, int]]:
    port = free_port()
    balancer = Balancer(HOST, port, check_s=0.05, failures=2)
    try:
        for machine in machines:
            there = free_port()
            await machine.start(there)
            balancer.add(HOST, there)
        await balancer.start()
        yield balancer, port
    finally:
        await balancer.stop()
        for machine in machines:
            await machine.stop()


def test_connections_are_spread_and_requests_pass_whole() -> None:
    async def scenario() -> None:
        async with balanced(Machine(1), Machine(2), Machine(3)) as (_, port):
            assert await answered(port) == {1, 2, 3}
            assert (await ask(port, b"x" * 900_000))[1] == 900_000
            async with aiohttp.ClientSession() as client:
                # One connection stays with one machine.
                texts: set[str] = set()
                for _ in range(10):
                    async with client.post(f"http://{HOST}:{port}/") as answer:
                        texts.add(await answer.text())
                assert len(texts) == 1

    run(scenario())


def test_the_choice_is_a_hash_of_which_little_changes_with_a_machine() -> None:
    async def scenario() -> None:
        balancer = Balancer("10.0.0.9", 9931, check_s=600, failures=2)
        first = [balancer.add(HOST, number) for number in (1, 2)]
        peers = [("10.0.0.1", port) for port in range(30_000, 30_300)]
        before = [balancer.choose(peer) for peer in peers]
        assert [balancer.choose(peer) for peer in peers] == before
        assert 100 < before.count(first[0]) < 200
        third = balancer.add(HOST, 3)
        after = [balancer.choose(peer) for peer in peers]
        assert 60 < after.count(third) < 140
        assert all(new in (old, third) for old, new in zip(before, after, strict=True))
        await balancer.stop()
        assert balancer.choose(peers[0]) is None

    run(scenario())


def test_a_machine_that_fails_its_checks_gets_no_connection_until_one_succeeds() -> None:
    async def scenario() -> None:
        sick, well = Machine(1), Machine(2)
        async with balanced(sick, well) as (balancer, port):
            sick.well = False
            await eventually(lambda: balancer.healthy == 1)
            assert await answered(port) == {2}
            sick.well = True
            await eventually(lambda: balancer.healthy == 2)
            assert await answered(port) == {1, 2}
            sick.well = well.well = False
            await eventually(lambda: balancer.healthy == 0)
            assert await answered(port) == {1, 2}, "the last resort is all of them"

    run(scenario())


def test_a_machine_that_is_gone_resets_until_the_checks_have_found_it_out() -> None:
    async def scenario() -> None:
        gone = Machine(1)
        async with balanced(gone) as (_, port):
            assert await answered(port, 1) == {1}
            await gone.stop()
            with pytest.raises(aiohttp.ClientError):
                await ask(port)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)

    run(scenario())


def test_who_leaves_is_gone_for_the_machine_and_what_breaks_there_breaks_here() -> None:
    async def scenario() -> None:
        machine = Machine(1)
        machine.may_answer.clear()
        async with balanced(machine) as (_, port):
            leaving = asyncio.create_task(ask(port))
            await eventually(lambda: machine.answering == 1)
            leaving.cancel()
            await eventually(lambda: machine.answering == 0)
            broken = asyncio.create_task(ask(port))
            await eventually(lambda: machine.answering == 1)
            await machine.stop()
            with pytest.raises(aiohttp.ClientError):
                await broken

    run(scenario())


# --- the autoscaler --------------------------------------------------------------------------------------------------


def test_autoscaler_s_size() -> None:
    scaler = Autoscaler(Scaling(most=4, busy=0.3, start_s=600), 1, 600.0)
    assert scaler.size(0, [0.1]) == 1
    assert scaler.size(60, [0.3]) == 1, "just the target"
    assert scaler.size(120, [0.31]) == 2
    assert scaler.size(180, [0.5, 0.5]) == 4
    assert scaler.size(240, [0.5, 0.5, 0.5, 0.5]) == 4, "7 are wanted, 4 allowed"
    assert scaler.size(800, [0.0, 0.0, 0.0, 0.0]) == 4, "busy within the last ten minutes"
    assert scaler.size(900, [0.2, 0.1, 0.0, 0.0]) == 1
    assert Autoscaler(Scaling(4, 0.3, 600), 2, 600.0).size(0, [0.0, 0.0]) == 2, "never fewer than declared"


def group(port: int, *, machines: int, scaling: Scaling | None = None, working: float = 1.0) -> Vm:
    balancing = Balancing(check_s=0.05, failures=2, draining_s=30.0)
    nothing = cast(Any, None)
    return Vm(nothing, HOST, port, nothing, working, machines=machines, balancing=balancing, scaling=scaling)


@contextlib.asynccontextmanager
async def lane_of(vm: Vm) -> AsyncGenerator[tuple[Machines, dict[int, Machine]]]:
    """A group of machines, by their numbers; a minute of Google's is 0.1 s."""
    started: dict[int, Machine] = {}

    async def launch(number: int, host: str, port: int) -> Process:
        assert host == HOST
        started[number] = Machine(number)
        await started[number].start(port)
        return cast(Process, started[number])

    machines = Machines(vm, launch, time_scale=600.0)
    await machines.start()
    try:
        yield machines, started
    finally:
        await machines.stop()
        assert not any(machine.running for machine in started.values())


def test_a_group_runs_its_machines_behind_one_address() -> None:
    async def scenario() -> None:
        port = free_port()
        async with lane_of(group(port, machines=2)) as (machines, started):
            assert machines.status() == {"machines": 2, "starting": 0, "most": 2}
            assert len(machines.addresses) == 2
            assert await answered(port) == {1, 2}
            await machines.start()
            assert len(started) == 2, "they run already"
            await machines.stop()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(HOST, port)
            assert machines.status()["machines"] == 0
            await machines.start()
            assert await answered(port) == {1, 2}

    run(scenario())


def test_a_machine_alone_is_at_the_address_itself() -> None:
    async def scenario() -> None:
        port = free_port()
        async with lane_of(group(port, machines=1)) as (machines, started):
            assert machines.addresses == [f"{HOST}:{port}"]
            assert machines.status() == {"machines": 1, "starting": 0, "most": 1}
            assert await answered(port) == {1}
            await started[1].stop()
            assert machines.status()["machines"] == 0
            await machines.start()
            assert await answered(port) == {1}

    run(scenario())


def test_busy_processors_add_machines_after_their_initialisation_and_idle_ones_lose_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane, "STABLE_S", 400.0)

    async def scenario() -> None:
        port, loop = free_port(), asyncio.get_running_loop()
        scaling = Scaling(most=3, busy=0.3, start_s=300.0)
        async with lane_of(group(port, machines=1, scaling=scaling, working=0.5)) as (machines, started):
            started[1].busy = 0.5
            await asyncio.sleep(0.5)
            assert machines.status() == {"machines": 1, "starting": 0, "most": 3}, "half of half is under 0.3"
            began = loop.time()
            started[1].busy = 1.0
            await eventually(lambda: machines.status()["starting"] == 1)
            await eventually(lambda: machines.status()["machines"] == 2)
            assert loop.time() - began > 0.5, "300 s of initialisation"
            assert await answered(port) == {1, 2}
            started[1].busy = started[2].busy = 1.0
            await eventually(lambda: machines.status() == {"machines": 3, "starting": 0, "most": 3})
            started[3].may_answer.clear()
            asked = [asyncio.create_task(ask(port)) for _ in range(40)]
            await eventually(lambda: sum(task.done() for task in asked) + started[3].answering == 40)
            assert started[3].answering
            for machine in started.values():
                machine.busy = 0.0
            await eventually(lambda: machines.status()["machines"] == 1)
            assert await answered(port) == {1}
            assert started[3].running, "it finishes what it began"
            started[3].may_answer.set()
            assert {number for number, _ in await asyncio.gather(*asked)} == {1, 2, 3}
            await eventually(lambda: not started[3].running and not started[2].running)

    run(scenario())
