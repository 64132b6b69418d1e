"""A tailnet of real machines: control plane, home, CI and its owner, each with Tailscale's own daemon.

Owns: their daemons and what listens at home and on the VM. Does not own: the gateway (`gateway`), the wires
(`network`).
"""

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from components import ports
from components.tailnet.policy import HOME
from tests.gateway.backends import Lane
from tests.tailnet import network
from tests.tailnet.network import Namespace, Network

CONTROL_URL: Final = f"http://{network.CONTROL}:8080"
NO_KEY: Final = ""
"""Told to the control plane: whoever comes may join, and whoever leaves may leave. It asks for the key on each of a
machine's requests, the one to log out too, where the real one knows the machine."""
LARGER_MTU: Final = "1400"
"""At home and elsewhere, so that it is the gateway's own that bounds the packets between them."""
DIAL_S: Final = 7.0
"""What a filter drops has no answer: the SOCKS5 listener gives up after 5 s."""


def until(true: Callable[[], Any], what: str, seconds: float = 30) -> float:
    """Waits until `true()`; returns the seconds it took."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started


@dataclass(frozen=True)
class Machine:
    """A machine as the control plane knows it."""

    name: str
    address: str
    tags: tuple[str, ...]
    online: bool


class ControlPlane:
    """The control server and the relay, as a process."""

    def __init__(self, at: Namespace, programs: Path, folder: Path) -> None:
        self.log = folder / "controlplane.log"
        self._process = at.start(
            [programs / "controlplane", "-listen", CONTROL_URL.removeprefix("http://"), "-relay", network.RELAY],
            {},
            self.log,
            cwd=folder,
            piped=True,
        )
        self.machines()

    def tell(self, **order: Any) -> list[Machine]:
        """Gives an order (`key`, `policy`); returns the machines, those that left included."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or b'{"Error": "it ended"}')
        assert not answer["Error"], f"{answer['Error']}; see {self.log}"
        return [Machine(m["Name"], m["Address"], tuple(m["Tags"] or ()), m["Online"]) for m in answer["Machines"]]

    def machines(self) -> list[Machine]:
        return self.tell()

    def online(self, tag: str) -> list[Machine]:
        return [machine for machine in self.machines() if machine.online and tag in machine.tags]

    def logouts(self) -> int:
        """Requests that end a machine's registration: they ask for an expiry in 1970."""
        return self.log.read_text().count('"Expiry": "1970-')

    def close(self) -> None:
        network.end(self._process)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


class Daemon:
    """A machine's `tailscaled`, in userspace unless it has an `interface`, with a SOCKS5 listener of its own."""

    def __init__(
        self, name: str, tags: str, at: Namespace, programs: Path, folder: Path, *, socks: int, interface: str = ""
    ) -> None:
        self.name, self.at, self.socks, self._interface = name, at, socks, interface
        self._tags, self._programs, self._folder = tags, programs, folder / name
        self._folder.mkdir()
        self._socket = str(self._folder / "tailscaled.sock")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the daemon; a machine that has joined before is back by itself."""
        argv = [
            self._programs / "tailscaled",
            f"--socket={self._socket}",
            f"--statedir={self._folder}",
            f"--tun={self._interface or 'userspace-networking'}",
            f"--socks5-server=127.0.0.1:{self.socks}",
            "--port=0",
            "--no-logs-no-support",
        ]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self._folder), "TS_DEBUG_MTU": LARGER_MTU}
        self._process = self.at.start(argv, env, self._folder / "log", cwd=self._folder)

    def join(self, key: str) -> None:
        words = [f"--login-server={CONTROL_URL}", f"--auth-key={key}", f"--hostname={self.name}", "--accept-dns=false"]
        if self._tags:
            words.append(f"--advertise-tags={self._tags}")
        # The policy is the daemon's own work; the kernel's filter would only let the tunnel through a firewall.
        self.ask("up", *words, "--netfilter-mode=off")

    def ask(self, *words: str) -> str:
        """The program `tailscale` with these words."""
        return subprocess.run(
            [self._programs / "tailscale", f"--socket={self._socket}", *words],
            check=True, capture_output=True, text=True, timeout=30,
        ).stdout  # fmt: skip

    def peer(self, address: str) -> dict[str, Any]:
        """What it knows of the machine with this address in the tailnet."""
        found: dict[str, dict[str, Any]] = json.loads(self.ask("status", "--json"))["Peer"]
        [peer] = [peer for peer in found.values() if address in peer["TailscaleIPs"]]
        return peer

    def stop(self) -> None:
        if self._process:
            network.end(self._process)
            self._process = None


@dataclass(frozen=True)
class Dial:
    """A connection through a machine's SOCKS5 listener: what the far side says, and the seconds it took."""

    said: str
    seconds: float


def dial(at: Namespace, socks: int, host: str, port: int) -> Dial:
    """Dials `host:port` over the tailnet, from a machine's SOCKS5 listener on loopback."""

    def said(connection: socket.socket) -> str:
        connection.settimeout(DIAL_S)
        connection.sendall(b"\x05\x01\x00")
        connection.recv(2)
        connection.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big"))
        if connection.recv(10)[1:2] != b"\x00":
            return ""
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        return connection.recv(1024).decode("latin-1").partition("\r\n")[0]

    def run() -> Dial:
        started, answer = time.monotonic(), ""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", socks), timeout=1) as connection:
            answer = said(connection)
        return Dial(answer, time.monotonic() - started)

    return at.run(run)


class Tailnet:
    """Everything but the gateway."""

    def __init__(self, wires: Network, control: ControlPlane, home: Daemon, lanes: dict[str, Lane]) -> None:
        self.wires, self.control, self.home = wires, control, home
        self.home_lane, self.vm_lane, self.ssh, self.kubernetes = lanes.values()

    def heal(self) -> None:
        """Every lane is up and well, and forgets."""
        for lane in (self.home_lane, self.vm_lane, self.ssh, self.kubernetes):
            lane.release()
            lane.up()
            lane.reset()


@contextlib.contextmanager
def tailnet(programs: Path, folder: Path, policy: dict[str, Any]) -> Generator[Tailnet]:
    """A tailnet with this policy and, joined, its home machine."""
    with contextlib.ExitStack() as stack:
        wires = Network()
        stack.callback(wires.close)
        at_home = stack.enter_context(wires.home.loop())
        lanes = {
            "home": Lane(at_home, "home", "0.0.0.0", ports.INGRESS),
            "vm": Lane(stack.enter_context(wires.vm.loop()), "vm", network.VM, ports.VM),
            "ssh": Lane(at_home, "ssh", "0.0.0.0", ports.SSH),
            "kubernetes": Lane(at_home, "kubernetes", "0.0.0.0", ports.KUBERNETES),
        }
        for lane in lanes.values():
            lane.up()
            stack.callback(lane.down)
        control = ControlPlane(wires.control, programs, folder)
        stack.callback(control.close)
        control.tell(key="tskey-home", policy=policy)
        home = Daemon("home", HOME, wires.home, programs, folder, socks=1080, interface="tailscale0")
        stack.callback(home.stop)
        home.start()
        home.join("tskey-home")
        until(lambda: control.online(HOME), "home is in the tailnet")
        yield Tailnet(wires, control, home, lanes)
