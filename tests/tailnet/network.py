"""Four machines on a network without a way out: namespaces, wired to a hub that routes between them.

Owns: namespaces, wires, what the hub swallows, threads and processes inside. Does not own: what runs there.

A namespace is a file descriptor: it goes when this process and those in it are gone, however they ended.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")

GATEWAY, HOME, VM, CONTROL, RELAY, OTHERS = (
    "10.98.1.2", "10.98.2.2", "10.98.3.2", "10.98.4.2", "10.98.4.3", "10.98.5.2",
)  # fmt: skip
"""Addresses of the machines. The relay is the control server's second one, so that either can be swallowed alone."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET: Final = 0x40000000
_PR_SET_PDEATHSIG: Final = 1
_SOL_PACKET: Final = 263
_PACKET_VNET_HDR: Final = 15
_SEGMENTED: Final = 5
"""`gso_type` of several UDP datagrams in one buffer: a card cuts them, which a wire between namespaces leaves out."""


def unavailable() -> str:
    """Why there can be no such network here; empty if there can."""
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun, for the home machine's interface"
    try:
        Namespace("probe").close()
    except (OSError, AttributeError) as error:
        return f"network namespaces: {error} (root is needed, or `unshare --user --map-root-user`)"
    return ""


class Namespace:
    """One machine's network. Threads of its pool are inside, so what they open is there, too."""

    def __init__(self, name: str) -> None:
        self.name = name
        made: list[int] = []
        failed: list[OSError] = []

        def make() -> None:
            try:
                _checked(_LIBC.unshare(_CLONE_NEWNET))
                made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        self._descriptor = made[0]
        self._pool = ThreadPoolExecutor(64, thread_name_prefix=name, initializer=self._enter)

    def _enter(self) -> None:
        _checked(_LIBC.setns(self._descriptor, _CLONE_NEWNET))

    def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """`work` inside."""
        return self._pool.submit(work, *arguments).result()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """`work` inside, meanwhile."""
        return self._pool.submit(work)

    def ip(self, *words: str) -> str:
        """The program `ip`, inside."""
        return subprocess.run(
            ["ip", *words], check=True, capture_output=True, text=True, timeout=10, preexec_fn=self._enter
        ).stdout

    def forget_connections(self, port: int) -> None:
        """The kernel here knows no connection to `port` any more, as after a restart."""

        def ss(*words: str) -> str:
            argv = ["ss", "-tn", *words, "sport", "=", f":{port}"]
            return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=10).stdout

        self.run(ss, "-K")
        assert not self.run(ss, "-H", "state", "established"), "the kernel can't end connections (INET_DIAG_DESTROY)"

    def start(
        self, argv: Sequence[str | Path], env: Mapping[str, str], log: Path, *, cwd: Path, piped: bool = False
    ) -> subprocess.Popen[bytes]:
        """A process inside, in a group of its own; it ends with this one. `piped`: stdin and stdout are pipes."""

        def enter() -> None:
            self._enter()
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)

        with log.open("ab") as output:
            return subprocess.Popen(
                argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else output,
                stderr=output,
                start_new_session=True,
                preexec_fn=enter,
            )

    @contextlib.contextmanager
    def loop(self) -> Generator[asyncio.AbstractEventLoop]:
        """An event loop whose servers listen inside."""
        loop = asyncio.new_event_loop()

        def run() -> None:
            self._enter()
            loop.run_forever()

        thread = threading.Thread(target=run, daemon=True, name=f"{self.name}-loop")
        thread.start()
        try:
            yield loop
        finally:
            asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)
            loop.close()

    @contextlib.contextmanager
    def datagrams(self, interface: str) -> Generator[list[tuple[int, bytes]]]:
        """Size and first bytes of UDP datagrams that pass `interface` while the block runs, some left out."""
        seen: list[tuple[int, bytes]] = []
        tap = self.run(_tap, interface)
        ended = threading.Event()

        def read() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    seen.extend(_datagrams(tap.recv(128 * 1024)))

        reading = self._pool.submit(read)
        try:
            yield seen
        finally:
            ended.set()
            reading.result()
            tap.close()

    def close(self) -> None:
        self._pool.shutdown(wait=False)
        os.close(self._descriptor)

    def reached_by(self) -> str:
        """A path that names it for `ip link … netns`."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"


class Network:
    """The hub and its machines."""

    def __init__(self) -> None:
        self.hub = Namespace("hub")
        self.gateway, self.home, self.vm, self.control, self.others = (
            self._machine(name, addresses)
            for name, *addresses in (
                ("gateway", GATEWAY), ("home", HOME), ("vm", VM), ("control", CONTROL, RELAY), ("others", OTHERS),
            )
        )  # fmt: skip
        self.hub.run(Path("/proc/sys/net/ipv4/ip_forward").write_text, "1")

    def _machine(self, name: str, addresses: Sequence[str]) -> Namespace:
        made = Namespace(name)
        hub = addresses[0].rpartition(".")[0] + ".1"
        self.hub.ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", made.reached_by())
        self.hub.ip("address", "add", f"{hub}/24", "dev", name)
        self.hub.ip("link", "set", name, "up")
        made.ip("link", "set", "lo", "up")
        for address in addresses:
            made.ip("address", "add", f"{address}/24", "dev", "eth0")
        made.ip("link", "set", "eth0", "up")
        made.ip("route", "add", "default", "via", hub)
        return made

    @contextlib.contextmanager
    def swallowed(self, *between: tuple[str, str]) -> Generator[None]:
        """Packets between these addresses vanish in the hub, both ways and without a word."""
        pairs = [pair for one, other in between for pair in ((one, other), (other, one))]
        rules = [("from", one, "to", other, "blackhole") for one, other in pairs]
        for rule in rules:
            self.hub.ip("rule", "add", "priority", "100", *rule)
        try:
            yield
        finally:
            for rule in rules:
                self.hub.ip("rule", "del", "priority", "100", *rule)

    def close(self) -> None:
        for machine in (self.gateway, self.home, self.vm, self.control, self.others, self.hub):
            machine.close()


def end(process: subprocess.Popen[bytes], grace_s: float = 0) -> float:
    """SIGTERM to the process, after `grace_s` SIGKILL to all it started; returns the seconds it took."""
    started = time.monotonic()
    if grace_s:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    return time.monotonic() - started


def _tap(interface: str) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    tap.settimeout(0.2)
    tap.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    tap.bind((interface, 0))
    return tap


def _datagrams(captured: bytes) -> list[tuple[int, bytes]]:
    """A captured buffer, with the kernel's note on how to cut it, as datagrams: IPv4 packet size, UDP content."""
    kind, each = captured[1], int.from_bytes(captured[4:6], "little")
    packet = captured[10 + 14 :]
    if packet[9] != socket.IPPROTO_UDP:
        return []
    head = (packet[0] & 15) * 4 + 8
    content = packet[head : int.from_bytes(packet[2:4], "big")]
    size = each if kind == _SEGMENTED else len(content)
    pieces = [content[i : i + size] for i in range(0, len(content), size or 1)]
    return [(head + len(piece), piece[:4]) for piece in pieces]


async def _cancel_all() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
