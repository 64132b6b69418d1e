"""A machine of its own for a test: private mounts and network, what it writes is gone at its end.

Owns: namespaces, stand-ins on PATH, the links to the outside. Does not own: what is run in it. Everything outside the
folders the script writes to is read-only in there, so that a mistake cannot reach this machine.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

HERE: Final = Path(__file__).parent
PROGRAMS: Final = (
    "nvidia-smi",
    "df",
    "dpkg",
    "dpkg-query",
    "apt-get",
    "curl",
    "gpg",
    "nft",
    "tailscale",
    "systemctl",
    "k3s",
    "ufw",
    "firewall-cmd",
    "hostnamectl",
)
WRITTEN: Final = ("/etc", "/usr/local", "/usr/share/keyrings", "/var/lib")
"""Folders the script writes to: overlays in the box."""

CERTIFICATE: Final = "/var/lib/rancher/k3s/server/tls/client-admin.crt"
"""Of the kubeconfig's user."""
AGENT_CERTIFICATE: Final = "/var/lib/rancher/k3s/agent/client-kubelet.crt"
"""Of a further machine's kubelet."""


def missing() -> str:
    """Why no box can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "needs root: namespaces of network and mounts"
    wanted = ("unshare", "nsenter", "ip", "dpkg", "mount", "openssl")
    absent = [program for program in wanted if not shutil.which(program)]
    if absent:
        return f"needs {', '.join(absent)}"
    tried = subprocess.run(["unshare", "-mn", "true"], capture_output=True, text=True, timeout=10, check=False)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


class Namespace:
    """A network namespace (and, with mounts, a file system) held open by a sleeping process."""

    def __init__(self, *, mounts: bool = False) -> None:
        flags = ["-mn", "--propagation", "private"] if mounts else ["-n"]
        self._holder = subprocess.Popen(
            ["unshare", *flags, "sh", "-c", "echo up; exec sleep 900"], stdout=subprocess.PIPE
        )
        assert self._holder.stdout
        assert self._holder.stdout.readline() == b"up\n"
        self.pid = self._holder.pid
        self._enter = ["nsenter", "-t", str(self.pid), "-n", *(["-m"] if mounts else [])]

    def command(self, *words: str) -> list[str]:
        """The command line that runs `words` in here."""
        return [*self._enter, *words]

    def sh(self, text: str) -> str:
        """Runs shell commands; any that fails is an error."""
        done = subprocess.run(self.command("sh", "-ec", text), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        return done.stdout

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait(10)
        if self._holder.stdout:
            self._holder.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Box(Namespace):
    """A bare machine: one NIC `lan0` with 192.168.1.5, systemd said to run, programs on PATH that only record."""

    def __init__(self, folder: Path) -> None:
        super().__init__(mounts=True)
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        here = shlex.quote(str(folder))
        overlays = "\n".join(
            f"mkdir -p {here}/upper{path} {here}/work{path}\n"
            f"mount -t overlay overlay -o lowerdir={path},upperdir={here}/upper{path},workdir={here}/work{path} {path}"
            for path in WRITTEN
            if Path(path).is_dir()
        )
        links = "\n".join(f"ln -s {HERE}/stand_in.sh {here}/bin/{program}" for program in PROGRAMS)
        try:
            self.sh(
                f"""
                mount -t tmpfs tmpfs {here}
                mount -t tmpfs tmpfs /run
                mkdir -p {here}/bin {here}/state /run/systemd/system
                {overlays}
                mount -o remount,bind,ro /
                rm -f /etc/os-release
                printf 'ID=debian\\nVERSION_CODENAME=trixie\\n' > /etc/os-release
                {links}
                ip link set lo up
                ip link add lan0 type veth peer name lan0-peer
                ip link set lan0 up
                ip link set lan0-peer up
                ip address add 192.168.1.5/24 dev lan0
                ip route add default via 192.168.1.1 dev lan0 src 192.168.1.5
                """
            )
        except BaseException:
            self.close()
            raise

    def run(self, script: str, *words: str, user: str = "root", **env: str) -> subprocess.CompletedProcess[str]:
        """`script` piped into bash, as `ssh home sudo bash` does, with the words after `bash -s` if there are any."""
        switch = [] if user == "root" else ["setpriv", "--reuid", user, "--clear-groups"]
        return subprocess.run(
            self.command(*switch, "bash", *(["-s", *words] if words else [])),
            input=script, capture_output=True, text=True, timeout=60, check=False, env=self.env(env),
            start_new_session=True,
        )  # fmt: skip

    def env(self, more: Mapping[str, str]) -> dict[str, str]:
        path = f"{self._folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "BOX_STATE": f"{self._folder}/state", "LC_ALL": "C", **more}

    def path(self, inside: str) -> Path:
        """A path of the box, as seen from outside."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def state(self, name: str) -> Path:
        """What the stand-ins keep."""
        return self.path(f"{self._folder}/state/{name}")

    def calls(self) -> list[str]:
        kept = self.state("calls")
        return kept.read_text().splitlines() if kept.exists() else []

    def restarts(self) -> int:
        kept = self.state("restarts")
        return len(kept.read_text().splitlines()) if kept.exists() else 0

    def all_there_is(self) -> str:
        """Every file, folder and link where the script writes, with their contents' sums, and the packages."""
        where = " ".join(path for path in WRITTEN if self.path(path).is_dir())
        listed = f"find {where} /run -printf '%p %y %m %l\\n' | sort"
        sums = "find /etc /var/lib/pilotlight /usr/share/keyrings /run -type f -exec sha256sum {} + 2>/dev/null | sort"
        return self.sh(f"{listed}; {sums}; sort {self._folder}/state/packages 2>/dev/null || :")

    def files(self) -> dict[str, str]:
        """Every file the script wrote, with mode and content. What counts calls, or is random, is left out."""
        counts = {
            "state/calls",
            "state/failed",
            "state/restarts",
            "upper/etc/os-release",
            f"upper{CERTIFICATE}",
            f"upper{AGENT_CERTIFICATE}",
        }
        found: dict[str, str] = {}
        for root in (self.path(f"{self._folder}/upper"), self.path(f"{self._folder}/state"), self.path("/run")):
            for path in sorted(root.rglob("*")):
                name = f"{root.name}/{path.relative_to(root)}"
                if path.is_file() and not path.is_symlink() and name not in counts:
                    found[name] = f"{path.stat().st_mode:o} {path.read_text()}"
        return found
