"""Mistakes in the declaration, each planted once: its check must see it in a real tailnet."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.tailnet import joining, reach, troubles
from tests.tailnet.gateway import Gateway
from tests.tailnet.world import KEY, Plant, World

Check = Callable[[World, Plant], str]


def vm_through_the_tunnel(gateway: Gateway) -> None:
    gateway.environment("caddy", NO_PROXY="10.98.3.99")


def larger_packets(gateway: Gateway) -> None:
    gateway.environment("tailscale", TS_DEBUG_MTU="1400")


def key_as_it_came(gateway: Gateway) -> None:
    gateway.environment("tailscale", TS_AUTHKEY=f"{KEY}\n")


def open_to_the_tailnet(gateway: Gateway) -> None:
    extra = gateway.containers["tailscale"].env["TS_EXTRA_ARGS"]
    gateway.environment("tailscale", TS_EXTRA_ARGS=extra.replace("--shields-up", ""))


def no_loop(gateway: Gateway) -> None:
    """The image's own entrypoint, as a container without a command has it."""
    gateway.change("tailscale", command=("containerboot",), args=())


def state_on_disk(gateway: Gateway) -> None:
    """A folder for the state makes the machine a lasting one."""
    gateway.environment("tailscale", TS_STATE_DIR=str(gateway.folder))


def daemon_can_t_be_ended(gateway: Gateway) -> None:
    gateway.environment("tailscale", TS_TAILSCALED_EXTRA_ARGS="")


def no_delay(gateway: Gateway) -> None:
    gateway.caddy_text('"shutdown_delay":"6s","grace_period":"2s"', '"grace_period":"8s"')


def nobody_waits(gateway: Gateway) -> None:
    gateway.caddy_text('"try_duration":"55s"', '"try_duration":"0s"')


MISTAKES: list[tuple[Plant, Check, str]] = [
    (vm_through_the_tunnel, reach.vm_is_dialled_straight, "dialled by .*tailscaled"),
    (larger_packets, reach.packets_of_the_declared_size, "have up to 13"),
    (open_to_the_tailnet, reach.nobody_reaches_the_gateway, "ports .*1055, 8080"),
    (key_as_it_came, joining.key_with_a_newline, "the gateway has joined"),
    (no_loop, joining.wrong_key, "the container ended"),
    (state_on_disk, joining.sigterm, "^0 requests to log out"),
    (no_delay, joining.sigterm_without_control_server, r"the request at home: Answer\(status=(0|503)"),
    (nobody_waits, joining.cold_start_without_another_lane, r"\d gateway;"),
    (daemon_can_t_be_ended, troubles.home_black_holed, "is rescued"),
]
"""The mistake, the check that sees it, and what the check says."""


@pytest.mark.parametrize(("plant", "check", "seen"), MISTAKES, ids=[plant.__name__ for plant, *_ in MISTAKES])
def test_a_mistake_in_the_tailnet_is_seen(world: World, plant: Plant, check: Check, seen: str) -> None:
    with pytest.raises(AssertionError, match=seen):
        check(world, plant)


def opens_ssh(policy: dict[str, Any]) -> None:
    policy["acls"][0]["dst"].append("tag:home:22")


def opens_everything_to_ci(policy: dict[str, Any]) -> None:
    policy["acls"].append({"action": "accept", "src": ["tag:ci"], "dst": ["tag:home:*"]})


@pytest.mark.parametrize("planted", [opens_ssh, opens_everything_to_ci])
def test_a_planted_rule_is_seen(world: World, planted: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(AssertionError, match="tag:home:22: deny"):
        reach.only_what_the_policy_allows(world, planted=planted)
