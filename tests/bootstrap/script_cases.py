"""What the bootstrap script does on a bare machine, and on one where something is wrong: one function a case.

A case takes a folder for its box and the script, raises AssertionError, and returns what was seen, for the table.
"""

import hashlib
import json
import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from components.home import bootstrap
from components.settings.reading import read
from tests.bootstrap.box import CERTIFICATE, Box

KEY: Final = "tskey-auth-test"
KUBECONFIG: Final = "clusters:\n- cluster:\n    server: https://home:6443\n"
CHANGES: Final = (
    "apt-get -o",
    "dpkg --configure",
    "curl",
    "tailscale up",
    "systemctl restart",
    "systemctl --no-block try-restart",
)
"""Calls of a run that changes the machine."""
_BINARY_SHA256: Final = hashlib.sha256(b"k3s binary\n").hexdigest()
KILL: Final = 'set -T; n=0; trap \'n=$((n + 1)); [ "$n" != "$KILL_AT" ] || kill -9 0\' DEBUG\n'
"""Kills the script and its children before its KILL_AT-th command."""


def text() -> str:
    """The script of the default settings."""
    return text_of()


def text_of(node_keys: Sequence[str] = (), **changes: object) -> str:
    """The script of settings with these changes, with the stand-in's K3s for the real one."""
    config = {f"pilotlight:{key}": json.dumps(value) for key, value in changes.items()}
    settings = read({"gcp:project": "some-project", "gcp:region": "us-central1", **config}, stack="dev")
    made = bootstrap.script(settings, KEY, node_keys)
    assert made.count(bootstrap.K3S_SHA256) == 1
    return made.replace(bootstrap.K3S_SHA256, _BINARY_SHA256)


def _done(run: subprocess.CompletedProcess[str]) -> None:
    assert run.returncode == 0, run.stderr
    assert run.stdout == KUBECONFIG
    assert "pilotlight: done" in run.stderr


def refused(box: Box, run: subprocess.CompletedProcess[str], why: str, *, again: bool = False) -> str:
    """It ended with this reason, before K3s was started, and left no key."""
    assert run.returncode == 1, run.stderr
    assert why in run.stderr, run.stderr
    assert run.stdout == ""
    assert "stopped while" in run.stderr
    assert again or not any(call.startswith("systemctl restart k3s") for call in box.calls())
    assert KEY not in str(box.files())
    return f"refused: {why}"


def first_run(folder: Path, script: str) -> str:
    with Box(folder) as box:
        run = box.run(script)
        _done(run)
        calls = box.calls()
        assert calls.index("nft --file /etc/pilotlight/guard.nft") < calls.index("systemctl restart k3s.service")
        assert box.restarts() == 1
        assert 'node-ip: "192.168.1.5"' in str(box.files())
        # Here the default route is a cable's.
        assert "Wi-Fi" not in run.stderr
        for unit in ("pilotlight-guard.service", "pilotlight-node-address.timer", "k3s.service", "tailscaled.service"):
            assert box.state(f"enabled-{unit}").exists(), unit
        return f"{len(calls)} calls, kubeconfig alone on stdout"


def second_run(folder: Path, script: str) -> str:
    with Box(folder) as box:
        _done(box.run(script))
        before, calls = box.files(), len(box.calls())
        _done(box.run(script))
        assert box.files() == before
        changes = [call for call in box.calls()[calls:] if call.startswith(CHANGES)]
        assert changes == []
        return "no file, package, key or restart; the same kubeconfig"


def key_is_not_shown(folder: Path, script: str) -> str:
    with Box(folder) as box:
        run = box.run(script)
        _done(run)
        assert any(call.startswith("tailscale up") for call in box.calls())
        for place in (run.stderr, str(box.files()), *box.calls()):
            assert KEY not in place
        return "in no argument, log or file afterwards"


def every_command_fails_once(folder: Path, script: str) -> str:
    with Box(folder / "clean") as clean:
        _done(clean.run(script))
        wanted, commands = clean.files(), set(clean.calls())
    with Box(folder / "failing") as box:
        stopped = 0
        while (run := box.run(script, FAIL_ONCE="1")).returncode != 0 and stopped < 200:
            stopped += 1
            assert run.stdout == ""
            assert "stopped while" in run.stderr
            assert not box.path("/run/pilotlight-auth-key").exists()
        _done(run)
        failed = set(box.state("failed").read_text().splitlines())
        assert commands <= failed
        assert box.files() == wanted
        return f"{len(failed)} commands failed, {stopped} runs stopped, then done"


def killed_anywhere(folder: Path, script: str, stride: int = 7) -> str:
    with Box(folder / "clean") as clean:
        _done(clean.run(script))
        wanted = clean.files()
    with Box(folder / "killed") as box:
        (kill := box.state("kill")).write_text(KILL)
        killed = 0
        for at in range(1, 5000, stride):
            run = box.run(script, BASH_ENV=f"{folder}/killed/state/kill", KILL_AT=str(at))
            if run.returncode == 0:
                break
            killed += 1
            assert run.returncode == -9, run.stderr
            assert run.stdout in ("", KUBECONFIG)
        _done(box.run(script))
        kill.unlink()
        assert killed > 10
        assert box.files() == wanted
        return f"{killed} runs killed, each {stride} commands further, then done"


def cut_off(folder: Path, script: str) -> str:
    chance = random.Random(6)
    line_ends = [at + 1 for at, letter in enumerate(script[:-1]) if letter == "\n"]
    places = {*chance.sample(line_ends, 100), *chance.sample(range(len(script)), 100)}
    places |= set(range(len(script) - 40, len(script) - 1))
    with Box(folder) as box:
        box.state("script").write_text(script)
        before = box.files()
        loop = 'for at in "$@"; do head -c "$at" "$BOX_STATE/script" | bash >/dev/null 2>&1; done'
        words = box.command("sh", "-c", loop, "sh", *map(str, sorted(places)))
        subprocess.run(words, env=box.env({}), timeout=120, check=False)
        assert box.calls() == []
        assert box.files() == before
        return f"cut at {len(places)} places, nothing was run"


def _wrong(why: str, *, prepare: str = "", user: str = "root", **env: str) -> Callable[[Path, str], str]:
    """A case in which the machine is prepared like this, and the script ends with this reason."""

    def case(folder: Path, script: str) -> str:
        with Box(folder) as box:
            box.sh(prepare.replace("BOX", str(folder)) or ":")
            return refused(box, box.run(script, user=user, **env), why)

    return case


def _refused_before(why: str, *, prepare: str = "", **env: str) -> Callable[[Path, str], str]:
    """A case of a machine that had a life before: one sentence, and nothing on it has changed."""

    def case(folder: Path, script: str) -> str:
        with Box(folder) as box:
            box.sh(prepare.replace("BOX", str(folder)) or ":")
            # apt makes its lock file when it is asked anything.
            box.sh("apt-get update --print-uris >/dev/null 2>&1 || :; : > /run/pilotlight-bootstrap.lock")
            before = box.files()
            run = box.run(script, **env)
            seen = refused(box, run, why)
            assert box.files() == before
            assert not any(
                call.startswith((*CHANGES, "nft", "systemctl")) for call in box.calls()[1:] if "--print" not in call
            )
            return f"{seen}; nothing changed"

    return case


def _done_beside(prepare: str, note: str = "", **env: str) -> Callable[[Path, str], str]:
    """A case of a machine that had a life before: it works, and what was there stays as it was."""

    def case(folder: Path, script: str) -> str:
        with Box(folder) as box:
            box.sh(prepare or ":")
            before = box.files()
            run = box.run(script, **env)
            _done(run)
            assert note in run.stderr
            after = box.files()
            changed = [name for name in before if after.get(name) != before[name] and not name.startswith("state/")]
            assert changed == []
            return f"done{note and ', note: '}{note}; what was there is as it was"

    return case


GUIDES: Final = r"""
mkdir -p /etc/apt/sources.list.d
cd /etc/apt/sources.list.d
echo 'deb [signed-by=/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg]' \
  'https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH) /' > nvidia-container-toolkit.list
printf '%s\n' 'Types: deb' 'URIs: https://pkgs.tailscale.com/stable/debian/' 'Suites: trixie' 'Components: main' \
  'Signed-By: /usr/share/keyrings/tailscale-archive-keyring.gpg' > tailscale.sources
"""
"""What NVIDIA's guide leaves (a .list that names the architecture by a variable), and Tailscale's (as .sources)."""
LISTENS: Final = (
    "python3 -c 'import socket, time; s = socket.create_server((\"\", PORT)); print(1, flush=True); time.sleep(60)'"
    + " >BOX/state/up 2>&1 & until [ -s BOX/state/up ]; do :; done; rm BOX/state/up"
)


def guides_were_followed(folder: Path, script: str) -> str:
    with Box(folder) as box:
        box.sh(GUIDES)
        _done(box.run(script))
        # apt's own verdict: with a second key for one source it reads none at all.
        box.sh("/usr/bin/apt-get update --print-uris")
        assert "pilotlight-" not in str(
            [name for name in box.files() if "sources.list.d" in name or "keyrings" in name]
        )
        return "done with the sources that are there; apt reads them"


def own_source_beside_the_guides(folder: Path, script: str) -> str:
    """The guide was followed after the first run: apt is broken, and the script names the way out."""
    with Box(folder) as box:
        _done(box.run(script))
        box.sh(GUIDES)
        again = box.run(script)
        assert again.returncode == 1
        assert "apt can't read its sources: E: Conflicting values set for option Signed-By" in again.stderr
        assert "one called pilotlight-* may go" in again.stderr
        box.sh("rm /etc/apt/sources.list.d/pilotlight-*")
        _done(box.run(script))
        return "refused: apt can't read its sources; without pilotlight's file done"


def uninstalled(folder: Path, script: str) -> str:
    """On a machine with a life before: what was there stays, an own toolkit and the guides' sources among it."""
    with Box(folder) as box:
        box.sh(GUIDES)
        box.state("packages").write_text("curl 8.0\nlibnvidia-container1 1.0-1\n")
        box.sh("apt-get update --print-uris >/dev/null; : >/run/pilotlight-bootstrap.lock")
        before = box.all_there_is()
        _done(box.run(script))
        # What K3s leaves beside our files, and pods of their own mounts.
        box.sh(
            "mkdir -p /var/lib/kubelet/pods/1; mount -t tmpfs tmpfs /var/lib/kubelet/pods/1;"
            + "ip link add cni0 type bridge"
        )
        assert box.all_there_is() != before
        run = box.run(script, "uninstall")
        assert run.returncode == 0, run.stderr
        assert run.stdout == ""
        # Updated, and still there.
        updated = f"libnvidia-container1 {bootstrap.TOOLKIT_VERSION}"
        assert box.all_there_is() == before.replace("libnvidia-container1 1.0-1", updated)
        assert "cni0" not in box.sh("ip -oneline link")
        assert not box.state("tailnet").exists()
        assert not box.state("rules").exists()
        refused(box, box.run(script, "uninstall"), "there is no record of an installation here", again=True)
        return "every file, folder and package as before; a second time refused"


def uninstall_fails_once(folder: Path, script: str) -> str:
    with Box(folder) as box:
        box.sh("apt-get update --print-uris >/dev/null; : >/run/pilotlight-bootstrap.lock")
        before = box.all_there_is()
        _done(box.run(script))
        stopped = 0
        while (run := box.run(script, "uninstall", FAIL_ONCE="1")).returncode != 0 and stopped < 50:
            stopped += 1
        assert run.returncode == 0, run.stderr
        assert stopped > 3
        assert not box.state("rules").exists()
        assert box.all_there_is() == before
        return f"{stopped} runs stopped, then all is as before"


def old_driver_of_the_right_major(folder: Path, script: str) -> str:
    with Box(folder) as box:
        run = box.run(script, GPU="Tesla T4", DRIVER="550.163.01")
        _done(run)
        assert "older than the image's CUDA (575.51.03)" in run.stderr
        return "done, with a note"


def disk_filled_by_the_first_run(folder: Path, script: str) -> str:
    with Box(folder) as box:
        _done(box.run(script))
        _done(box.run(script, FREE_GIB="5"))
        return "done: what is full are the images"


def dpkg_was_cut_off(folder: Path, script: str) -> str:
    with Box(folder) as box:
        box.state("dpkg-cut-off").touch()
        _done(box.run(script))
        return "done: dpkg was told to go on"


def older_toolkit(folder: Path, script: str) -> str:
    with Box(folder) as box:
        box.state("packages").write_text("nvidia-container-toolkit 1.17.8-1\nlibnvidia-container1 1.17.8-1\n")
        run = box.run(script)
        _done(run)
        assert box.state("packages").read_text().count(f" {bootstrap.TOOLKIT_VERSION}\n") == 4
        for package in ("nvidia-container-toolkit", "libnvidia-container1"):
            assert f"pilotlight:   {package} [1.0] becomes {bootstrap.TOOLKIT_VERSION}\n" in run.stderr
        assert "tools [" not in run.stderr, "what is new replaces nothing"
        return "brought to the pinned version, each named"


def held_back(package: str, there: str, why: str = "") -> Callable[[Path, str], str]:
    """A package that its owner holds at a version; done if it is new enough."""

    def case(folder: Path, script: str) -> str:
        prepare = f"echo '{package} {there}' > BOX/state/packages"
        if why:
            return _refused_before(why, prepare=prepare, HELD=package)(folder, script)
        with Box(folder) as box:
            box.sh(prepare.replace("BOX", str(folder)))
            _done(box.run(script, HELD=package))
            return "done: it is new enough"

    return case


def new_toolkit_restarts_k3s(folder: Path, script: str) -> str:
    with Box(folder) as box:
        _done(box.run(script))
        newer = script.replace(bootstrap.TOOLKIT_VERSION, "9.0.0-1")
        _done(box.run(newer))
        _done(box.run(newer))
        assert box.restarts() == 2
        return "one restart, not two"


SIZE: Final = """
cd BOX/state
printf 'processor\\t: 0\\nmodel name\\t: a processor\\n\\nprocessor\\t: 1\\n' > cpuinfo
printf 'MemFree: 1 kB\\nMemTotal:       32797000 kB\\nMemAvailable: 2 kB\\n' > meminfo
mount --bind cpuinfo /proc/cpuinfo
mount --bind meminfo /proc/meminfo
"""
"""A machine of two processors and 31.3 GiB."""


def size_is_told(folder: Path, script: str) -> str:
    command = "pulumi config set --path home.cpus 2 && pulumi config set --path home.memory_gib 31\n"
    with Box(folder) as box:
        box.sh(SIZE.replace("BOX", str(folder)))
        run = box.run(script)
        _done(run)
        assert command in run.stderr
        # Settings that say the same, and others.
        for cpus, memory, told in ((2, 31, False), (2, 32, True), (4, 31, True)):
            known = script.replace("CPUS=''\n", f"CPUS={cpus}\n").replace("MEMORY_GIB=''\n", f"MEMORY_GIB={memory}\n")
            run = box.run(known)
            _done(run)
            assert (command in run.stderr) is told, run.stderr
        return "2 processors, 31 GiB; nothing where the settings say so"


def certificate_ends_soon(folder: Path, script: str) -> str:
    with Box(folder) as box:
        _done(box.run(script))
        before = box.restarts()
        for days, restarts in ((91, 0), (89, 1)):
            box.sh(
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=a "
                + f"-days {days} -out {CERTIFICATE} 2>/dev/null"
            )
            _done(box.run(script))
            assert box.restarts() - before == restarts, f"{days} days before the end"
        box.sh(f"openssl x509 -noout -checkend {300 * 86400} -in {CERTIFICATE} >/dev/null")
        _done(box.run(script))
        assert box.restarts() - before == 1, "a new certificate is left alone"
        return "89 days before its end one restart, and a new one; 91 before none"


def laptop_on_wifi(folder: Path, script: str) -> str:
    with Box(folder) as box:
        box.sh(
            "ip link set lan0 down; ip address flush dev lan0; ip link set lan0 name wlp2s0; ip link set wlp2s0 up;"
            + "ip address add 192.168.1.9/24 dev wlp2s0; ip route add default via 192.168.1.1 metric 600;"
            + "mount -t tmpfs tmpfs /sys/class/net; mkdir -p /sys/class/net/wlp2s0/phy80211"
        )
        run = box.run(script, CHASSIS="laptop")
        _done(run)
        assert "with its lid closed it sleeps" in run.stderr
        assert "note: wlp2s0 is Wi-Fi, whose power saving delays answers: `iw dev wlp2s0 set" in run.stderr
        assert 'node-ip: "192.168.1.9"' in str(box.files())
        return "done with wlp2s0's address, notes: lid, power saving"


CASES: Final[dict[str, Callable[[Path, str], str]]] = {
    "size of the machine": size_is_told,
    "uninstalled": uninstalled,
    "each command of uninstalling fails once": uninstall_fails_once,
    "bare machine": first_run,
    "run again": second_run,
    "key": key_is_not_shown,
    "every command fails once": every_command_fails_once,
    "killed anywhere": killed_anywhere,
    "cut off on its way": cut_off,
    "dpkg was cut off": dpkg_was_cut_off,
    "kubeconfig's certificate ends soon": certificate_ends_soon,
    "newer toolkit": new_toolkit_restarts_k3s,
    "older toolkit": older_toolkit,
    "older toolkit, held back": held_back(
        "libnvidia-container1",
        "1.17.8-1",
        f"libnvidia-container1 is older than {bootstrap.TOOLKIT_VERSION}, and held back",
    ),
    "newer toolkit, held back": held_back("nvidia-container-toolkit", "9.0.0-1"),
    "older Tailscale, held back": held_back("tailscale", "1.80.0", "tailscale is older than 1.102.5, and held back"),
    "driver 550, image of CUDA 12.9, data-centre card": old_driver_of_the_right_major,
    "driver 550, image of CUDA 12.9, GeForce": _refused_before(
        "needs 575.51.03 or newer on a card such as NVIDIA GeForce RTX 3090", DRIVER="550.163.01"
    ),
    "driver 470": _refused_before("driver 470.256.02 is too old: docker.io/vllm", GPU="Tesla T4", DRIVER="470.256.02"),
    "driver not installed": _wrong("no nvidia-smi", prepare="rm BOX/bin/nvidia-smi"),
    "no GPU": _wrong("nvidia-smi sees no GPU", GPU=""),
    "disk too small": _refused_before("79 GiB are free under /var/lib, images and weights need 80", FREE_GIB="79"),
    "disk of 8 TB with 400 GB free": _refused_before(
        "K3s keeps 5 % of the disk, 381 GiB, free", FREE_GIB="372", SIZE_GIB="7630"
    ),
    "full /var": _refused_before("/var/lib is full", FREE_GIB="0"),
    "disk filled by the first run": disk_filled_by_the_first_run,
    "not root": _wrong("this must run as root", user="65534"),
    "not Debian or Ubuntu": _wrong(
        "this is 'fedora ', not Debian or Ubuntu", prepare="echo 'ID=\"fedora\"' > /etc/os-release"
    ),
    "not amd64": _wrong("this machine isn't amd64", ARCHITECTURE="arm64"),
    "no systemd": _wrong("systemd isn't running", prepare="rmdir /run/systemd/system"),
    "NVIDIA's and Tailscale's guides followed": guides_were_followed,
    "a guide followed after the first run": own_source_beside_the_guides,
    "apt is broken already": _refused_before(
        "apt can't read its sources: E: Conflicting values set for option Signed-By",
        prepare=f"{GUIDES}sed 's/keyring.gpg/other.gpg/' nvidia* > x.list",
    ),
    "docker and its containerd": _done_beside(
        "mkdir -p /etc/docker /etc/containerd; echo '{}' > /etc/docker/daemon.json;"
        + "echo 'version = 2' > /etc/containerd/config.toml"
    ),
    "ufw": _refused_before("ufw is active, and drops what pods ask of this machine", UFW="Status: active"),
    "ufw that lets pods in": _done_beside("", UFW="Status: active\nAnywhere ALLOW 10.42.0.0/16"),
    "firewalld": _refused_before("firewalld is active", FIREWALLD="trusted\n  interfaces:\n  sources:"),
    "firewalld that lets pods in": _done_beside("", FIREWALLD="interfaces: tailscale0\n  sources: 10.42.0.0/16"),
    "port 80 taken": _refused_before("port 80 is taken by python3", prepare=LISTENS.replace("PORT", "80")),
    "port 6443 taken": _refused_before("port 6443 is taken by python3", prepare=LISTENS.replace("PORT", "6443")),
    "port 8080 in use": _done_beside(
        "mkdir -p /run/box; " + LISTENS.replace("PORT", "8080").replace("BOX/state", "/run/box")
    ),
    "two GPUs of one kind": _done_beside("", SECOND_GPU="NVIDIA GeForce RTX 3090"),
    "two GPUs, different": _refused_before(
        "different GPUs: NVIDIA GeForce RTX 3090 at 00000000:01:00.0;NVIDIA GeForce GT 1030 at 00000000:02:00.0",
        SECOND_GPU="NVIDIA GeForce GT 1030",
    ),
    "laptop": _done_beside("", note="this is a laptop: with its lid closed it sleeps", CHASSIS="laptop"),
    "laptop on Wi-Fi": laptop_on_wifi,
    "tailscale taken down": _refused_before("tailscale is logged in here, and down", TAILSCALE="Stopped"),
    "not approved in the tailnet": _refused_before(
        "waits for somebody to approve this machine", TAILSCALE="NeedsMachineAuth"
    ),
    "another K3s, with --node-ip": _refused_before(
        "another K3s is installed here",
        prepare="cd /etc/systemd/system && echo 'ExecStart=k3s server --node-ip 1.2.3.4' > k3s.service",
    ),
    "already running": _wrong(
        "this script is running already",
        prepare="exec 9>/run/pilotlight-bootstrap.lock; flock 9; sleep 15 >/dev/null 2>&1 & :",
    ),
    "forged key of NVIDIA's packages": _wrong("the key at https://nvidia.github.io", NVIDIA_KEY="other key"),
    "forged K3s": _wrong("what came as K3s v1.36.4+k3s1 isn't it", K3S_BINARY="other binary"),
    "key used up": _wrong("the tailnet refused", prepare="touch BOX/state/key-used"),
    "name taken in the tailnet": _wrong("the tailnet calls this machine 'home-1'", CALLED="home-1"),
    "name taken, joined before": _refused_before(
        "the tailnet calls this machine 'nas'", prepare="touch BOX/state/tailnet", CALLED="nas"
    ),
    "in a tailnet without the tag": _refused_before(
        "in the tailnet some.ts.net, but not as tag:home", prepare="touch BOX/state/tailnet", TAG="tag:other"
    ),
    "no address": _wrong("this machine's address isn't known", prepare="ip address flush dev lan0"),
}
