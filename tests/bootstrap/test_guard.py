"""The guard of K3s' ports: every case, and that each case can fail."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bootstrap import box, guard_cases, nft

WHY_NOT = box.missing() or ("" if nft.program() else "needs nft: apt install nftables")
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.mark.parametrize("case", guard_cases.CASES.values(), ids=guard_cases.CASES.keys())
def test_guard(case: Callable[[Path, str], str], tmp_path: Path) -> None:
    case(tmp_path, guard_cases.text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "text", "instead"),
    [
        # Before DNAT a packet for Traefik is one for port 80 of this machine, and which pod it is for isn't known.
        (guard_cases.lan_is_out, "priority dstnat + 10", "priority mangle"),
        (guard_cases.lan_is_out, "fib daddr type local udp dport 8472 counter drop", ""),
        (guard_cases.lan_is_out, "ip daddr {", "ip saddr {"),
        (guard_cases.lan_is_out, ", 10250", ""),
        (guard_cases.lan_is_out, "fib daddr type local tcp dport", "meta nfproto ipv4 tcp dport"),
        (guard_cases.wifi_is_out, 'iifname { "lo",', 'iifname { "lo", "wl*",'),
        (guard_cases.owners_work_goes_on, "fib daddr type local tcp dport", "tcp dport"),
        (guard_cases.owners_work_goes_on, "{ 6443, 10250 }", "{ 6443, 10250, 30000-32767 }"),
        (guard_cases.own_are_in, '"tailscale0", ', ""),
        (guard_cases.own_are_in, '"cni0", ', ""),
        (guard_cases.own_are_in, '"lo", ', ""),
        (guard_cases.pods_reach_out, "ct direction reply accept", ""),
        (guard_cases.all_rules_flushed, "ct direction reply", "ct state established"),
        (guard_cases.loaded_twice, "delete table inet pilotlight_guard", ""),
    ],
)
def test_a_mistake_in_the_guard_is_seen(
    case: Callable[[Path, str], str], text: str, instead: str, tmp_path: Path
) -> None:
    guard = guard_cases.text()
    assert guard.count(text) == 1
    with pytest.raises(AssertionError):
        case(tmp_path, guard.replace(text, instead))
