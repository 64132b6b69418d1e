"""What the VM does at boot, as cloud-init user data for Container-Optimized OS.

Owns: the two systemd units (weights, then the model server) and the server's arguments. COS mounts `/etc` fresh at
every boot and applies user data again, so nothing here may assume a first boot. Pure: text in, text out.

A failed fetch must not end the lane. `Requires=` would do that: systemd drops the model's start together with the
failed one and restarts only the latter. So the model merely wants the weights, looks for them, and tries again.
"""

import shlex
from pathlib import Path
from typing import Any, Final

import yaml

from components import ports
from components.settings import Settings
from components.settings.vm import Weights

DEVICE: Final = "weights"
DIRECTORY: Final = "/mnt/disks/weights"
BOOT_IMAGE: Final = "cos-cloud/cos-stable"
BOOT_GIB: Final = 20
_FETCH: Final = "/etc/pilotlight/fetch_weights.sh"


def server_arguments(settings: Settings) -> list[str]:
    """Arguments of llama.cpp's server inside its container."""
    vm = settings.vm
    arguments = [
        "--host", "0.0.0.0",
        "--port", str(ports.VM),
        "--model", f"/models/{vm.model.filename}",
        "--alias", settings.model.name,
        "--ctx-size", str(vm.context_tokens),
        "--parallel", str(vm.max_requests),
        "--metrics",
    ]  # fmt: skip
    if vm.projector:
        arguments += ["--mmproj", f"/models/{vm.projector.filename}"]
    return arguments


def metadata(settings: Settings) -> dict[str, str]:
    """A machine's metadata."""
    return {
        "user-data": user_data(settings),
        # COS patches itself: it downloads the new release beside the running one and boots it next time.
        "cos-update-strategy": "update_enabled",
        "block-project-ssh-keys": "true",
    }


def user_data(settings: Settings) -> str:
    """The `#cloud-config` document."""
    device = f"/dev/disk/by-id/google-{DEVICE}"
    files = [weights for weights in (settings.vm.model, settings.vm.projector) if weights]
    document: dict[str, Any] = {
        "write_files": [
            {
                "path": _FETCH,
                "permissions": "0644",
                "content": (Path(__file__).parent / "fetch_weights.sh").read_text(),
            },
            {
                "path": "/etc/systemd/system/pilotlight-weights.service",
                "permissions": "0644",
                "content": _weights_unit(device, files),
            },
            {
                "path": "/etc/systemd/system/pilotlight-model.service",
                "permissions": "0644",
                "content": _model_unit(settings),
            },
        ],
        "runcmd": ["systemctl daemon-reload", "systemctl start --no-block pilotlight-model.service"],
    }
    return "#cloud-config\n" + yaml.safe_dump(document, sort_keys=False, width=1000)


def _weights_unit(device: str, files: list[Weights]) -> str:
    fetch = ["/bin/bash", _FETCH, DIRECTORY, *(part for file in files for part in (file.url, file.sha256))]
    return f"""[Unit]
Description=pilotlight: model weights on their own disk, fetched once and checked
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStartPre=/bin/sh -c 'blkid {device} || mkfs.ext4 -q -m 0 {device}'
ExecStartPre=/bin/mkdir -p {DIRECTORY}
ExecStartPre=/bin/sh -c 'mountpoint -q {DIRECTORY} || mount {device} {DIRECTORY}'
ExecStart={_line(fetch)}
Restart=on-failure
RestartSec=30
"""


def _model_unit(settings: Settings) -> str:
    # `--publish` and not `--network host`: COS' own firewall admits SSH only, and docker opens a published port in it.
    run = [
        "/usr/bin/docker", "run", "--rm", "--name", "model",
        "--publish", f"{ports.VM}:{ports.VM}",
        "--volume", f"{DIRECTORY}:/models:ro",
        settings.vm.image,
        *server_arguments(settings),
    ]  # fmt: skip
    return f"""[Unit]
Description=pilotlight: the model on this machine's processors
Requires=docker.service
Wants=pilotlight-weights.service
After=docker.service pilotlight-weights.service
StartLimitIntervalSec=0

[Service]
ExecStartPre=/usr/bin/systemctl is-active --quiet pilotlight-weights.service
ExecStartPre=-/usr/bin/docker rm --force model
ExecStart={_line(run)}
ExecStop=/usr/bin/docker stop model
Restart=always
RestartSec=5
TimeoutStartSec=infinity
"""


def _line(words: list[str]) -> str:
    """A command as a unit has it: quoted, and safe from systemd, which expands `%` and `$` even inside quotes."""
    return shlex.join(words).replace("%", "%%").replace("$", "$$")
