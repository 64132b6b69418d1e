"""The changing address: real addresses and real files change, a stand-in for K3s counts its restarts.

A case takes a folder for its box and the script, raises AssertionError, and returns what was seen, for the table.
"""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from components.home import bootstrap
from tests.bootstrap.box import Box

CONFIG: Final = "/etc/rancher/k3s/config.yaml.d/50-pilotlight-node-ip.yaml"
CERTIFICATE: Final = "/var/lib/rancher/k3s/server/tls/dynamic-cert.json"
FIRST: Final = "192.168.1.5"


def text() -> str:
    """The script as it is shipped."""
    return (Path(bootstrap.__file__).parent / "files" / "node-address.sh").read_text()


class Home(Box):
    """A box in which K3s runs with the address 192.168.1.5, a certificate, and no change so far."""

    def __init__(self, folder: Path, script: str) -> None:
        super().__init__(folder)
        self._script = script
        try:
            self.sh(f"mkdir -p {Path(CERTIFICATE).parent} /etc/systemd/system; touch /etc/systemd/system/k3s.service")
            assert self.follow().returncode == 0
            self.state("active-k3s.service").touch()
            self.k3s_answers(FIRST)
            assert self.follow().returncode == 0
            self.certificate()
            assert self.restarts() == 0
        except BaseException:
            self.close()
            raise

    def k3s_answers(self, *names: str) -> None:
        """K3s' API is up, and its stored certificate names these addresses."""
        self.state("api-up").touch()
        annotations = {f"listener.cattle.io/cn-{name}": name for name in names}
        self.state("secret").write_text(json.dumps(annotations, separators=(",", ":")))

    def certificate(self) -> None:
        """K3s has written one."""
        self.path(CERTIFICATE).write_text("{}")

    def follow(self, nic: str = "", wait_s: int = 1) -> subprocess.CompletedProcess[str]:
        return self.run(self._script, NIC=nic, WAIT_S=str(wait_s))

    def told(self, address: str, *, restarts: int, kept: bool) -> str:
        """K3s' config has this address, so often it was restarted, its certificate was kept or removed."""
        assert self.path(CONFIG).read_text() == f'node-ip: "{address}"\n'
        assert self.restarts() == restarts
        assert self.path(CERTIFICATE).exists() == kept
        return (
            f"{address}, {restarts} restart{'' if restarts == 1 else 's'}, certificate {'kept' if kept else 'removed'}"
        )

    def refused(self, done: subprocess.CompletedProcess[str], why: str) -> str:
        """It ended with this reason, and all is as it was."""
        assert done.returncode == 1, done.stderr
        assert why in done.stderr, done.stderr
        assert f"K3s keeps the address it was told before ({FIRST})" in done.stderr
        return f"refused: {why}; {self.told(FIRST, restarts=0, kept=True)}"


def nothing_changed(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        before = home.path(CONFIG).stat()
        for _ in range(3):
            done = home.follow()
            assert (done.returncode, done.stderr) == (0, "")
        assert home.path(CONFIG).stat().st_mtime_ns == before.st_mtime_ns
        return home.told(FIRST, restarts=0, kept=True)


def boot_with_another_address(folder: Path, script: str) -> str:
    """The known trouble: switched off, another lease, the old address in every file."""
    with Home(folder, script) as home:
        home.state("active-k3s.service").unlink()
        home.state("api-up").unlink()
        home.sh(
            "ip address flush dev lan0; ip address add 192.168.1.77/24 dev lan0; ip route add default via 192.168.1.1"
        )
        done = home.follow()
        assert "the address is 192.168.1.77, was 192.168.1.5" in done.stderr
        return home.told("192.168.1.77", restarts=0, kept=False) + ", K3s starts after it"


def lease_changes_while_running(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        home.sh(
            "ip address flush dev lan0; ip address add 192.168.1.77/24 dev lan0; ip route add default via 192.168.1.1"
        )
        assert home.follow().returncode == 0
        home.told("192.168.1.77", restarts=1, kept=False)
        home.certificate()
        home.k3s_answers("192.168.1.77")
        for _ in range(3):
            assert home.follow().returncode == 0
        return home.told("192.168.1.77", restarts=1, kept=True)


def another_network(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        home.sh("ip address flush dev lan0; ip address add 10.0.0.8/24 dev lan0; ip route add default via 10.0.0.1")
        assert home.follow().returncode == 0
        return home.told("10.0.0.8", restarts=1, kept=False)


def no_address(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        home.sh("ip address flush dev lan0")
        begun = time.monotonic()
        done = home.follow(wait_s=2)
        # And not the 60 s that it waits unless told otherwise.
        assert 2 <= time.monotonic() - begun < 50
        return home.refused(done, "no IPv4 address on a NIC with a default route after 2 s")


def dhcp_is_late(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        home.sh("ip address flush dev lan0")
        late = subprocess.Popen(
            home.command(
                "sh", "-ec", "sleep 1.2; ip address add 192.168.1.77/24 dev lan0; ip route add default via 192.168.1.1"
            )
        )
        begun = time.monotonic()
        done = home.follow(wait_s=30)
        assert late.wait(10) == 0
        assert done.returncode == 0, done.stderr
        assert time.monotonic() - begun < 15
        return home.told("192.168.1.77", restarts=1, kept=False) + ", waited for it"


_SECOND: Final = """ip link add lan1 type veth peer name lan1-peer; ip link set lan1 up; ip link set lan1-peer up
ip address add 172.16.0.9/24 dev lan1; ip route add default via 172.16.0.1 dev lan1 metric """


def two_nics(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        home.sh(f"ip route replace default via 192.168.1.1 metric 100; ip route del default metric 0; {_SECOND} 600")
        assert home.follow().returncode == 0
        home.told(FIRST, restarts=0, kept=True)
        home.sh("ip route replace default via 172.16.0.1 dev lan1 metric 50")
        assert home.follow().returncode == 0
        return home.told("172.16.0.9", restarts=1, kept=False) + ": the lower metric's"


def wifi_and_cable(folder: Path, script: str) -> str:
    """A laptop, with the metrics that NetworkManager gives: 600 to Wi-Fi, 100 to a cable."""
    with Home(folder, script) as home:
        home.sh(
            "ip link set lan0 down; ip address flush dev lan0; ip link add wlp2s0 type veth peer name ap0;"
            + "ip link set wlp2s0 mode dormant; ip link set ap0 up; ip link set wlp2s0 up;"
            + "ip address add 192.168.1.9/24 dev wlp2s0; ip route add default via 192.168.1.1 metric 600"
        )
        assert home.follow().returncode == 0
        home.told("192.168.1.9", restarts=1, kept=False)
        home.sh(
            "ip link set lan0 up; ip address add 192.168.1.5/24 dev lan0;"
            + "ip route add default via 192.168.1.1 dev lan0 metric 100"
        )
        assert home.follow().returncode == 0
        return home.told(FIRST, restarts=2, kept=False) + ": Wi-Fi's 192.168.1.9, then the cable's"


def _vpn(kind: str) -> Callable[[Path, str], str]:
    def case(folder: Path, script: str) -> str:
        with Home(folder, script) as home:
            home.sh(
                f"ip tuntap add dev vpn0 mode {kind}; ip address add 10.8.0.2/24 dev vpn0; ip link set vpn0 up;"
                + "ip route del default; ip route add default dev vpn0; ip route add default via 192.168.1.1 metric 100"
            )
            assert home.follow().returncode == 0
            return home.told(FIRST, restarts=0, kept=True)

    return case


def vpn_only(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        home.sh(
            "ip tuntap add dev tailscale0 mode tun; ip address add 100.64.0.5/32 dev tailscale0;"
            + "ip link set tailscale0 up; ip route del default; ip route add default dev tailscale0"
        )
        return home.refused(home.follow(), "no IPv4 address on a NIC with a default route")


def ipv6_beside(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        home.sh("ip address add 2001:db8::5/64 dev lan0 nodad; ip -6 route add default via 2001:db8::1 dev lan0")
        assert home.follow().returncode == 0
        home.sh("ip address add 2001:db8::77/64 dev lan0 nodad; ip address del 2001:db8::5/64 dev lan0")
        assert home.follow().returncode == 0
        return home.told(FIRST, restarts=0, kept=True)


def ipv6_only(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        home.sh(
            "ip address flush dev lan0; ip address add 2001:db8::5/64 dev lan0 nodad;"
            + "ip -6 route add default via 2001:db8::1 dev lan0"
        )
        home.refused(home.follow(nic="lan0"), "lan0 has no IPv4 address")
        return home.refused(home.follow(), "no IPv4 address")


def second_address(folder: Path, script: str) -> str:
    """An address set by hand stands first once the lease is renewed with another one; the route names the lease's."""
    with Home(folder, script) as home:
        home.sh(
            "ip address add 192.168.1.200/32 dev lan0; ip address del 192.168.1.5/24 dev lan0;"
            + "ip address add 192.168.1.77/24 dev lan0; ip route add default via 192.168.1.1 dev lan0 src 192.168.1.77"
        )
        assert home.follow().returncode == 0
        return home.told("192.168.1.77", restarts=1, kept=False)


def fixed_nic(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        home.sh(f"{_SECOND} 600")
        assert home.follow(nic="lan1").returncode == 0
        return home.told("172.16.0.9", restarts=1, kept=False)


def fixed_nic_missing(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        done = home.follow(nic="eth7")
        assert "`home.nic`" in done.stderr
        assert "lan0 " in done.stderr
        return home.refused(done, "there is no NIC eth7 here")


def fixed_nic_without_address(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        return home.refused(home.follow(nic="lan0-peer"), "lan0-peer has no IPv4 address")


def restart_fails(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        home.sh(
            "ip address flush dev lan0; ip address add 192.168.1.77/24 dev lan0; ip route add default via 192.168.1.1"
        )
        # The first call is `systemctl cat`, which may fail where there is no K3s yet.
        home.state("failed").write_text("systemctl cat k3s.service\n")
        assert home.run(script, WAIT_S="1", FAIL_ONCE="1").returncode == 1
        home.told("192.168.1.77", restarts=0, kept=False)
        assert home.follow().returncode == 0
        return home.told("192.168.1.77", restarts=1, kept=False) + " at the next try"


def config_is_lost(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        home.path(CONFIG).unlink()
        assert home.follow().returncode == 0
        return home.told(FIRST, restarts=1, kept=True)


def stored_certificate_is_stale(folder: Path, script: str) -> str:
    with Home(folder, script) as home:
        home.sh(
            "ip address flush dev lan0; ip address add 192.168.1.4/24 dev lan0; ip route add default via 192.168.1.1"
        )
        home.state("api-up").unlink()
        assert home.follow().returncode == 0
        home.certificate()
        assert home.follow().returncode == 0
        home.told("192.168.1.4", restarts=1, kept=True)
        # 192.168.1.44 is another one, though it begins alike.
        home.k3s_answers(FIRST, "192.168.1.44")
        assert home.follow().returncode == 0
        assert not home.state("secret").exists()
        home.told("192.168.1.4", restarts=2, kept=False)
        home.certificate()
        home.k3s_answers(FIRST)
        assert home.follow().returncode == 0
        assert home.state("secret").exists()
        return home.told("192.168.1.4", restarts=2, kept=True) + ", secret removed once"


CASES: Final[dict[str, Callable[[Path, str], str]]] = {
    "nothing changed, three runs": nothing_changed,
    "boot with another address": boot_with_another_address,
    "lease changes while K3s runs": lease_changes_while_running,
    "another network": another_network,
    "no address": no_address,
    "DHCP is late": dhcp_is_late,
    "two NICs": two_nics,
    "laptop on Wi-Fi, then a cable": wifi_and_cable,
    "VPN (tun) holds the default route": _vpn("tun"),
    "VPN (tap) holds the default route": _vpn("tap"),
    "only a VPN holds a default route": vpn_only,
    "IPv6 beside IPv4, and changing": ipv6_beside,
    "IPv6 only": ipv6_only,
    "second address on the NIC": second_address,
    "fixed NIC": fixed_nic,
    "fixed NIC that doesn't exist": fixed_nic_missing,
    "fixed NIC without an address": fixed_nic_without_address,
    "K3s' restart fails": restart_fails,
    "K3s' config is lost": config_is_lost,
    "stored certificate is stale": stored_certificate_is_stale,
}
