"""Kubernetes' Pod Security Standards, as rules over a pod's spec.

Source: kubernetes.io/docs/concepts/security/pod-security-standards, the controls of "baseline" and "restricted" for
Linux. A level is what the cluster enforces; `faults` says what it would refuse, in its order.
"""

from collections.abc import Iterator
from typing import Any, Final, cast

Object = dict[str, Any]
VOLUMES: Final = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
"""Kinds that "restricted" takes."""
CAPABILITIES: Final = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip
"""Those that "baseline" lets a container add."""
SYSCTLS: Final = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip


def faults(pod: Object, level: str) -> list[str]:
    """What the level refuses of a pod's spec."""
    return [*_baseline(pod), *(_restricted(pod) if level == "restricted" else ())]


def _baseline(pod: Object) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is on"
    for volume in pod.get("volumes", ()):
        if "hostPath" in volume:
            yield f"volume {volume['name']} is a folder of the machine"
    for where, context in _contexts(pod):
        if context.get("privileged"):
            yield f"{where}: privileged"
        if extra := set(context.get("capabilities", {}).get("add", ())) - CAPABILITIES:
            yield f"{where}: adds {', '.join(sorted(extra))}"
        if context.get("seccompProfile", {}).get("type") == "Unconfined":
            yield f"{where}: seccomp is off"
        if context.get("appArmorProfile", {}).get("type") == "Unconfined":
            yield f"{where}: AppArmor is off"
        if context.get("procMount", "Default") != "Default":
            yield f"{where}: /proc is not masked"
        if {"user", "role"} & {key for key, value in context.get("seLinuxOptions", {}).items() if value}:
            yield f"{where}: an SELinux user or role of its own"
    for sysctl in pod.get("securityContext", {}).get("sysctls", ()):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    for container in _containers(pod):
        for port in container.get("ports", ()):
            if port.get("hostPort"):
                yield f"{container['name']}: port {port['hostPort']} of the machine"


def _restricted(pod: Object) -> Iterator[str]:
    whole = cast(Object, pod.get("securityContext", {}))
    for volume in pod.get("volumes", ()):
        if kinds := set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is a {', '.join(sorted(kinds))}"
    if whole.get("runAsUser") == 0:
        yield "the pod runs as root"
    for container in _containers(pod):
        context, name = cast(Object, container.get("securityContext", {})), container["name"]
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: may gain rights (allowPrivilegeEscalation)"
        if context.get("runAsNonRoot", whole.get("runAsNonRoot")) is not True:
            yield f"{name}: runAsNonRoot is not set"
        if context.get("runAsUser") == 0:
            yield f"{name}: runs as root"
        profile = cast(Object, context.get("seccompProfile", whole.get("seccompProfile")) or {})
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: no seccomp profile"
        capabilities = cast(Object, context.get("capabilities", {}))
        if "ALL" not in capabilities.get("drop", ()):
            yield f"{name}: keeps capabilities"
        if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
            yield f"{name}: adds capabilities"


def _containers(pod: Object) -> list[Object]:
    kinds = ("containers", "initContainers", "ephemeralContainers")
    return [cast(Object, one) for kind in kinds for one in pod.get(kind, ())]


def _contexts(pod: Object) -> Iterator[tuple[str, Object]]:
    yield "the pod", cast(Object, pod.get("securityContext", {}))
    for container in _containers(pod):
        yield container["name"], cast(Object, container.get("securityContext", {}))
