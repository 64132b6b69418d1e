"""The guard of K3s' ports: real nftables, real connections from LAN, tailnet, cluster and itself.

Owns: a home of four network namespaces, with the rules K3s' service load balancer, node ports and pods bring. Does not
own: the guard's text.
"""

import json
import os
import shlex
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from components.home import bootstrap
from tests.bootstrap import nft
from tests.bootstrap.box import Namespace

_FILES: Final = Path(bootstrap.__file__).parent / "files"
WATCH: Final = _FILES / "guard.sh"
LAN: Final = "192.168.1.5"
LAN6: Final = "fd00:1::5"
TAILNET: Final = "100.64.0.5"
TAILNET6: Final = "fd7a::5"
POD: Final = "10.42.0.9"
CONTAINER: Final = "172.17.0.9"
SERVICE: Final = "10.43.0.10"
CLOSED_S: Final = 0.7
"""A dropped packet gets no answer: how long to wait for none, seconds."""
KUBERNETES: Final = ("80", "443", "6443", "10250", "30080")

_SERVICE_RULES: Final = f"""
table ip servicelb {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip daddr {{ {LAN}, {TAILNET} }} tcp dport {{ 80, 443, 30080 }} dnat to {POD}:80
    ip daddr {SERVICE} tcp dport 80 dnat to {POD}:80
    # The owner's docker publishes a port, one among the node ports' numbers.
    ip daddr {LAN} tcp dport 30900 dnat to {CONTAINER}:9000
  }}
  chain output {{
    type nat hook output priority -100;
    ip daddr {{ 127.0.0.1, {LAN} }} tcp dport 80 dnat to {POD}:80
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr 10.42.0.0/16 oifname "lan0" meta l4proto tcp masquerade to :30500-30600
    oifname "cni0" fib saddr type local masquerade
  }}
}}
"""
_SERVER: Final = textwrap.dedent("""
    import selectors, socket, sys
    waiting = selectors.DefaultSelector()
    for port in map(int, sys.argv[2:]):
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        waiting.register(listener, selectors.EVENT_READ)
    if sys.argv[1] != "0":
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("0.0.0.0", int(sys.argv[1])))
        waiting.register(datagrams, selectors.EVENT_READ)
    print("up", flush=True)
    while True:
        for key, _ in waiting.select():
            if key.fileobj.type == socket.SOCK_DGRAM:
                data, sender = key.fileobj.recvfrom(99)
                key.fileobj.sendto(data, sender)
            else:
                connection, _ = key.fileobj.accept()
                connection.sendall(b"ok")
                connection.close()
    """)
_CLIENT: Final = textwrap.dedent("""
    import concurrent.futures, json, socket, sys
    def reached(target):
        protocol, host, port = target
        try:
            if protocol == "udp":
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.settimeout(patience)
                    sender.sendto(b"ok", (host, int(port)))
                    return sender.recv(9) == b"ok"
            with socket.create_connection((host, int(port)), patience) as connection:
                return connection.recv(9) == b"ok"
        except OSError:
            return False
    targets, patience = json.loads(sys.argv[1]), float(sys.argv[2])
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        print(json.dumps([t for t, found in zip(targets, pool.map(reached, targets)) if found]))
    """)
_LASTING: Final = textwrap.dedent("""
    import socket, sys
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.settimeout(0.7)
    while True:
        sender.sendto(b"ok", (sys.argv[1], 8472))
        try:
            print("open" if sender.recv(9) else "empty", flush=True)
        except TimeoutError:
            print("closed", flush=True)
        if not sys.stdin.readline():
            break
    """)
"""One flow that is asked again for each line on stdin."""

Target = tuple[str, str, str]
FROM_LAN: Final[list[Target]] = [
    *(("tcp", LAN, port) for port in KUBERNETES),
    *(("tcp", LAN6, port) for port in ("6443", "10250")),
    # The machine's tailnet address, asked for over the LAN.
    ("tcp", TAILNET, "80"),
    ("tcp", TAILNET, "6443"),
    # Home named as the gateway to pods and services.
    ("tcp", POD, "8000"),
    ("tcp", SERVICE, "80"),
    ("udp", LAN, "8472"),
    ("udp", TAILNET, "8472"),
]
"""What a neighbour could try; all of it answers without a guard."""
ALLOWED: Final[dict[str, list[Target]]] = {
    "tailnet": [
        *(("tcp", TAILNET, port) for port in KUBERNETES),
        *(("tcp", TAILNET6, port) for port in ("6443", "10250")),
        # Pods of another machine at home.
        ("udp", TAILNET, "8472"),
    ],
    "cluster": [("tcp", LAN, "6443"), ("tcp", LAN, "10250"), ("tcp", "10.42.0.1", "6443"), ("udp", LAN, "8472")],
    "machine": [
        *(("tcp", host, port) for host in ("127.0.0.1", "::1", LAN, LAN6) for port in ("6443", "10250")),
        ("tcp", LAN, "80"),
        ("tcp", POD, "8000"),
    ],
}
"""What must go on."""
OUTSIDE: Final = "192.168.1.9"
OWN: Final[dict[str, list[Target]]] = {
    # Somebody else's ports of these numbers, reached from a container through this machine.
    "container": [("tcp", OUTSIDE, port) for port in ("80", "443", "6443", "10250", "30080", "9000")],
    # A program on a port among the node ports', SSH, and a port that docker publishes.
    "lan": [("tcp", LAN, "22"), ("tcp", LAN, "32400"), ("tcp", LAN6, "32400"), ("tcp", LAN, "30900")],
}
"""The owner's other work, which the guard lets alone."""


def text() -> str:
    """The guard as it is shipped."""
    return (_FILES / "guard.nft").read_text()


class Neighbourhood:
    """Home with its LAN, tailnet, a pod, a container of docker's; `reached(who, targets)` is who gets an answer.

    `nic` is what home calls its interface to the LAN.
    """

    def __init__(self, nic: str = "lan0") -> None:
        self._nic = nic
        self._nft = nft.program()
        self.machine, self.lan, self.tailnet, self.cluster, self.container = (Namespace() for _ in range(5))
        self._all = {
            "machine": self.machine,
            "lan": self.lan,
            "tailnet": self.tailnet,
            "cluster": self.cluster,
            "container": self.container,
        }
        self._servers: list[subprocess.Popen[bytes]] = []
        try:
            self._wire()
            self._serve(self.machine, "8472", "22", "6443", "10250", "32400")
            self._serve(self.cluster, "0", "80", "8000")
            self._serve(self.lan, "0", "80", "443", "6443", "10250", "30080", "9000")
            self._serve(self.container, "0", "9000")
        except BaseException:
            self.close()
            raise

    def _wire(self) -> None:
        pids = {name: space.pid for name, space in self._all.items()}
        self.machine.sh(
            f"""
            ip link set lo up
            ip link add {self._nic} type veth peer name eth0 netns {pids["lan"]}
            ip link add tailscale0 type veth peer name eth0 netns {pids["tailnet"]}
            ip link add docker0 type veth peer name eth0 netns {pids["container"]}
            ip link add cni0 type bridge
            ip link add pod0 type veth peer name eth0 netns {pids["cluster"]}
            ip link set pod0 master cni0
            for nic in {self._nic} tailscale0 docker0 cni0 pod0; do ip link set $nic up; done
            ip address add {LAN}/24 dev {self._nic}
            ip address add {LAN6}/64 dev {self._nic} nodad
            ip address add {TAILNET}/24 dev tailscale0
            ip address add {TAILNET6}/64 dev tailscale0 nodad
            ip address add 10.42.0.1/24 dev cni0
            ip address add 172.17.0.1/24 dev docker0
            echo 1 > /proc/sys/net/ipv4/ip_forward
            """
        )
        for space, address, address6, gateway in (
            (self.lan, "192.168.1.9/24", "fd00:1::9/64", LAN),
            (self.tailnet, "100.64.0.9/24", "fd7a::9/64", TAILNET),
            (self.cluster, f"{POD}/24", "fd42::9/64", "10.42.0.1"),
            (self.container, f"{CONTAINER}/24", "fd17::9/64", "172.17.0.1"),
        ):
            space.sh(
                f"ip link set lo up; ip link set eth0 up; ip address add {address} dev eth0;"
                + f"ip address add {address6} dev eth0 nodad; ip route add default via {gateway}"
            )
        self.rules(_SERVICE_RULES.replace("lan0", self._nic))

    def _serve(self, space: Namespace, datagrams: str, *ports: str) -> None:
        server = subprocess.Popen(space.command("python3", "-c", _SERVER, datagrams, *ports), stdout=subprocess.PIPE)
        self._servers.append(server)
        assert server.stdout
        assert server.stdout.readline() == b"up\n"

    def rules(self, rules: str) -> None:
        """Loads nftables rules at home."""
        done = subprocess.run(
            self.machine.command(*self._nft, "--file", "-"),
            input=rules, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def listed(self) -> str:
        """The guard's table as the kernel has it, counters left out."""
        return subprocess.run(
            self.machine.command(*self._nft, "--stateless", "list", "table", "inet", "pilotlight_guard"),
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout  # fmt: skip

    def reached(self, who: str, targets: list[Target], patience: float = 2) -> list[Target]:
        """Those of the targets that answer within so many seconds."""
        done = subprocess.run(
            self._all[who].command("python3", "-c", _CLIENT, json.dumps(targets), str(patience)),
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        return [(protocol, host, port) for protocol, host, port in json.loads(done.stdout)]

    def close(self) -> None:
        for server in self._servers:
            server.kill()
            server.wait(10)
            if server.stdout:
                server.stdout.close()
        for space in self._all.values():
            space.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lan_is_out(_: Path, guard: str, nic: str = "lan0") -> str:
    with Neighbourhood(nic) as home:
        # Without the guard everything answers, so that a closed port below is the guard's doing.
        assert home.reached("lan", FROM_LAN) == FROM_LAN
        home.rules(guard)
        assert home.reached("lan", FROM_LAN, CLOSED_S) == []
        ssh: list[Target] = [("tcp", LAN, "22"), ("tcp", LAN6, "22")]
        assert home.reached("lan", ssh) == ssh
        return f"{len(FROM_LAN)} of {len(FROM_LAN)} targets closed that were open, SSH stays open"


def wifi_is_out(folder: Path, guard: str) -> str:
    return lan_is_out(folder, guard, "wlp2s0")


def own_are_in(_: Path, guard: str) -> str:
    with Neighbourhood() as home:
        home.rules(guard)
        for who, targets in ALLOWED.items():
            assert home.reached(who, targets) == targets, who
        return ", ".join(f"{who} {len(targets)}" for who, targets in ALLOWED.items()) + " targets, all open"


def pods_reach_out(_: Path, guard: str) -> str:
    """A pod's connection leaves under home's address, from a port that may be one of the guarded ones."""
    with Neighbourhood() as home:
        home.rules(guard)
        outside: list[Target] = [("tcp", OUTSIDE, "9000")]
        assert home.reached("cluster", outside) == outside
        return "answered on port 30500"


def owners_work_goes_on(_: Path, guard: str) -> str:
    """A guard of the right ports that doesn't ask whose they are cuts the rest of the machine off."""
    with Neighbourhood() as home:
        home.rules(guard)
        for who, targets in OWN.items():
            assert home.reached(who, targets) == targets, who
        return ", ".join(f"{who} {len(targets)}" for who, targets in OWN.items()) + " targets, all open"


def loaded_twice(_: Path, guard: str) -> str:
    with Neighbourhood() as home:
        home.rules(guard)
        once = home.listed()
        home.rules(guard)
        assert home.listed() == once
        assert home.reached("lan", [("tcp", LAN, "80")], CLOSED_S) == []
        return "the same rules once"


def _flushed(home: Neighbourhood, folder: Path, guard: str, flush: str) -> str:
    """What the watch says after the rules were changed like this; all is closed again."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "guard.nft").write_text(guard)
    (folder / "nft").write_text(f'#!/bin/sh\nexec {shlex.join(nft.program())} "$@"\n')
    (folder / "nft").chmod(0o755)
    watch = home.machine.command("env", f"PATH={folder}:{os.environ['PATH']}", f"GUARD={folder}/guard.nft", "bash")

    def watched() -> str:
        done = subprocess.run([*watch, str(WATCH)], capture_output=True, text=True, timeout=20, check=True)
        return done.stdout + done.stderr

    assert watched() == "K3s' ports had no guard: loaded\n"
    assert watched() == ""
    home.rules(flush)
    with subprocess.Popen(
        home.lan.command("python3", "-c", _LASTING, LAN), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as lasting:
        assert lasting.stdout
        assert lasting.stdout.readline() == "open\n", "the gap is none: nothing is shown"
        said = watched()
        assert home.reached("lan", FROM_LAN, CLOSED_S) == []
        assert lasting.communicate("again\n", timeout=20)[0] == "closed\n", "what began in the gap goes on"
    assert watched() == ""
    return f"put back, {said!r}; what began meanwhile ends"


def all_rules_flushed(folder: Path, guard: str) -> str:
    with Neighbourhood() as home:
        said = _flushed(home, folder, guard, f"flush ruleset\n{_SERVICE_RULES}")
        assert "had no guard" in said
        return said


def guard_emptied(folder: Path, guard: str) -> str:
    with Neighbourhood() as home:
        said = _flushed(home, folder, guard, "flush table inet pilotlight_guard")
        assert "had changed" in said
        return said


CASES: Final[dict[str, Callable[[Path, str], str]]] = {
    "from the home LAN": lan_is_out,
    "from the home LAN, over Wi-Fi": wifi_is_out,
    "from tailnet, cluster and itself": own_are_in,
    "a pod's own connections": pods_reach_out,
    "docker's containers, and the machine's own programs": owners_work_goes_on,
    "loaded again": loaded_twice,
    "all rules flushed": all_rules_flushed,
    "the guard's rules flushed": guard_emptied,
}
