"""What Compute Engine bills: machines, their disks, the balancer in front of a group, and the way out through NAT.

Owns: these lines, and how many machines stand behind each. Does not own: what a lane is made of (`lab.read.vm`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from components.machines.prices import HOURS, price
from components.machines.speeds import machine
from lab.errors import LabError
from lab.read import pace, vm
from lab.read.cost.line import Line, rate, urns
from lab.read.stack import Resource, Stack

CHOICE: Final = "`vm.machine_type`, `vm.gpu`, `vm.spot`, `vm.replicas`"


def instances(_stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """Plain machines; the disk that holds the weights is a resource of its own."""
    found: list[Line] = []
    for resource in resources:
        boot = resource.inputs["bootDisk"]["initializeParams"]
        found += [
            Line(
                f"lane vm: {_title(resource.inputs)}",
                urns(resource),
                _month_usd(resource.inputs, region),
                note=CHOICE,
            ),
            _disks(urns(resource), [(boot["type"], boot["size"])], region, note="boots the machine"),
        ]
    return found


def groups(stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """Machines of a group: those that always run, and what a further one costs where an autoscaler may add it."""
    found: list[Line] = []
    for resource in resources:
        template, always = vm.template_of(stack, resource), vm.machines_of(stack, resource)
        scalers = vm.scalers_of(stack, resource)
        one = _month_usd(template.inputs, region)
        most = max((int(scaler.inputs["autoscalingPolicy"]["maxReplicas"]) for scaler in scalers), default=always)
        further = most > always and one is not None
        disks = [(disk["diskType"], disk["diskSizeGb"]) for disk in template.inputs["disks"]] * always
        covers = urns(resource, template, *scalers)
        found += [
            Line(
                f"lane vm: {f'{always} x ' if always > 1 else ''}{_title(template.inputs)}", covers,
                None if one is None else always * one,
                use_usd=one / HOURS if further and one is not None else 0.0,
                use_per="hour of a further machine" if further else "",
                note=CHOICE,
            ),
            _disks(covers, disks, region, note="`vm.disk_gib`"),
        ]  # fmt: skip
    return found


def disks(_stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """Disks that outlive a machine."""
    sizes = [(disk.inputs["type"], disk.inputs["size"]) for disk in resources]
    return [_disks(urns(*resources), sizes, region, note="`vm.disk_gib`")]


def nats(stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """By machines and by the gateway's own public address. Its clock runs whether anything flows or not."""
    machines = len(stack.of_type(vm.INSTANCE))
    machines += sum(vm.machines_of(stack, group) for token in vm.MANAGERS for group in stack.of_type(token))
    hour, address, traffic = (rate(f"nat {of}", region) for of in ("gateway", "address", "traffic"))
    return [
        Line(
            "Cloud NAT", urns(nat),
            HOURS * (machines * hour.usd + len(nat.inputs.get("natIps") or [""]) * address.usd),
            use_usd=traffic.usd, use_per=traffic.per, note="a new machine fetches image and weights through it",
        )
        for nat in resources
    ]  # fmt: skip


def rules(_stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """Balancers, by the hour of their forwarding rules."""
    hour, traffic = rate("forwarding rule", region), rate("balancer traffic", region)
    return [
        Line("internal balancer", urns(rule), HOURS * hour.usd, use_usd=traffic.usd, use_per=traffic.per,
             note="every group has one; spot capacity is a group")
        for rule in resources
    ]  # fmt: skip


def addresses(_stack: Stack, resources: Sequence[Resource], _region: str) -> list[Line]:
    """Internal ones alone, which are free."""
    if public := [one.name for one in resources if one.inputs.get("addressType") != "INTERNAL"]:
        raise LabError(f"{', '.join(public)}: a public address costs by the hour; the bill knows internal ones alone")
    return [Line("internal addresses", urns(*resources), note="free")]


def _title(inputs: Mapping[str, Any]) -> str:
    kind, gpu = pace.kind_of(inputs)
    row = machine(kind, gpu)
    return f"{row.title if row else kind}{', spot' if _is_spot(inputs) else ''}"


def _is_spot(inputs: Mapping[str, Any]) -> bool:
    return inputs["scheduling"]["provisioningModel"] == "SPOT"


def _month_usd(inputs: Mapping[str, Any], region: str) -> float | None:
    """Of one machine without its disks; None where the catalogue has no price."""
    row = machine(*pace.kind_of(inputs))
    there = row and price(row, region)
    if there is None:
        return None
    return there.spot if _is_spot(inputs) else there.on_demand


def _disks(covers: tuple[str, ...], sizes: Iterable[tuple[str, int]], region: str, *, note: str) -> Line:
    counted = Counter((kind, int(cast(Any, size))) for kind, size in sizes)
    told = ", ".join(f"{count} x {size} GiB {kind}" for (kind, size), count in counted.items())
    month = sum(count * size * rate(kind, region).usd for (kind, size), count in counted.items())
    return Line(f"disks: {told}", covers, month, note=note)
