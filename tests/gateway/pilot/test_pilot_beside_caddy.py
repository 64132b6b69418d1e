"""The running pilot beside a real Caddy, whose admin API is not a toy's."""

import asyncio
import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from lab.run.ports import free_port
from tests.gateway.pilot.running import listens, piloted
from tests.gateway.pilot.world import Asked, Reply, Toy, World
from tests.kit import WAIT_S, until

CADDY = Path(sys.executable).parent / "caddy"


def test_a_real_caddy_shows_who_is_served_and_who_waits(world: World) -> None:
    """Held requests in a real Caddy with its admin API on a relative unix socket: counted per lane, and waiting."""
    release = asyncio.Event()

    async def lane(_: Asked) -> Reply:
        await release.wait()
        return 200, "{}"

    vm = Toy(lane)
    world.toys.append(vm)
    world.run(vm.start())
    port, dial = free_port(), f"127.0.0.1:{vm.port}"
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": dial, "max_requests": 2}],
        "load_balancing": {"try_duration": f"{WAIT_S:g}s", "try_interval": "10ms"},
    }
    checks = {"handler": "reverse_proxy", "upstreams": [{"dial": f"tcp/{dial}"}]}
    servers = {
        "api": {"listen": [f"127.0.0.1:{port}"], "routes": [{"handle": [proxy]}]},
        "checks": {"listen": [f"127.0.0.1:{free_port()}"], "routes": [{"handle": [checks]}]},
    }
    config = {
        "admin": {"listen": "unix/admin.sock", "config": {"persist": False}},
        "apps": {"http": {"metrics": {}, "servers": servers}},
    }
    (world.folder / "caddy.json").write_text(json.dumps(config))
    env = {"PATH": os.environ["PATH"], "HOME": str(world.folder)}
    with (world.folder / "caddy.log").open("wb") as output:
        caddy = subprocess.Popen(
            [CADDY, "run", "--config", "caddy.json"], cwd=world.folder, env=env, stderr=output, stdout=output
        )

    def call() -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)) as connection:
            connection.request("POST", "/v1/chat/completions", b"{}")
            assert connection.getresponse().status == 200

    callers = [threading.Thread(target=call) for _ in range(3)]
    try:
        until((world.folder / "admin.sock").exists)
        until(lambda: listens(port))
        with piloted(world, admin=False, VM_DIAL=dial, VM_CAPACITY=9) as pilot_:
            until((world.folder / "id-token").exists)
            callers[0].start()
            until(lambda: pilot_.status()["lanes"]["vm"]["in_flight"] == 1)
            # Four looks at Caddy and more; each sees the same.
            for _ in range(12):
                assert (pilot_.state, pilot_.status()["waiting"]) == ("cold", 0)
                time.sleep(0.1)
            # One after the other: Caddy checks and counts in two steps, and of two at once both may get the last slot.
            callers[1].start()
            until(lambda: pilot_.status()["lanes"]["vm"]["in_flight"] == 2)
            callers[2].start()
            pilot_.reaches("warm")
            until(lambda: (pilot_.status()["lanes"]["vm"]["in_flight"], pilot_.status()["waiting"]) == (2, 1))
            world.loop.call_soon_threadsafe(release.set)
            for caller in callers:
                caller.join(WAIT_S)
            until(lambda: pilot_.status()["lanes"]["vm"]["in_flight"] == 0)
            until(lambda: pilot_.status()["waiting"] == 0)
    finally:
        world.loop.call_soon_threadsafe(release.set)
        caddy.terminate()
        caddy.wait(WAIT_S)
