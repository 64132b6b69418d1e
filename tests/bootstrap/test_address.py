"""The changing address: every case, and that each case can fail."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bootstrap import address_cases, box

pytestmark = pytest.mark.skipif(bool(box.missing()), reason=box.missing())


@pytest.mark.parametrize("case", address_cases.CASES.values(), ids=address_cases.CASES.keys())
def test_address(case: Callable[[Path, str], str], tmp_path: Path) -> None:
    case(tmp_path / "box", address_cases.text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "text", "instead"),
    [
        (address_cases.nothing_changed, 'if [ "$address" != "$told" ] ||', "if true ||"),
        (address_cases.lease_changes_while_running, "systemctl --no-block try-restart k3s.service", ":"),
        (address_cases.boot_with_another_address, 'rm -f "$CERTIFICATE"\n    touch', "touch"),
        (address_cases.config_is_lost, 'if [ "$address" != "$told" ]; then', "if true; then"),
        (address_cases.dhcp_is_late, "WAIT_S=${WAIT_S:-60}", "WAIT_S=0"),
        (address_cases.no_address, "      no_address\n      exit 1", '      tell "" "$(cat "$TOLD")"\n      exit 1'),
        (address_cases.CASES["VPN (tun) holds the default route"], 'is_tunnel "$nic" && continue', ":"),
        (address_cases.CASES["VPN (tap) holds the default route"], ' || $link == *" tun type "*', ""),
        (address_cases.two_nics, '[ -z "$address" ] || break', ":"),
        (address_cases.wifi_and_cable, "[[ $link != *link/ether*", "[[ $link == *DORMANT*"),
        (address_cases.ipv6_only, "ip -4 -oneline address", "ip -oneline address"),
        (address_cases.second_address, 'echo "$source"', 'head -n 1 <<<"$addresses"'),
        (address_cases.fixed_nic, 'if [ -n "$NIC" ]; then', "if false; then"),
        (address_cases.restart_fails, "try-restart k3s.service", "try-restart k3s.service || true"),
        (address_cases.stored_certificate_is_stale, 'cn-$address\\"', "cn-$address"),
        (address_cases.stored_certificate_is_stale, '    touch "$UNCHECKED"\n', ""),
    ],
)
def test_a_mistake_in_the_address_script_is_seen(
    case: Callable[[Path, str], str], text: str, instead: str, tmp_path: Path
) -> None:
    script = address_cases.text()
    assert script.count(text) == 1
    with pytest.raises(AssertionError):
        case(tmp_path / "box", script.replace(text, instead))
