"""`/v1/responses`: on every lane alike, or not at all. The rendered configuration in a real Caddy between toys."""

from collections.abc import Iterator
from typing import Any

import pytest

from components import paths
from components.gateway.caddy import config as caddy_config
from components.settings.declared_services import answered
from tests.gateway import routing
from tests.gateway.routing import environment, patient
from tests.gateway.world import BURST_ADDRESS, VM_ADDRESS, World, world
from tests.kit import happens

OWN_IMAGE = {"services": [{"name": "own", "image": "ghcr.io/a/b:1.2.3", "paths": ["/v1"], "gpu_memory": "9GiB"}]}


@pytest.fixture(scope="module")
def toys() -> Iterator[World]:
    with world() as found:
        yield found


@pytest.mark.parametrize("lanes", [["home"], ["home", "burst"]])
def test_with_vllm_behind_every_lane_they_are_served(toys: World, lanes: list[str]) -> None:
    chosen = routing.settings(lanes=lanes)
    url = f"http://{BURST_ADDRESS}:{toys.burst.port}"
    with toys.caddy(patient(caddy_config.render(chosen, vm_address="", burst_url=url)), environment(chosen)):
        for path in (paths.RESPONSES, f"{paths.RESPONSES}/?x"):
            assert toys.call(path=path).lane == "home"
        assert [one.path for one in toys.home.received] == [paths.RESPONSES] * 2
        for path in ("resp_1", "resp_1/cancel", "input_tokens"):
            answer = toys.call(path=f"{paths.RESPONSES}/{path}")
            assert (answer.status, answer.error["code"], toys.home.begun) == (404, "not_found", 2)
        if "burst" in lanes:
            toys.pilot.says["/lane/burst"] = 200
            toys.home.down()
            assert happens(lambda: toys.call(path=paths.RESPONSES).lane == "burst")
            assert toys.burst.received[-1].path == paths.RESPONSES


@pytest.mark.parametrize("values", [{}, {"lanes": ["vm"]}, {"lanes": ["home"], **OWN_IMAGE}])
def test_beside_another_engine_they_are_not(toys: World, values: dict[str, Any]) -> None:
    chosen = routing.settings(**values)
    first = str(values.get("lanes", ["home"])[0])
    with toys.caddy(patient(caddy_config.render(chosen, vm_address=VM_ADDRESS)), environment(chosen), first=first):
        answer = toys.call(path=paths.RESPONSES)
        assert (answer.status, answer.error["code"], toys.home.begun, toys.vm.begun) == (404, "not_found", 0, 0)
        assert f"POST {paths.CHAT}, with the whole conversation" in answer.error["message"]


@pytest.mark.parametrize("lanes", [["home", "vm"], ["burst"], ["home", "burst"], ["home", "burst", "vm"]])
def test_the_vm_alone_decides(lanes: list[str]) -> None:
    assert (paths.RESPONSES in answered(routing.settings(lanes=lanes))) == ("vm" not in lanes)
