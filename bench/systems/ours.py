"""Ours: Caddy and pilot as declared, started as the lab starts them, and asked at Caddy's own port.

Owns: the order of starting, which core each container has, and an edit of Caddy's configuration for the question what a
part of it costs. Does not own: what is declared (`declared`), mounts and programs (`lab.run.folders`).

Caddy and pilot share the core of every other system, though on Cloud Run each has its own: their time counts together.
The tunnel is on the load's core, for in Cloud Run it is no part of either. Google's front is left out.
"""

import bz2
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.processes import Process, environment, started, until
from bench.systems import declared
from bench.systems.system import BURST, HOME, OTHER, PATH, VM, Lane, Place, Running, System
from lab.read.container import Container
from lab.read.images import BIN
from lab.read.plan import Plan
from lab.run import folders

CONFIG: Final = "caddy.json.bz2"
Edit = Callable[[dict[str, Any]], None]
VM_SETTINGS: Final = {**declared.ON_VM, "clients": declared.clients(1)}


def system(
    name: str,
    chosen: Callable[[], Plan],
    lane: Lane,
    *,
    lanes: Sequence[Lane] = (HOME, VM),
    edit: Edit | None = None,
    real_tunnel: bool = False,
) -> System:
    """The gateway of a plan, ready once `lane` answers. `edit` changes Caddy's configuration before the start."""

    @contextlib.contextmanager
    def start(place: Place) -> Generator[Running]:
        with _started(chosen(), place, edit, real_tunnel=real_tunnel) as (processes, key):
            headers = {"Authorization": f"Bearer {key}"}
            address = f"127.0.0.1:{place.port}"
            yield Running(address, processes, headers, lambda: served_by(address, headers) == lane.name)

    return System(name, start, lanes=tuple(lanes), ours=True, prepare=chosen)


def vm(name: str = "ours, VM lane", edit: Edit | None = None, **settings: Any) -> System:
    """Home is away, so the VM has everything."""
    chosen = {**VM_SETTINGS, **settings}
    return system(name, lambda: declared.declared(**chosen), VM, lanes=(VM,), edit=edit)


def home(name: str = "ours, home lane by SOCKS5", **settings: Any) -> System:
    """Home has everything, through the tunnel's proxy."""
    chosen = {**declared.SLOTS, "clients": declared.clients(1), **settings}
    return system(name, lambda: declared.declared(**chosen), HOME, lanes=(HOME, VM))


def burst(name: str = "ours, burst's hop with TLS", **settings: Any) -> System:
    """Home is away and burst warm."""
    chosen = {**declared.SLOTS, "clients": declared.clients(1), "lanes": ["home", "burst", "vm"], **settings}
    return system(name, lambda: declared.declared(**chosen), BURST, lanes=(BURST, VM))


def served_by(address: str, headers: dict[str, str]) -> str:
    """Which lane answers a request now; empty: none."""
    body = b'{"model":"m","messages":[{"role":"user","content":"ready?"}]}'
    connection = HTTPConnection(address, timeout=5.0)
    with contextlib.suppress(OSError):
        connection.request("POST", PATH, body, headers | {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.headers.get("X-Served-By", "") if answer.status == 200 else ""
    return ""


@contextlib.contextmanager
def _started(plan: Plan, place: Place, edit: Edit | None, *, real_tunnel: bool) -> Generator[tuple[list[Process], str]]:
    """Caddy and pilot, and the key that the asking client has."""
    run, programs = place.folder / "run", place.folder / "bin"
    shutil.rmtree(run, ignore_errors=True)
    for folder in (run, programs):
        folder.mkdir(parents=True, exist_ok=True)
    folders.write_programs(place.folder, programs)
    if not real_tunnel:
        relay = programs / "containerboot"
        words = f'{sys.executable} -m bench.load.socks "$TS_SOCKS5_SERVER" {plan.tailnet.home}={HOME.address}'
        relay.write_text(f"#!/bin/sh\nexec {words}\n")
        relay.chmod(0o755)
    write_tailnet(place.folder, plan)
    key = ""
    with contextlib.ExitStack() as stack:
        trusted = stack.enter_context(tls_front(place)) if plan.burst else None
        found: list[Process] = []
        for container in plan.gateway.containers:
            mounted = folders.mount(run, _edited(container, edit), fresh=True)
            env = {name: folders.translate(value, mounted) for name, value in container.env.items()}
            env |= {"LAB_TAILNET": str(place.folder / "tailnet.json"), "GCE_METADATA_HOST": OTHER.address}
            if container.name == plan.gateway.ingress:
                env["PORT"] = str(place.port)
                key = next(value for name, value in env.items() if name.startswith("CLIENT_KEY_BENCH"))
            if trusted:
                env["SSL_CERT_FILE"] = str(trusted)
            argv = [folders.translate(word, mounted) for word in (*container.command, *container.args)]
            cwd = Path(folders.translate(container.working_dir, mounted)) if container.working_dir else run
            base = environment()
            base["PATH"] = f"{programs}:{base['PATH']}"
            log = place.folder / f"{container.name}.log"
            log.unlink(missing_ok=True)
            core = place.load_core if container.name == "tailscale" else place.core
            process = Process(f"ours-{container.name}", argv, base | env, core, log, cwd)
            stack.callback(process.kill)
            if container.name != "tailscale":
                found.append(process)
        yield found, key


def write_tailnet(folder: Path, plan: Plan, fault: str | None = None) -> None:
    """The tailnet of the lab's stand-in for the tunnel, with a fault of its own."""
    tailnet = plan.tailnet
    document = {"auth_key": tailnet.auth_key, "trusted": tailnet.trusted,
                "hosts": {tailnet.home: HOME.address}, "faults": {tailnet.home: fault}}  # fmt: skip
    partial = folder / "tailnet.partial"
    partial.write_text(json.dumps(document))
    partial.replace(folder / "tailnet.json")


def _edited(container: Container, edit: Edit | None) -> Container:
    if edit is None or not any(CONFIG in mount.files for mount in container.mounts):
        return container
    mounts = [
        replace(mount, files={**mount.files, CONFIG: _changed(mount.files[CONFIG], edit)})
        if CONFIG in mount.files
        else mount
        for mount in container.mounts
    ]
    return replace(container, mounts=tuple(mounts))


def caddy_config(plan: Plan) -> dict[str, Any]:
    """Caddy's configuration of a plan."""
    [packed] = [mount.files[CONFIG] for one in plan.gateway.containers for mount in one.mounts if CONFIG in mount.files]
    return json.loads(bz2.decompress(packed))


def _changed(packed: bytes, edit: Edit) -> bytes:
    config = json.loads(bz2.decompress(packed))
    before = json.dumps(config)
    edit(config)
    assert json.dumps(config) != before, "the edit found nothing to change"
    return bz2.compress(json.dumps(config, separators=(",", ":")).encode())


@contextlib.contextmanager
def tls_front(place: Place) -> Generator[Path]:
    """Burst's HTTPS address on the load's core, as Google's front would be elsewhere; yields the root certificate."""
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": BURST.address}], "flush_interval": -1}
    server = {
        "listen": [f"{BURST.host}:{urlsplit(declared.BURST_URL).port}"],
        "automatic_https": {"disable_redirects": True},
        "protocols": ["h1"],
        "routes": [{"match": [{"host": [BURST.host]}], "handle": [proxy]}],
    }
    config = {
        "admin": {"disabled": True},
        "apps": {
            "http": {"servers": {"front": server}},
            "tls": {"automation": {"policies": [{"subjects": [BURST.host], "issuers": [{"module": "internal"}]}]}},
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
        },
    }
    home = place.folder / "front"
    home.mkdir(exist_ok=True)
    file, root = home / "caddy.json", home / "data/caddy/pki/authorities/local/root.crt"
    file.write_text(json.dumps(config))
    env = {"HOME": str(home), "XDG_DATA_HOME": f"{home}/data"}
    with started("front", [str(BIN / "caddy"), "run", "--config", str(file)], place.load_core, home, env) as process:
        until(lambda: root.exists() and os.path.getsize(root) > 0, "a certificate", 30.0, [process])
        yield root
