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
        # A rule on what comes in sees packets after DNAT: 80 is the pod's by then, and is not coming in at all.
        (guard_cases.lan_is_out, "hook prerouting priority mangle", "hook input priority filter"),
        (guard_cases.lan_is_out, ", 30000-32767", ""),
        (guard_cases.lan_is_out, "udp dport 8472 counter drop", ""),
        (guard_cases.lan_is_out, "ip daddr {", "ip saddr {"),
        (guard_cases.lan_is_out, "meta l4proto {", "meta nfproto ipv4 meta l4proto {"),
        (guard_cases.own_are_in, '"tailscale0", ', ""),
        (guard_cases.own_are_in, '"cni0", ', ""),
        (guard_cases.own_are_in, '"lo", ', ""),
        (guard_cases.pods_reach_out, "ct state established,related accept", ""),
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
