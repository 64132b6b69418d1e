"""The running pilot and the VM: spared while another lane is sooner, by what Caddy, home and the VM itself show."""

import asyncio
from typing import Any

import pytest

from tests.gateway.pilot.running import HOME_SECONDS, Running, piloted
from tests.gateway.pilot.world import DIALS, Asked, Reply, Toy, World
from tests.kit import until

NO_BURST: dict[str, Any] = {"BURST_URL": "", "BURST_DIAL": "", "BURST_SECONDS": "", "PILOT_WAKE": "never"}
WITH_HOME: dict[str, Any] = {**NO_BURST, "HOME_SECONDS": HOME_SECONDS, "HOME_CAPACITY": 2}


def spared(pilot_: Running) -> list[str]:
    """Sizes that the VM gets nothing of."""
    return [size for size in ("short", "long", "picture") if pilot_.get(f"/lane/vm/{size}")[0] != 200]


def refused(pilot_: Running) -> list[str]:
    return [size for size in ("short", "long", "picture") if pilot_.get(f"/lane/refuse/{size}")[0] == 200]


@pytest.mark.slow
def test_the_vm_is_spared_while_home_is_sooner(world: World) -> None:
    with piloted(world, **WITH_HOME) as pilot_:
        until(lambda: spared(pilot_) == ["short", "long", "picture"], "home is up and idle")
        world.in_flight["home"], world.waiting = 2, 4
        world.looked(6)
        assert spared(pilot_) == ["short", "long", "picture"], "four turns of a second each"
        world.waiting = 8
        until(lambda: spared(pilot_) == ["long", "picture"], "eight turns are more than the VM's 6 s")
        world.waiting, world.fails, world.fails_at = 0, 1, "home"
        until(lambda: spared(pilot_) == ["picture"], "Caddy leaves home alone")
        world.fails = 0
        until(lambda: spared(pilot_) == ["short", "long", "picture"])
        world.checked = {DIALS["home"]: 503}
        until(lambda: spared(pilot_) == ["picture"], "home is down")
        assert refused(pilot_) == [], "its tunnel may be starting"
        until(lambda: refused(pilot_) == ["picture"], "home is away for long")
        world.checked = {}
        until(lambda: refused(pilot_) == [])


def test_who_was_refused_is_demand(world: World) -> None:
    with piloted(world) as pilot_:
        until((world.folder / "id-token").exists)
        world.looked()
        assert pilot_.state == "cold"
        world.done |= {"api": 6, "refusal": 1}
        pilot_.reaches("warm")


def test_the_vm_is_corrected_by_its_own_counters(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked while requests run there and then alone; without an answer nothing changes."""
    tokens = seconds = 0.0
    silent = False

    async def metrics(asked: Asked) -> Reply:
        nonlocal tokens, seconds
        assert (asked.method, asked.path) == ("GET", "/metrics")
        if silent:
            return None
        # Twice as slow as declared.
        tokens, seconds = tokens + 100, seconds + 20
        return 200, f"llamacpp:prompt_tokens_total {tokens}\nllamacpp:prompt_seconds_total {seconds}\n"

    vm = Toy(metrics)
    world.toys.append(vm)
    world.run(vm.start())
    monkeypatch.setitem(DIALS, "vm", f"127.0.0.1:{vm.port}")

    def expected(pilot_: Running) -> float:
        return pilot_.status()["lanes"]["vm"]["expected_first_token_s"]["short"]

    with piloted(world, VM_PROMPT="10 10", VM_STUCK_S=60, PILOT_WAKE="never", BURST_SECONDS="") as pilot_:
        world.looked(10)
        assert (vm.asked, expected(pilot_)) == ([], 6)
        world.in_flight["vm"] = 1
        until(lambda: expected(pilot_) == round(6 * 2 * 1.56, 2))
        silent = True
        until(lambda: vm.running == 1)
        assert expected(pilot_) == round(6 * 2 * 1.56, 2)
        assert "pilotlight_vm_correction 2\n" in pilot_.get("/metrics")[1]
        world.in_flight["vm"] = 0
        world.looked()
        asked = len(vm.asked)
        world.run(asyncio.sleep(2.5))
        assert len(vm.asked) == asked, "an idle VM is left alone"
        assert expected(pilot_) == 12
