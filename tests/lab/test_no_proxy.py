"""The VM is dialled past the tunnel. On loopback that can't be seen, for Go sends nothing there through a proxy: here
the VM has an address as in a cloud, in a network namespace.
"""

import asyncio
import json
import subprocess
import sys

import pytest

from lab.measure.scenarios import QUICK_BURST
from lab.measure.testbed import lab_up
from lab.read.cloud_run import SERVICE
from lab.read.stack import ROOT, Stack

ELSEWHERE = "10.99.0.2"
NETWORK = f'ip link set lo up && ip address add {ELSEWHERE}/32 dev lo && exec "$@"'
NAMESPACE = ("unshare", "--map-root-user", "--net", "sh", "-c", NETWORK, "sh")


@pytest.mark.slow
@pytest.mark.usefixtures("declared_addresses")
@pytest.mark.parametrize(
    ("no_proxy", "served"),
    [
        pytest.param(ELSEWHERE, ["vm"], id="declared"),
        pytest.param("10.99.0.3", ["home"], id="another address"),
    ],
)
def test_vm_is_reached_without_the_tunnel(no_proxy: str, served: list[str]) -> None:
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine gives no network namespace: what NO_PROXY does stays unproven")
    words = [*NAMESPACE, sys.executable, "-m", "tests.lab.test_no_proxy", no_proxy]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == served


async def main(no_proxy: str) -> None:
    """Prints who served while home refused; callers whom nobody served then have to wait for home."""

    def plant(stack: Stack) -> None:
        for service in stack.of_type(SERVICE):
            for container in service.inputs["template"]["containers"]:
                for env in container.get("envs", ()):
                    if env["name"] == "NO_PROXY":
                        assert env["value"] == ELSEWHERE
                        env["value"] = no_proxy

    async with lab_up(1.0, ['lanes=["home","vm"]', QUICK_BURST], plant, vm_address=ELSEWHERE) as testbed:
        await testbed.fault("home-refused", True)
        async with testbed.load(2.0) as load:
            await load.run(3.0)
            # Whoever the VM has answers without home; whoever nobody has waits for it.
            await asyncio.wait(load.pending, timeout=10)
            await testbed.fault("home-refused", False)
    print(json.dumps(sorted({sample.lane for sample in load.samples})))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
