"""The script that makes a bare Debian or Ubuntu machine with an NVIDIA card the home server, or its agent. Pure.

Owns: the one text that is piped into `ssh home sudo bash`, and what it leaves on the machine: container toolkit, K3s,
Tailscale, the guard of K3s' ports, and the units that follow a changing address. Does not own: NVIDIA's driver (a
restart comes with it), or what runs on the cluster (`home`).
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pulumi

from components.settings import Settings
from components.settings.declared_services import declared

_HERE: Final = Path(__file__).parent
_FILES: Final = _HERE / "files"
_END: Final = "END_OF_FILE"

JOIN: Final = (
    """`{ printf 'TOKEN=%q\\n' "$(ssh <first> sudo k3s token create --ttl 1h)"; pulumi stack output home_bootstrap """
    + "--show-secrets; } | ssh <second> sudo bash -s join 2`"
)
"""The command that makes a second machine the first one's agent; a third says `join 3`."""
K3S_VERSION: Final = "v1.36.4+k3s1"
"""K3s' stable channel (k3s-io/k3s#14553)."""
K3S_SHA256: Final = "835873f37245fc615f547a2fe2af9402a347875f13fa64a1f136de644955ea3f"
"""Of that release's `k3s` (amd64), as its own sha256sum-amd64.txt says."""
TOOLKIT_VERSION: Final = "1.20.1-1"
TOOLKIT_FINGERPRINT: Final = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
"""NVIDIA's key for its container packages."""
TAILSCALE_VERSION: Final = "1.102.5"
"""The gateway's own (`gateway.tailscale_image`)."""
TAILSCALE_FINGERPRINT: Final = "2596A99EAAB33821893C0A79458CA832957F5868"
RENEW_BEFORE_DAYS: Final = 90
"""K3s is started again in this last part of its certificates' year: earlier than the owner is told to come for a new
kubeconfig (`certificate.TOLD_BEFORE_DAYS`), and within the 120 days in which K3s renews them."""
IMAGES_GIB: Final = 40
"""Disk for K3s and vLLM's image, packed and unpacked; each service's cache comes on top."""

DRIVER_LEAST: Final = {"11": "450.80.02", "12": "525.60.13", "13": "580.65.06"}
"""Least driver for each CUDA major on a data-centre card (others need the image's own, `checks.sh` says why): any of
its minors runs on it, with a limited feature set
(docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html)."""
DRIVER_OWN: Final = {"12.8": "570.26", "12.9": "575.51.03", "13.0": "580.65.06"}
"""The driver that came with a CUDA version: with it, nothing is limited (CUDA's release notes, table of drivers)."""
VLLM_CUDA: Final = "13.0"
"""CUDA of vLLM's images whose tag names none."""


def cuda_of(image: str) -> str:
    """CUDA version of a vLLM image: `…-cu129` is 12.9."""
    found = re.search(r"-cu(\d\d)(\d)\b", image)
    return f"{found[1]}.{found[2]}" if found else VLLM_CUDA


def vllm_image(settings: Settings) -> str:
    """The vLLM image among the services that needs the newest driver; without one, the first service's image."""
    images = [service.image for service in declared(settings) if service.is_vllm]
    newest = max(images, key=lambda image: [int(part) for part in cuda_of(image).split(".")], default="")
    return newest or declared(settings)[0].image


def drivers(image: str) -> tuple[str, str]:
    """The least driver a vLLM image runs on, and the one it runs on without limits."""
    cuda = cuda_of(image)
    least = DRIVER_LEAST.get(cuda.partition(".")[0], max(DRIVER_LEAST.values()))
    return least, DRIVER_OWN.get(cuda, least)


def script(settings: Settings, auth_key: str, node_keys: Sequence[str] = ()) -> str:
    """The whole script, for every machine at home. It holds their keys (`node_keys` from the second on): a secret."""
    image = vllm_image(settings)
    least, own = drivers(image)
    values = {
        "HOME_NAME": settings.home.hostname,
        "NIC": settings.home.nic or "",
        "NODES": str(settings.home.nodes),
        "AUTH_KEY": auth_key,
        "VLLM_IMAGE": image,
        "DRIVER_LEAST": least,
        "DRIVER_OWN": own,
        "CPUS": str(settings.home.cpus or ""),
        "MEMORY_GIB": str(settings.home.memory_gib or ""),
        "DISK_GIB": str(IMAGES_GIB + sum(service.cache_gib for service in declared(settings))),
        "K3S_VERSION": K3S_VERSION,
        "K3S_SHA256": K3S_SHA256,
        "RENEW_BEFORE_DAYS": str(RENEW_BEFORE_DAYS),
        "TOOLKIT_VERSION": TOOLKIT_VERSION,
        "TOOLKIT_FINGERPRINT": TOOLKIT_FINGERPRINT,
        "TAILSCALE_VERSION": TAILSCALE_VERSION,
        "TAILSCALE_FINGERPRINT": TAILSCALE_FINGERPRINT,
    }
    head = [
        "#!/usr/bin/env bash",
        "# pilotlight: makes this machine the home GPU server. Holds a key: treat it as a password.",
        "# Run it as often as you like; what is done already stays as it is.",
        *(f"{name}={shlex.quote(value)}" for name, value in values.items()),
        f"NODE_KEYS=({shlex.join(node_keys)})",
    ]
    files = [_function(path) for path in sorted(_FILES.iterdir())]
    parts = [(_HERE / part).read_text() for part in ("checks.sh", "uninstall.sh", "k3s.sh", "join.sh", "bootstrap.sh")]
    return "\n".join([*head, "", *files, *parts])


def output(
    settings: Settings, auth_key: pulumi.Output[str | None], node_keys: Sequence[pulumi.Output[str]]
) -> pulumi.Output[str | None]:
    """The script as a stack's output, as secret as the keys; none for a stack that doesn't own home."""
    return pulumi.Output.all(auth_key, *node_keys).apply(
        lambda keys: script(settings, keys[0], keys[1:]) if keys[0] else None
    )


def _function(path: Path) -> str:
    """A file as the shell function that prints it, `guard.nft` as `guard_nft`."""
    text = path.read_text()
    assert _END not in text, path
    assert text.endswith("\n"), path
    name = re.sub(r"\W", "_", path.name)
    return f"{name}() {{\n  cat <<'{_END}'\n{text}{_END}\n}}\n"
