"""A lab with planted keys: nothing that it writes or shows holds one, but files that are its user's and end with it."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.lab import running
from tests.lab.conftest import declared_addresses
from tests.unit.security import leaks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures(declared_addresses.__name__)]
KEY = "sk-PLANTED-key-of-the-lab-0123456789"


def asked(url: str, key: str, folder: Path) -> int:
    """The status of one call; the caller's own text is in it, which no log may hold either."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": folder.name}], "max_tokens": 1})
    request = urllib.request.Request(f"{url}/chat/completions", body.encode(), {"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def held(folder: Path, values: list[str]) -> dict[str, set[str]]:
    """Files that hold one of the values, with those."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = {str(path.relative_to(folder)): leaks.holds(path.read_bytes(), values) for path in files}
    return {path: here for path, here in found.items() if here}


def command_lines(values: list[str]) -> list[str]:
    """Processes whose arguments, which everybody on the machine can read, hold one."""
    return [
        path.read_bytes().replace(b"\0", b" ").decode()[:80]
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.exists() and leaks.holds(path.read_bytes(), values)
    ]


def test_keys_are_in_the_users_own_files_alone_and_gone_with_the_lab(tmp_path: Path) -> None:
    given = tmp_path / "clients.json"
    given.write_text(json.dumps([{"name": "demo"}, {"name": "own", "key": KEY}]))
    with running.detached("--fake-models", "--time-scale", "50", "--config", f"clients=@{given}") as said:
        outputs = json.loads(running.lab("outputs", "--json").stdout)
        # The gateway's own key joins more than once, and is no output.
        made: list[str] = [outputs["api_keys"]["demo"], outputs["home_auth_key"].removesuffix("-once")]
        values, folder = [KEY, *made], running.folder()
        assert leaks.holds(said.encode(), [KEY, made[0]]), "whoever starts it gets a key"
        assert [asked(outputs["base_url"], key, folder) for key in (KEY, made[0], f"{KEY}-wrong")] == [200, 200, 401]
        assert command_lines(values) == []
        kept = held(folder, values)
        assert "state.json" in kept, "the search sees what is there"
        assert [path for path in kept if path.startswith("run/gateway/tailscale/")], "the mounted key is seen"
        # The stand-in of Tailscale's control plane knows the key that it takes.
        own = {path for path in kept if not path.startswith("run/gateway/tailscale/")}
        assert own == {"state.json", "tailnet.json"}
        loose = [str(path) for path in folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
        assert [path for path in loose if not path.startswith(f"{folder}/bin/")] == []
        assert folder.stat().st_mode & 0o777 == 0o700
        for command in (("status",), ("status", "--json"), ("usage",)):
            assert leaks.holds(running.lab(*command).stdout.encode(), values) == set(), command
    assert held(folder, values) == {}
    assert "lab: ending" in (folder / "lab.log").read_text(), "logs stay, to be read"
