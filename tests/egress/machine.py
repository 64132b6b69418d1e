"""The VM as its model's container sees it: host, docker's network, and all that a caller could have fetched.

Owns: three network namespaces (the container's, the host's, the one of all others), docker's rules and COS' own, who
listens, and who was asked. Does not own: the rules that close the way out (`components/vm/close_egress.sh`).
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from lab.programs import projector
from lab.programs.model_server import model_file
from lab.read.stack import ROOT
from tests.bootstrap import box
from tests.bootstrap.box import Namespace
from tests.kit import until

PORT: Final = 9931
LISTENING: Final = 8000
METADATA: Final = "169.254.169.254"
HOST, HOST6, BRIDGE, BRIDGE6 = "10.80.1.2", "fd00:1::2", "172.17.0.1", "fd00:17::1"
OTHER, OTHER6, CONTAINER, CONTAINER6 = "10.80.1.9", "fd00:1::9", "172.17.0.2", "fd00:17::2"
TARGETS: Final = {
    "the metadata server": f"http://{METADATA}:{LISTENING}/computeMetadata/v1/",
    "a name": f"http://metadata.internal:{LISTENING}/",
    "another machine": f"http://{OTHER}:{LISTENING}/",
    "another machine by IPv6": f"http://[{OTHER6}]:{LISTENING}/",
    "the host": f"http://{HOST}:{LISTENING}/",
    "the host by docker's address": f"http://{BRIDGE}:{LISTENING}/",
    "the host by IPv6": f"http://[{BRIDGE6}]:{LISTENING}/",
}
"""Where somebody listens, whom a caller may name as a picture's address."""

# As `iptables-save` shows them under docker 20.10 with one container and its published port; later releases ask
# DOCKER-USER first as well. INPUT is COS' own, and admits whoever asks the server on the host.
_RULES: Final = f"""
*nat
:PREROUTING ACCEPT
:INPUT ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
:DOCKER -
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport {PORT} -j DNAT --to-destination {CONTAINER}:{PORT}
COMMIT
*filter
:INPUT DROP
:FORWARD DROP
:OUTPUT ACCEPT
:DOCKER -
:DOCKER-ISOLATION-STAGE-1 -
:DOCKER-ISOLATION-STAGE-2 -
:DOCKER-USER -
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m tcp --dport {LISTENING} -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d {CONTAINER}/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport {PORT} -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
"""
_NO_RULES6: Final = """
*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
COMMIT
"""
# Answers every GET and writes down who was asked; to the name server every name is the metadata server's.
_SERVER: Final = textwrap.dedent("""
    import http.server, socket, sys, threading
    class Asked(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            print(self.headers["Host"], flush=True)
            self.send_response(200)
            self.end_headers()
        def log_message(self, *_): pass
    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6
    def names(address):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.bind((address, 53))
            while True:
                query, sender = asked.recvfrom(999)
                end = query.index(0, 12) + 5
                found = query[end - 4 : end - 2] == bytes((0, 1))
                head = query[:2] + bytes((0x81, 0x80, 0, 1, 0, found, 0, 0, 0, 0))
                record = bytes((0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4)) + socket.inet_aton(address)
                asked.sendto(head + query[12:end] + (record if found else b""), sender)
    for address in sys.argv[2:]:
        threading.Thread(target=names, args=[address], daemon=True).start()
    server = Server(("::", int(sys.argv[1])), Asked)
    print("up", flush=True)
    server.serve_forever()
    """)
_CALLER: Final = textwrap.dedent("""
    import json, sys, time, urllib.error, urllib.request
    url, body, times = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3])
    begun = time.monotonic()
    for _ in range(times):
        try:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, said = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, said = error.code, error.read()
        except OSError as error:
            status, said = 0, str(error).encode()
        if status == 0:
            break
    print(json.dumps([status, said.decode(), time.monotonic() - begun]))
    """)


def unavailable() -> str:
    """Why there can be no such machine here; empty if there can."""
    if why_not := box.missing():
        return why_not
    needed = ("iptables", "ip6tables", "iptables-restore", "ip6tables-restore")
    if absent := [program for program in needed if not shutil.which(program)]:
        return f"needs {', '.join(absent)}: apt install iptables"
    rule = "tables -A INPUT -m conntrack --ctstate NEW -p tcp -j REJECT --reject-with tcp-reset"
    probe = f"ip link add docker0 type bridge; ip{rule}; ip6{rule}"
    tried = subprocess.run(["unshare", "-n", "sh", "-ec", probe], capture_output=True, text=True, check=False)
    return f"no bridge or no such rule in this kernel: {tried.stderr.strip()}" if tried.returncode else ""


class Machine:
    """Docker is up with the model's container in it, which serves once it has started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        with self._stack:
            self.host, self._others = (self._stack.enter_context(Namespace()) for _ in range(2))
            self._container = self._stack.enter_context(Namespace(mounts=True))
            self._wire()
            self._stack = self._stack.pop_all()

    def _wire(self) -> None:
        self.host.sh("""
            ip link set lo up
            echo 1 >/proc/sys/net/ipv4/ip_forward
            echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
            ip link add docker0 type bridge
            """)
        for there, wire, addresses in (
            (self._others, "eth0", (f"{METADATA}/32", f"{OTHER}/24", f"{OTHER6}/64 nodad")),
            # Docker gives no IPv6; the rules hold where it does.
            (self._container, "veth0", (f"{CONTAINER}/16", f"{CONTAINER6}/64 nodad")),
        ):
            there.sh(f"""
                ip link set lo up
                ip link add eth0 type veth peer name {wire} netns /proc/{self.host.pid}/ns/net
                {"".join(f"ip address add dev eth0 {address};" for address in addresses)}
                ip link set eth0 up
                """)
        self.host.sh(f"""
            ip link set veth0 master docker0
            for link in veth0 docker0 eth0; do ip link set $link up; done
            ip address add {BRIDGE}/16 dev docker0
            ip address add {BRIDGE6}/64 dev docker0 nodad
            ip address add {HOST}/24 dev eth0
            ip address add {HOST6}/64 dev eth0 nodad
            ip route add default via {OTHER}
            """)
        self._others.sh(f"ip route add default via {HOST6}")
        self._container.sh(f"""
            ip route add default via {BRIDGE}
            ip route add default via {BRIDGE6}
            touch {self._names}
            mount --bind {self._names} "$(readlink -f /etc/resolv.conf)"
            """)

    @property
    def _names(self) -> Path:
        return self._folder / "resolv.conf"

    def start(self) -> None:
        """Everybody who could be asked, and the model's server."""
        listen = (sys.executable, "-c", _SERVER, str(LISTENING))
        self._run("host", self.host, *listen)
        self._run("others", self._others, *listen, METADATA)
        model, pictures = model_file(self._folder), projector.write(self._folder / "projector.gguf")
        serve = ("-m", "tests.egress.serve", str(model), str(pictures), str(PORT))
        self._run("model", self._container, sys.executable, *serve)

    def _run(self, name: str, there: Namespace, *words: str) -> None:
        """A process, whose first line says that it is up."""
        said, errors = self._folder / name, self._folder / f"{name}.err"
        with said.open("wb") as output, errors.open("wb") as complaints:
            process = subprocess.Popen(
                there.command(*words), env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=output, stderr=complaints
            )
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.kill)
        until(lambda: said.read_text() or process.poll() is not None, f"{name} is up")
        assert process.poll() is None, errors.read_text()

    def open(self, dns: Sequence[str] = ()) -> None:
        """As docker leaves it when it has started; `dns` are the name servers that it was told, if any."""
        self.host.sh(f"iptables-restore <<'END'{_RULES}END\nip6tables-restore <<'END'{_NO_RULES6}END")
        self._names.write_text("".join(f"nameserver {server}\n" for server in dns or [METADATA]))

    def call(self, content: Any, *, times: int = 1) -> tuple[int, str, float]:
        """Status and body of a chat from another machine, by the published port; seconds of all `times`, one by one."""
        body = json.dumps({"messages": [{"role": "user", "content": content}], "max_tokens": 1})
        url = f"http://{HOST}:{PORT}/v1/chat/completions"
        words = self._others.command(sys.executable, "-c", _CALLER, url, body, str(times))
        done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=True)
        status, said, seconds = json.loads(done.stdout)
        return status, said, seconds

    def asked(self) -> list[str]:
        """Hosts that were asked, in the words of the requests."""
        return [line for name in ("host", "others") for line in (self._folder / name).read_text().splitlines()[1:]]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
