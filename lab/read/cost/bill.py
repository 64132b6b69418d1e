"""The bill of a whole stack: every registered resource stands in a line, or among the free ones with its reason.

Owns: which type is read by what, that no resource is left out, and that no old price is summed up. Does not own: the
lines (`cloud_run`, `machines`, `rest`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from components.machines import prices
from lab.errors import LabError
from lab.read import vm
from lab.read.cloud_run import SERVICE, has_gpu
from lab.read.cost import cloud_run, machines, rest
from lab.read.cost.line import Line
from lab.read.stack import Resource, Stack

Reading = Callable[[Stack, Sequence[Resource], str], list[Line]]
PRICED: Final[Mapping[str, Reading]] = {
    SERVICE: cloud_run.services,
    vm.INSTANCE: machines.instances,
    **dict.fromkeys(vm.MANAGERS, machines.groups),
    "gcp:compute/disk:Disk": machines.disks,
    vm.RULE: machines.rules,
    "gcp:compute/routerNat:RouterNat": machines.nats,
    "gcp:compute/address:Address": machines.addresses,
    rest.JOB: cloud_run.jobs,
    "gcp:storage/bucket:Bucket": rest.buckets,
    "gcp:kms/cryptoKey:CryptoKey": rest.keys,
    "gcp:secretmanager/secretVersion:SecretVersion": rest.versions,
    "gcp:monitoring/alertPolicy:AlertPolicy": rest.alerts,
    "gcp:logging/metric:Metric": rest.metrics,
}
"""Type -> how all resources of it are read; in the bill's order. A line may cover other types, too."""
TAILSCALE: Final = "tailscale"
COMPONENTS: Final = "pilotlight"
"""First words of the types that are the tailnet's, and of those that are folders."""


@dataclass(frozen=True)
class Bill:
    """What a stack costs in its region, USD at list price."""

    region: str
    lines: tuple[Line, ...]
    free: Mapping[str, tuple[str, ...]]
    """Reason -> names of the resources."""

    @property
    def month_usd(self) -> float:
        """A month in which nobody calls, without what has no known price (`unknown`)."""
        return sum(line.month_usd or 0.0 for line in self.lines)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Lines that no price is known for."""
        return tuple(line.what for line in self.lines if line.month_usd is None)


def read(stack: Stack) -> Bill:
    """Raises `LabError` for a resource that the bill doesn't know, and in a region without prices."""
    resources = [resource for resource in stack.resources if _provider(resource) != COMPONENTS]
    region = _region(stack)
    free: dict[str, list[Resource]] = {}
    for resource in resources:
        if reason := rest.FREE.get(resource.type) or rest.FREE_PROVIDERS.get(_provider(resource)):
            free.setdefault(reason, []).append(resource)
    lines = [
        line for token, reading in PRICED.items() if (found := stack.of_type(token))
        for line in reading(stack, found, region)
    ]  # fmt: skip
    if tailnet := [resource for resource in resources if _provider(resource) == TAILSCALE]:
        lines += rest.tailnet(stack, tailnet, region)
    told = {urn for line in lines for urn in line.covers} | {one.urn for found in free.values() for one in found}
    if missing := [one for one in resources if one.urn not in told]:
        raise LabError(
            f"{', '.join(f'{one.name} ({one.type})' for one in missing)}: the bill doesn't know what that costs, so "
            + "the sum could be too small; add the type to PRICED in lab/read/cost/bill.py, or to FREE in rest.py"
        )
    return Bill(region, tuple(lines), {reason: tuple(one.name for one in found) for reason, found in free.items()})


def require_fresh(now: date) -> None:
    """Raises `LabError` if a price is older than a year."""
    if old := prices.old(now):
        first = old[0]
        raise LabError(
            f"components/machines/prices.csv: a price is at most a year old; {len(old)} are older, {first.item} in "
            + f"{first.region} is of {first.read}. Consequence: the sums would be those of another year. Fix: read "
            + "them anew where their rows say, or see the old sums with --old-prices."
        )


def _region(stack: Stack) -> str:
    """Of the gateway, and so of all."""
    [region] = {one.inputs["location"] for one in stack.of_type(SERVICE) if not has_gpu(one.inputs)}
    if region not in prices.regions():
        raise LabError(
            f"gcp:region: prices are known for {', '.join(prices.regions())}; {region} has none in "
            + "components/machines/prices.csv. Consequence: nothing could be summed up. Fix: see another region with "
            + "--config gcp:region=..., or add rows with their date and source."
        )
    return region


def _provider(resource: Resource) -> str:
    return resource.type.partition(":")[0]
