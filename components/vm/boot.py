"""What the VM does at boot, as cloud-init user data for Container-Optimized OS.

Owns: the systemd units: weights, then the model server, and before it the driver of a card; that the server reaches
nobody (`close_egress.sh`). Does not own: what the server is told (`server`). COS mounts `/etc` fresh at every boot and
applies user data again, so nothing here may assume a first boot. Pure: text in, text out.

A failed fetch must not end the lane. `Requires=` would do that: systemd drops the model's start together with the
failed one and restarts only the latter. So the model merely wants the weights, looks for them, and tries again.
"""

import shlex
from pathlib import Path
from typing import Any, Final

import yaml

from components import ports
from components.models.shape import File
from components.settings import Lane, Settings
from components.vm import server

DEVICE: Final = "weights"
DIRECTORY: Final = "/mnt/disks/weights"
BOOT_IMAGE: Final = "cos-cloud/cos-stable"
BOOT_GIB: Final = 20
_FETCH: Final = "/etc/pilotlight/fetch_weights.sh"
_CLOSE: Final = "/etc/pilotlight/close_egress.sh"
_DRIVER: Final = "/var/lib/nvidia"
NAMED: Final = " --tags %b"
"""For a machine whose slots count once it is up: by a name of its own the pilot tells it from the others. systemd
puts in the boot's id, and llama.cpp shows it with its model (`/v1/models`), to no other end."""
_COMPILED: Final = "/cuda-cache"
"""Where the container keeps what CUDA compiled: the image has no code for a T4, so its first start compiles it."""


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
    projector = settings.contract.model.projector
    files = [server.weights(settings), *([projector] if projector else [])]
    document: dict[str, Any] = {
        "write_files": [
            *(
                {
                    "path": path,
                    "permissions": "0644",
                    "content": (Path(__file__).parent / Path(path).name).read_text(),
                }
                for path in (_FETCH, _CLOSE)
            ),
            {
                "path": "/etc/systemd/system/pilotlight-weights.service",
                "permissions": "0644",
                "content": _weights_unit(device, files),
            },
            *(
                [
                    {
                        "path": "/etc/systemd/system/pilotlight-gpu.service",
                        "permissions": "0644",
                        "content": _gpu_unit(),
                    }
                ]
                if settings.vm.gpu
                else []
            ),
            {
                "path": "/etc/systemd/system/pilotlight-model.service",
                "permissions": "0644",
                "content": _model_unit(settings),
            },
        ],
        "runcmd": ["systemctl daemon-reload", "systemctl start --no-block pilotlight-model.service"],
    }
    return "#cloud-config\n" + yaml.safe_dump(document, sort_keys=False, width=1000)


def _weights_unit(device: str, files: list[File]) -> str:
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


def _gpu_unit() -> str:
    # Needed at every boot, which finds the driver of the boot before; its archive comes from Google's own bucket and is
    # signed for this release of COS. The newest one, for COS' default may be older than the image's CUDA wants (570).
    # /var is mounted without the right to execute.
    return f"""[Unit]
Description=pilotlight: NVIDIA's driver for the card
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/cos-extensions install gpu -- -version=latest
ExecStart=/bin/sh -c 'mountpoint -q {_DRIVER} || mount --bind {_DRIVER} {_DRIVER}'
ExecStart=/bin/mount -o remount,exec {_DRIVER}
ExecStart={_DRIVER}/bin/nvidia-smi
Restart=on-failure
RestartSec=30
"""


def _card_options() -> list[str]:
    """What docker needs to hand the card on; COS has no runtime of NVIDIA's, so `--gpus` fails there."""
    return [
        "--volume", f"{_DRIVER}/lib64:/usr/local/nvidia/lib64",
        "--volume", f"{_DRIVER}/bin:/usr/local/nvidia/bin",
        "--volume", f"{DIRECTORY}{_COMPILED}:{_COMPILED}",
        "--device", "/dev/nvidia0:/dev/nvidia0",
        "--device", "/dev/nvidia-uvm:/dev/nvidia-uvm",
        "--device", "/dev/nvidiactl:/dev/nvidiactl",
        "--env", "LD_LIBRARY_PATH=/usr/local/nvidia/lib64",
        "--env", f"CUDA_CACHE_PATH={_COMPILED}",
    ]  # fmt: skip


def _model_unit(settings: Settings) -> str:
    gpu = bool(settings.vm.gpu)
    # `--publish` and not `--network host`: COS' own firewall admits SSH only, and docker opens a published port in it.
    run = [
        "/usr/bin/docker", "run", "--rm", "--name", "model",
        "--publish", f"{ports.VM}:{ports.VM}",
        # Nobody answers there, so a name that a caller sends is not found, at once and without a packet.
        "--dns", "127.0.0.1",
        "--volume", f"{DIRECTORY}:/models:ro",
        *(_card_options() if gpu else []),
        settings.vm.server_image,
        *server.arguments(settings),
    ]  # fmt: skip
    first = ["pilotlight-weights.service", *(["pilotlight-gpu.service"] if gpu else [])]
    ready = "\n".join(f"ExecStartPre=/usr/bin/systemctl is-active --quiet {unit}" for unit in first)
    return f"""[Unit]
Description=pilotlight: the model
Requires=docker.service
Wants={" ".join(first)}
After=docker.service {" ".join(first)}
StartLimitIntervalSec=0

[Service]
{ready}
ExecStartPre=-/usr/bin/docker rm --force model
ExecStartPre=/bin/bash {_CLOSE}
ExecStart={_line(run)}{NAMED if settings.further_slots(Lane.VM) else ""}
ExecStop=/usr/bin/docker stop model
Restart=always
RestartSec=5
TimeoutStartSec=infinity
"""


def _line(words: list[str]) -> str:
    """A command as a unit has it: quoted, and safe from systemd, which expands `%`, `$` and `\\` even inside quotes."""
    return shlex.join(words).replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")
