"""A further machine at home: every case, and that each case can fail."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bootstrap import box, join_cases
from tests.bootstrap.join_cases import CASES

pytestmark = pytest.mark.skipif(bool(box.missing()), reason=box.missing())

QUICK = {"a second machine joins", "key and token", "from one machine to several, and back"}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name, marks=[] if name in QUICK else [pytest.mark.slow]) for name, case in CASES.items()],
)
def test_join(case: Callable[[Path, str], str], tmp_path: Path) -> None:
    case(tmp_path / "box", join_cases.text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "text", "instead"),
    [
        ("a second machine joins", 'node-ip: "$address"\n', ""),
        ("a second machine joins", 'flannel-iface: "tailscale0"\nEOF', "EOF"),
        ("a third", "${NODE_KEYS[NUMBER - 2]}", "${NODE_KEYS[0]}"),
        ("key and token", "(umask 077 && put", "(say $TOKEN && put"),
        ("key and token", "--config - \\\n", '--header "Authorization: Bearer ${TOKEN##*::}" \\\n'),
        ("key and token", '"$TOKEN_FILE" 600', '"$TOKEN_FILE" 644'),
        ("run again, a year later", "if ! node_ready; then", "if true; then"),
        ("run again, a year later", "/var/lib/rancher/k3s/agent/client-kubelet.crt", "/nothing"),
        ("node deleted, joined again", 'client-kubelet.crt "$TOKEN_FILE"', "client-kubelet.crt"),
        ("every command of joining fails once", 'rm -f "$KEY_FILE" "$CA_FILE"', 'rm -f "$KEY_FILE"'),
        ("a second machine uninstalled", "k3s.service k3s-agent.service; do", "k3s.service; do"),
        ("a second machine uninstalled", '  made node "$NAME"\n', ""),
        ("a smaller machine", '[ "$memory" -le "${MEMORY_GIB:-$memory}" ] ||', "true ||"),
        ("first of several", '[ "$NODES" -eq 1 ] || nic=tailscale0', ":"),
        ("first of several", '[ "$NODES" -eq 1 ] || config', "false && config"),
        ("from one machine to several, and back", '[ "$NODES" -eq 1 ] || nic=tailscale0', "nic=tailscale0"),
        ("from one machine to several, and back", "--selector=node-role.kubernetes.io/control-plane", "--all"),
        ("from one machine to several, and back", 'rm -f "$CERTIFICATE"\n    touch', "touch"),
        ("one machine in the stack", '[ "$NODES" -gt 1 ] ||', "true ||"),
        ("a number too high", '&& [ "$NUMBER" -le "$NODES" ]', ""),
        ("the first one's number", "^[2-9]$", "^[1-9]$"),
        ("no token", '[ -e "$TOKEN_FILE" ] ||', "true ||"),
        ("the server's own token", "::[a-z0-9]{6}\\.[a-z0-9]{16}$", ""),
        ("on the first machine itself", '[ "$unit" = "$1" ] ||', "true ||"),
        ("another K3s' agent", "for unit in k3s k3s-agent; do", "for unit in k3s; do"),
        ("called as the first one", '[ "${name%%.*}" = "$NAME" ]', '[[ $NAME == "${name%%.*}"* ]]'),
        ("the home router knows a `home`", " && [[ $FIRST =~ ^100", " && [[ $FIRST =~ .|^100"),
        ("another cluster's token", '[[ "$(sha256sum <"$CA_FILE")" == "${TOKEN:3:64} "* ]]', "true"),
        ("a token that has ended", '[ "$told" = 200 ]', '[ "$told" ]'),
        ("UDP 8472 closed in the tailnet", "9153/metrics && break", "9153/metrics || break"),
    ],
)  # fmt: skip
def test_a_mistake_in_joining_is_seen(case: str, text: str, instead: str, tmp_path: Path) -> None:
    script = join_cases.text()
    assert script.count(text) == 1, script.count(text)
    with pytest.raises(AssertionError):
        CASES[case](tmp_path / "box", script.replace(text, instead))
