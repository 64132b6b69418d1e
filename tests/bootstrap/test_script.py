"""The bootstrap script on a machine of its own: every case, and that each case can fail."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bootstrap import box, script_cases

pytestmark = pytest.mark.skipif(bool(box.missing()), reason=box.missing())


SLOW = {"every command fails once", "each command of uninstalling fails once", "killed anywhere", "cut off on its way"}
"""These run the script dozens of times."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, case in script_cases.CASES.items()
    ],
)
def test_bootstrap(case: Callable[[Path, str], str], tmp_path: Path) -> None:
    case(tmp_path / "box", script_cases.text())


def own_files() -> dict[str, float]:
    """When this machine's own copies of what the script writes were changed last."""
    folders = ("/etc", "/etc/systemd/system", "/etc/apt/sources.list.d", "/etc/pilotlight", "/etc/rancher", "/var/lib")
    more = ("/usr/local/bin", "/usr/local/lib", "/usr/share/keyrings", "/run/pilotlight-bootstrap.lock")
    return {path: Path(path).stat().st_mtime for path in (*folders, *more) if Path(path).exists()}


def test_this_machine_is_left_alone(tmp_path: Path) -> None:
    before = own_files()
    script_cases.first_run(tmp_path / "box", script_cases.text())
    assert own_files() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "text", "instead"),
    [
        (script_cases.key_is_not_shown, '--auth-key="file:$KEY_FILE"', '--auth-key="$AUTH_KEY"'),
        (script_cases.first_run, "exec 3>&1 1>&2 </dev/null", "exec 3>&1 </dev/null"),
        (script_cases.second_run, '!= "$wanted" ] ||', '!= "" ] ||'),
        (script_cases.certificate_ends_soon, ' || certificate_ends_soon "$certificate"; then', "; then"),
        (script_cases.certificate_ends_soon, '"$((RENEW_BEFORE_DAYS * 86400))"', '"$((RENEW_BEFORE_DAYS * 90000))"'),
        (script_cases.CASES["older toolkit, held back"], "!= hold ]", "= hold ]"),
        (script_cases.older_toolkit, "$3 ~ /^\\[/ { print", "$3 ~ /^never/ { print"),
        (script_cases.second_run, "if ! k3s_is", "if ! false k3s_is"),
        (
            script_cases.every_command_fails_once,
            'nft --file "${GUARD:-/etc/pilotlight/guard.nft}"\n',
            "nft --file /dev/null || :\n",
        ),
        (script_cases.cut_off, "STEP=starting", "apt-get update"),
        (script_cases.size_is_told, '  tell_size\n  say "done"', '  say "done"'),
        (script_cases.size_is_told, '"MemTotal:"', '"MemFree:"'),
        (script_cases.size_is_told, '!= "$CPUS $MEMORY_GIB"', '!= "$CPUS"'),
        (script_cases.disk_filled_by_the_first_run, "[ -e /usr/local/bin/k3s ] || [ ", "[ "),
        (script_cases.uninstalled, " && $3 !~ /^\\[/", ""),
        (script_cases.uninstalled, "xargs -r umount", "cat"),
        (script_cases.uninstalled, "for name in $(recorded folder)", "for name in"),
        (script_cases.uninstalled, "made_if_missing file /usr/local/bin/k3s", ":"),
        (script_cases.CASES["NVIDIA's and Tailscale's guides followed"], 'source_there "$packages" ||', ""),
        (script_cases.CASES["driver 550, image of CUDA 12.9, GeForce"], " least=$DRIVER_OWN ;;", " ;;"),
        (script_cases.CASES["port 80 taken"], "(80|443|", "("),
        (script_cases.CASES["ufw"], "|| $told == *10.42.0.0/16*", "|| true"),
        (script_cases.CASES["tailscale taken down"], "    Stopped)", "    Stop)"),
        (script_cases.CASES["driver 470"], 'ge "$least"', "ge 1"),
        (script_cases.CASES["forged key of NVIDIA's packages"], '[ "$found" = "$4" ]', "true"),
        (script_cases.CASES["forged K3s"], "sha256sum --check --quiet", "cat"),
        (script_cases.CASES["already running"], "flock --nonblock 9", "true"),
    ],
)
def test_a_mistake_in_the_bootstrap_is_seen(
    case: Callable[[Path, str], str], text: str, instead: str, tmp_path: Path
) -> None:
    script = script_cases.text()
    assert script.count(text) == 1, script.count(text)
    with pytest.raises(AssertionError):
        case(tmp_path / "box", script.replace(text, instead))
