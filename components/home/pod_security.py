"""What Kubernetes refuses in the namespaces at home: the levels of its Pod Security Standards, as labels. Pure.

Owns: the level of each namespace, and why. Does not own: what a pod asks for (`charts/ai-service`, NVIDIA's chart).
"""

from collections.abc import Mapping
from typing import Final

from components.home.bootstrap import K3S_VERSION
from components.settings import Settings
from components.settings.declared_services import declared

ROOT: Final = 0
_LABEL: Final = "pod-security.kubernetes.io/"
VERSION: Final = K3S_VERSION.rpartition(".")[0]
"""Of the rules: those of the K3s that was tried, so that a newer one refuses no pod that ran before."""


def level(settings: Settings) -> str:
    """Of the services. `restricted`, unless one's image runs as root: `baseline` refuses all else that leads out of a
    container but root itself."""
    return "baseline" if any(service.uid == ROOT for service in declared(settings)) else "restricted"


def services(settings: Settings) -> Mapping[str, str]:
    """Labels of the services' namespace; what `restricted` would refuse is warned of in any case."""
    return {**_labels("enforce", level(settings)), **_labels("warn", "restricted")}


def plugin() -> Mapping[str, str]:
    """Labels of the namespace with NVIDIA's plugin and Node Feature Discovery, which mount folders of the machine: the
    kubelet's socket, and what tells of its devices. No level but this one takes such a pod."""
    return _labels("enforce", "privileged")


def _labels(mode: str, level: str) -> dict[str, str]:
    return {f"{_LABEL}{mode}": level, f"{_LABEL}{mode}-version": VERSION}
