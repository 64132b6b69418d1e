"""What the bootstrap script does on a second machine, and on the first one when there are to be more.

A case takes a folder for its box and the script, raises AssertionError, and returns what was seen, for the table. The
first machine is a stand-in: its answers, its token, who is in the tailnet.
"""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.bootstrap.box import AGENT_CERTIFICATE, Box
from tests.bootstrap.script_cases import CHANGES, KEY, KUBECONFIG, LISTENS, refused, text_of

BEARER: Final = "abcdef.0123456789abcdef"
CA: Final = "the first machine's CA\n"
NODE_IP: Final = "/etc/rancher/k3s/config.yaml.d/50-pilotlight-node-ip.yaml"
CONFIG: Final = "/etc/rancher/k3s/config.yaml.d/10-pilotlight.yaml"
AGENT_CONFIG: Final = """server: "https://100.64.0.5:6443"
token-file: "/etc/pilotlight/k3s-token"
node-name: "home-2"
node-ip: "100.64.0.7"
flannel-iface: "tailscale0"
"""


def text() -> str:
    """The script of a stack with three machines at home."""
    return text_of(home={"nodes": 3}, node_keys=[f"{KEY}-2", f"{KEY}-3"])


def token(bearer: str = BEARER, ca: str = CA) -> str:
    """As `k3s token create` prints it: with the SHA-256 of the cluster's CA, so that nobody else can answer for it."""
    return f"K10{hashlib.sha256(ca.encode()).hexdigest()}::{bearer}"


def with_token(script: str, said: str) -> str:
    return f"TOKEN={said}\n{script}"


def first_knows(box: Box, bearer: str = BEARER) -> None:
    """The first machine's K3s takes this token, and none that it took before."""
    box.state("token").write_text(f"{bearer}\n")


NO_WAIT: Final = "ln -s /bin/true BOX/bin/sleep"
"""For cases in which something never comes."""


def no_wait(folder: Path, box: Box) -> None:
    box.sh(NO_WAIT.replace("BOX", str(folder)))


def _joined(run: subprocess.CompletedProcess[str], name: str = "home-2") -> None:
    assert run.returncode == 0, run.stderr
    assert run.stdout == "", "an agent has no kubeconfig to give"
    assert f"pilotlight: done: home gives {name} its pods" in run.stderr


def second_machine(folder: Path, script: str) -> str:
    with Box(folder) as box:
        first_knows(box)
        run = box.run(with_token(script, token()), "join", "2")
        _joined(run)
        calls = box.calls()
        assert calls.index("nft --file /etc/pilotlight/guard.nft") < calls.index("systemctl restart k3s-agent.service")
        assert box.path(CONFIG).read_text() == AGENT_CONFIG
        for unit in ("pilotlight-guard.service", "pilotlight-guard-watch.timer", "k3s-agent.service"):
            assert box.state(f"enabled-{unit}").exists(), unit
        # Its address is the tailnet's: nothing follows the home network's.
        assert not box.path("/etc/systemd/system/pilotlight-node-address.timer").exists()
        assert not box.path("/etc/systemd/system/k3s.service").exists()
        return "K3s' agent as home-2, by its tailnet address; nothing on stdout"


def third_machine(folder: Path, script: str) -> str:
    with Box(folder) as box:
        first_knows(box)
        _joined(box.run(with_token(script, token()), "join", "3"), "home-3")
        assert any("--hostname=home-3 " in call for call in box.calls())
        return "home-3, by a key of its own"


def secrets_are_not_shown(folder: Path, script: str) -> str:
    """The list of processes shows every argument; the token stays in one file, which K3s reads at each start."""
    with Box(folder) as box:
        first_knows(box)
        run = box.run(with_token(script, token()), "join", "2")
        _joined(run)
        for place in (run.stderr, *box.calls()):
            assert KEY not in place
            assert BEARER not in place
        kept = {name: text for name, text in box.files().items() if BEARER in text and not name.startswith("state/")}
        assert kept == {"upper/etc/pilotlight/k3s-token": f"100600 {token()}\n"}
        return "key and token in no argument or log; the token in one file of root's"


def again(folder: Path, script: str) -> str:
    """A year later, to renew the certificate: without a token, as the first one has ended."""
    with Box(folder) as box:
        first_knows(box)
        _joined(box.run(with_token(script, token()), "join", "2"))
        before, calls = box.files(), len(box.calls())
        first_knows(box, "none")
        for said in (script, with_token(script, token())):
            _joined(box.run(said, "join", "2"))
            assert {**box.files(), "state/token": ""} == {**before, "state/token": ""}
        assert [call for call in box.calls()[calls:] if call.startswith(CHANGES) and "--insecure" not in call
                and "metrics" not in call] == []  # fmt: skip
        box.sh(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=a "
            + f"-days 89 -out {AGENT_CERTIFICATE} 2>/dev/null"
        )
        _joined(box.run(script, "join", "2"))
        assert box.restarts() == 2
        return "no token, file or restart; one restart when its certificate ends within 90 days"


def deleted_and_joined_again(folder: Path, script: str) -> str:
    with Box(folder) as box:
        first_knows(box)
        _joined(box.run(with_token(script, token()), "join", "2"))
        no_wait(folder, box)
        box.state("nodes").write_text("")
        first_knows(box, another := "ghijkl.0123456789abcdef")
        run = box.run(script, "join", "2")
        refused(box, run, "home doesn't take the token (HTTP 401): it has ended", again=True)
        _joined(box.run(with_token(script, token(another)), "join", "2"))
        assert another in box.path("/etc/pilotlight/k3s-token").read_text()
        assert box.restarts() == 2
        return "refused with the old token, done with a new one"


def every_command_fails_once(folder: Path, script: str) -> str:
    said = with_token(script, token())
    with Box(folder / "clean") as clean:
        first_knows(clean)
        _joined(clean.run(said, "join", "2"))
        wanted, commands = clean.files(), set(clean.calls())
    with Box(folder / "failing") as box:
        first_knows(box)
        stopped = 0
        while (run := box.run(said, "join", "2", FAIL_ONCE="1")).returncode != 0 and stopped < 200:
            stopped += 1
            assert "stopped while" in run.stderr
            assert not box.path("/run/pilotlight-ca").exists()
        _joined(run)
        failed = set(box.state("failed").read_text().splitlines())
        assert commands <= failed
        assert box.files() == wanted
        return f"{len(failed)} commands failed, {stopped} runs stopped, then done"


def uninstalled(folder: Path, script: str) -> str:
    with Box(folder) as box:
        box.sh("apt-get update --print-uris >/dev/null; : >/run/pilotlight-bootstrap.lock")
        before = box.all_there_is()
        first_knows(box)
        _joined(box.run(with_token(script, token()), "join", "2"))
        assert box.all_there_is() != before
        run = box.run(script, "uninstall")
        assert run.returncode == 0, run.stderr
        assert (
            "home still counts home-2, as a machine that is off: `k3s kubectl delete node home-2` there" in run.stderr
        )
        assert box.all_there_is() == before
        assert not box.state("active-k3s-agent.service").exists()
        return "every file, folder and package as before; says what stays on the first machine"


def _asked_before(
    why: str, *, words: tuple[str, ...] = ("join", "2"), said: str = "", prepare: str = "", **env: str
) -> Callable[[Path, str], str]:
    """A case that ends with one sentence, and nothing on the machine has changed."""

    def case(folder: Path, script: str) -> str:
        with Box(folder) as box:
            first_knows(box)
            box.sh(prepare.replace("BOX", str(folder)) or ":")
            box.sh("apt-get update --print-uris >/dev/null 2>&1 || :; : > /run/pilotlight-bootstrap.lock")
            before = box.files()
            run = box.run(with_token(script, said or token()) if said != "-" else script, *words, **env)
            seen = refused(box, run, why)
            assert box.files() == before
            return f"{seen}; nothing changed"

    return case


def _stopped(
    why: str, *, said: str = "", prepare: str = "", joined: bool = False, **env: str
) -> Callable[[Path, str], str]:
    """A case that ends in the tailnet, before K3s was started (or after, for what only then can be seen)."""

    def case(folder: Path, script: str) -> str:
        with Box(folder) as box:
            first_knows(box)
            box.sh(prepare.replace("BOX", str(folder)) or ":")
            run = box.run(with_token(script, said or token()), "join", "2", **env)
            seen = refused(box, run, why, again=joined)
            if said:
                assert not box.path("/etc/pilotlight/k3s-token").exists()
            _joined(box.run(with_token(script, token()), "join", "2"))
            return f"{seen}; done once that is mended"

    return case


def alone(script: str) -> str:
    """The same script from a stack with one machine."""
    assert script.count("NODES=3\n") == 1
    return script.replace("NODES=3\n", "NODES=1\n")


def one_machine(folder: Path, script: str) -> str:
    why = "the stack says that there is one machine at home"
    with Box(folder) as box:
        run = box.run(with_token(alone(script), token()), "join", "2")
        assert "pulumi config set --path home.nodes 2" in run.stderr
        return refused(box, run, why)


def smaller_machine(folder: Path, script: str) -> str:
    """The settings count with one size: the smallest."""
    known = script.replace("CPUS=''\n", "CPUS=64\n").replace("MEMORY_GIB=''\n", "MEMORY_GIB=1\n")
    with Box(folder) as box:
        first_knows(box)
        cpus = box.sh("grep -c '^processor' /proc/cpuinfo").strip()
        run = box.run(with_token(known, token()), "join", "2")
        _joined(run)
        assert f"home.cpus {cpus} && pulumi config set --path home.memory_gib 1\n" in run.stderr
        return "fewer processors are told, more memory isn't"


def key_used_up(folder: Path, script: str) -> str:
    with Box(folder) as box:
        first_knows(box)
        box.state("key-used").touch()
        run = box.run(with_token(script, token()), "join", "2")
        assert "`pulumi up --replace '**tailnet-home-2-key'`" in run.stderr
        return refused(box, run, "the tailnet refused")


# --- the first machine ------------------------------------------------------------------------------------------------


def _served(run: subprocess.CompletedProcess[str]) -> None:
    assert run.returncode == 0, run.stderr
    assert run.stdout == KUBECONFIG


def first_of_several(folder: Path, script: str) -> str:
    with Box(folder) as box:
        _served(box.run(script))
        assert box.path(NODE_IP).read_text() == 'node-ip: "100.64.0.7"\n'
        assert box.path(CONFIG).read_text().endswith('  - home\nflannel-iface: "tailscale0"\n')
        # Another lease is nothing to K3s.
        box.sh("ip address flush dev lan0; ip address add 192.168.1.77/24 dev lan0")
        before = box.restarts()
        subprocess.run(
            box.command("sh", "-c", "NIC=tailscale0 /usr/local/lib/pilotlight/node-address"),
            env=box.env({}),
            check=True,
        )
        assert box.restarts() == before
        return "node and Flannel on tailscale0; another lease restarts nothing"


def from_one_to_several_and_back(folder: Path, script: str) -> str:
    """On a running server, by the same script again; alone, it is what it was before there was such a setting."""
    with Box(folder) as box:
        _served(box.run(alone(script)))
        one = {name: text for name, text in box.files().items() if "/etc/" in name}
        assert "flannel-iface" not in str(one)
        assert 'node-ip: "192.168.1.5"' in str(one)
        (certificate := box.path("/var/lib/rancher/k3s/server/tls/dynamic-cert.json")).write_text("192.168.1.5")
        _served(box.run(script))
        assert box.path(NODE_IP).read_text() == 'node-ip: "100.64.0.7"\n'
        assert certificate.read_text() == "{}\n", "K3s keeps one that names the old address"
        no_wait(folder, box)
        before, restarts = box.files(), box.restarts()
        _served(box.run(script, AGENT_OFF="1"))
        assert (box.files(), box.restarts()) == (before, restarts)
        _served(box.run(alone(script)))
        assert {name: text for name, text in box.files().items() if "/etc/" in name} == one
        return "its address is the tailnet's, then the home network's again, and every file as before"


PROMISES: Final = {
    "a second machine joins": second_machine,
    "a third": third_machine,
    "key and token": secrets_are_not_shown,
    "run again, a year later": again,
    "node deleted, joined again": deleted_and_joined_again,
    "every command of joining fails once": every_command_fails_once,
    "a second machine uninstalled": uninstalled,
    "a smaller machine": smaller_machine,
    "first of several": first_of_several,
    "from one machine to several, and back": from_one_to_several_and_back,
}
CASES: Final[dict[str, Callable[[Path, str], str]]] = {
    **PROMISES,
    "one machine in the stack": one_machine,
    "no number": _asked_before("'' is no further machine of 3 at home", words=("join",)),
    "a number too high": _asked_before("'4' is no further machine of 3 at home", words=("join", "4")),
    "the first one's number": _asked_before("'1' is no further machine of 3", words=("join", "1")),
    "another word": _asked_before("there is no 'joni' here", words=("joni", "2")),
    "no token": _asked_before("there is no token for the first machine's K3s", said="-"),
    "the server's own token": _asked_before(
        "the token isn't one that `k3s token create` prints", said=f"K10{'a' * 64}::server:{'b' * 32}"
    ),
    "a token without the CA": _asked_before("the token isn't one that", said=BEARER),
    "on the first machine itself": _asked_before(
        "this machine runs k3s.service already, which is the first machine's",
        prepare="cd /etc/systemd/system && echo '# Made by pilotlight.' > k3s.service",
    ),
    "an agent told to be the first": _asked_before(
        "this machine runs k3s-agent.service already, which is a further machine's",
        words=("install",),
        prepare="cd /etc/systemd/system && echo '# Made by pilotlight.' > k3s-agent.service",
    ),
    "another K3s' agent": _asked_before(
        "another K3s is installed here",
        prepare="cd /etc/systemd/system && echo 'ExecStart=k3s agent --node-ip 1.2.3.4' > k3s-agent.service",
    ),
    "driver 470 on a second machine": _asked_before("driver 470.256.02 is too old", DRIVER="470.256.02"),
    "disk too small on a second machine": _asked_before("79 GiB are free under /var/lib", FREE_GIB="79"),
    "port 10250 taken on a second machine": _asked_before(
        "port 10250 is taken by python3", prepare=LISTENS.replace("PORT", "10250")
    ),
    "called as the first one": _asked_before(
        "the tailnet calls this machine 'home', the stack calls it 'home-2'",
        prepare="echo home > BOX/state/tailnet",
    ),
    "its key used up": key_used_up,
    "the policy shows no first machine": _stopped("the tailnet shows no 'home' to this machine", HIDDEN="1"),
    "the home router knows a `home`": _stopped(
        "the tailnet shows no 'home' to this machine", HIDDEN="1", DNS_SAYS="192.168.1.7"
    ),
    "the first machine is off": _stopped("home (100.64.0.5) doesn't answer on port 6443 of the tailnet", FIRST_OFF="1"),
    "another cluster's token": _stopped("the token is of another cluster than home's", said=token(ca="another CA\n")),
    "a token that has ended": _stopped("home doesn't take the token (HTTP 401)", said=token("ghijkl.0123456789abcdef")),
    "not ready in time": _stopped("home-2 isn't ready after ten minutes", prepare=NO_WAIT, joined=True, NOT_READY="1"),
    "UDP 8472 closed in the tailnet": _stopped(
        "this machine has joined, but reaches no pod on home",
        prepare=NO_WAIT,
        joined=True,
        PODS_CLOSED="1",
    ),
}
