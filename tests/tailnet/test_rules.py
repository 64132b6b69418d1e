"""An untouched tailnet before and after this stack, judged by a policy engine: nobody loses what worked.

The engine is headscale's, held by its authors against answers of Tailscale's own control plane. It knows neither
machines shared with other tailnets nor Funnel: that those stay is read, not seen.
"""

import itertools
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from components import ports
from components.settings import Settings
from components.tailnet.policy import policy
from tests.tailnet import binaries

HERE: Final = Path(__file__).parent / "rules"
BEFORE: Final = {"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]}
"""Who reaches what by Tailscale's default."""
OWNER, ANOTHER = "ann@example.com", "bob@example.com"
MACHINES: Final[dict[str, dict[str, Any]]] = {
    "laptop": {"Login": OWNER},
    "bob's laptop": {"Login": ANOTHER},
    "router": {"Login": OWNER, "Routes": ["192.168.1.0/24", "10.33.0.0/16", "198.51.100.0/24", "fd12:3456:789a::/64"]},
    "site": {"Login": ANOTHER, "Routes": ["172.20.0.0/16", "fd7a:115c:a1e0:b1a:0:7::/96"]},
    "exit node": {"Login": OWNER, "Routes": ["0.0.0.0/0", "::/0"]},
    "gateway": {"Tags": ["tag:gateway"]},
    "home": {"Tags": ["tag:home"]},
    "home-2": {"Tags": ["tag:home"]},
    "ci": {"Tags": ["tag:ci"]},
}
OURS: Final = ("gateway", "home", "home-2", "ci")
ADDRESSES: Final = {
    name: [f"100.{90 + i}.{i}.{7 + i}", f"fd7a:115c:a1e0::{90 + i}:7"] for i, name in enumerate(MACHINES)
}
HOMES: Final = ("home", "home-2")
BEHIND: Final = {
    "a printer": ("router", "192.168.1.20"),
    "a server of the company": ("router", "10.33.4.5"),
    "a public network": ("router", "198.51.100.9"),
    "a private IPv6 network": ("router", "fd12:3456:789a::1"),
    "another site": ("site", "172.20.1.1"),
    "another site over 4via6": ("site", "fd7a:115c:a1e0:b1a:0:7:c0a8:114"),
    "the internet": ("exit node", "8.8.8.8"),
    "the internet over IPv6": ("exit node", "2606:4700::1111"),
}
PRIVATE: Final = [name for name in BEHIND if "public" not in name and "internet" not in name]
PORTS: Final = (22, 80, 443, 6443, ports.GATEWAY[0])
TCP, UDP = 6, 17

Ask = tuple[str, str, int]


def sources() -> dict[str, str]:
    """Who sends: machines by both addresses, and networks behind a router that doesn't hide them."""
    machines = {f"{name} ({ip})": ip for name in MACHINES for ip in ADDRESSES[name]}
    return machines | {name: BEHIND[name][1] for name in PRIVATE}


def targets() -> dict[str, tuple[str, str]]:
    """Who is asked: the machine whose filter decides, and the address behind it."""
    return {f"{name} ({ip})": (name, ip) for name in MACHINES for ip in ADDRESSES[name]} | BEHIND


ASKS: Final = [
    (source, target, port)
    for source, target, port in itertools.product(sources(), targets(), PORTS)
    if sources()[source] != targets()[target][1]
]


def opened(rules: dict[str, Any], asks: Sequence[Ask] = ASKS, protocol: int = TCP) -> set[Ask]:
    """The asks that the engine lets through."""
    known = json.loads(json.dumps({**rules, "nodeAttrs": []}).replace('"autogroup:shared", ', ""))
    machines = [
        {"Login": "", "Tags": [], "Routes": [], **machine, "IPs": ADDRESSES[name]} for name, machine in MACHINES.items()
    ]
    places = list(MACHINES)
    said = [
        {"From": sources()[source], "At": places.index(targets()[target][0]), "To": targets()[target][1], "Port": port,
         "Protocol": protocol}
        for source, target, port in asks
    ]  # fmt: skip
    done = subprocess.run(
        ["go", "run", "-mod=readonly", "."],
        cwd=HERE,
        env={**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"},
        input=json.dumps({"Policy": known, "Machines": machines, "Asks": said}),
        capture_output=True,
        text=True,
        timeout=binaries.BUILD_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {ask for ask, lets in zip(asks, json.loads(done.stdout), strict=True) if lets}


def after(nodes: int = 1) -> dict[str, Any]:
    return policy(Settings.model_validate({
        "stack": "dev", "project": "some-project", "region": "us-east1", "tailnet": {"owners": [OWNER]},
        "home": {"nodes": nodes},
    }))  # fmt: skip


@pytest.fixture(scope="module")
def before() -> set[Ask]:
    if missing := binaries.unavailable():
        pytest.skip(missing)
    # The default has no tags, and so no machine with one; the engine must know their owners to judge what follows.
    return opened(BEFORE | {"tagOwners": after()["tagOwners"]})


def ours(name: str) -> bool:
    return name.partition(" (")[0] in OURS


def lost(before: set[Ask], now: set[Ask]) -> set[Ask]:
    """What the owner's things could do and can't any more; what is this stack's was not there before."""
    return {ask for ask in before - now if not ours(ask[0]) and not ours(ask[1])}


def test_an_untouched_tailnet_loses_nothing(before: set[Ask]) -> None:
    now = opened(after())
    theirs = {ask for ask in before if not ours(ask[0]) and not ours(ask[1])}
    assert {target for _, target, _ in theirs} >= set(BEHIND), "what nobody reaches before proves nothing"
    assert not lost(before, now)
    between = {(s.partition(" (")[0], t.partition(" (")[0], port) for s, t, port in now if ours(s) or ours(t)}
    people = {name for name, machine in MACHINES.items() if machine.get("Login") == OWNER}
    assert between == {
        *(("gateway", home, 80) for home in HOMES),
        *(("ci", home, 6443) for home in HOMES),
        *((name, home, port) for name in people for port in (22, 80, 6443) for home in HOMES),
    }


def between_homes(rules: dict[str, Any]) -> set[tuple[str, str, int, int]]:
    """What machines at home reach of each other, of all that K3s, its pods' network and people listen on."""
    machines = [f"{name} ({ip})" for name in HOMES for ip in ADDRESSES[name]]
    asked = (*PORTS, 8472, 10250, 10248, 30080)
    asks = [ask for ask in itertools.product(machines, machines, asked) if ask[0][:6] != ask[1][:6]]
    return {
        (source.partition(" (")[0], target.partition(" (")[0], port, protocol)
        for protocol in (TCP, UDP)
        for source, target, port in opened(rules, asks, protocol)
    }


def test_machines_at_home_reach_each_other_on_k3s_ports_alone() -> None:
    if missing := binaries.unavailable():
        pytest.skip(missing)
    ways = (("home", "home-2"), ("home-2", "home"))
    wanted = {(*way, *at) for way in ways for at in ((6443, TCP), (10250, TCP), (8472, UDP))}
    assert between_homes(after(2)) == wanted
    assert between_homes(after(1)) == set()
    careless = after(2)
    for rule in careless["acls"]:
        rule.pop("proto", None)
    assert between_homes(careless) > wanted, "a rule without its protocol is seen"


@pytest.mark.parametrize(
    ("side", "without", "told"),
    [
        ("dst", {"autogroup:member"}, "bob's laptop"),
        ("dst", {"128.0.0.0/1"}, "a printer"),
        ("dst", {"fd7a:115c:a1e0:b1a::/64"}, "another site over 4via6"),
        ("dst", {"fd00::/10"}, "a private IPv6 network"),
        ("dst", {"autogroup:internet", "2000::/3"}, "the internet over IPv6"),
        ("src", {"autogroup:member"}, "laptop"),
        ("src", {"172.16.0.0/12"}, "another site"),
    ],
)
def test_a_policy_that_takes_something_is_seen(before: set[Ask], side: str, without: set[str], told: str) -> None:
    rules = after()
    [rule] = rules["grants"]
    rule[side] = [entry for entry in rule[side] if entry not in without]
    missed = lost(before, opened(rules))
    assert any((target if side == "dst" else source).startswith(told) for source, target, _ in missed)
