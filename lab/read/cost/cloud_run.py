"""What Cloud Run bills: seconds of processors, memory and card, for as long as an instance is there.

Owns: services and jobs. Does not own: which service is burst (`lab.read.cloud_run`).
"""

from collections.abc import Sequence
from typing import Any, Final, cast

from components.machines.prices import HOURS
from lab.errors import LabError
from lab.read.cloud_run import has_gpu
from lab.read.cost.line import Line, rate, urns
from lab.read.stack import Resource, Stack

SECONDS: Final = 3600
"""Of an hour."""
UPTIME: Final = "gcp:monitoring/uptimeCheckConfig:UptimeCheckConfig"
"""It asks the public service more often than an instance ends."""
CARDS: Final = {"nvidia-l4": "run l4"}
"""Cloud Run's name of a card, without zonal redundancy -> the item in the file of prices."""


def services(stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """A line for each service, and for what the public one sends to its callers."""
    asked = bool(stack.of_type(UPTIME))
    found = [_service(resource, region, asked) for resource in sorted(resources, key=lambda one: has_gpu(one.inputs))]
    public = [resource for resource in resources if not has_gpu(resource.inputs)]
    traffic, logs = rate("traffic", region), rate("logs", region)
    return [
        *found,
        Line("answers to callers", urns(*public), use_usd=traffic.usd, use_per=traffic.per, note="text is little"),
        Line("logs", urns(*resources), use_usd=logs.usd, use_per=logs.per,
             note=f"the project's first {logs.free:g} {logs.per} a month are free"),
    ]  # fmt: skip


def jobs(_stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """They cost while they run, once for each model."""
    return [
        Line(
            "the weights' job", urns(job),
            use_usd=_hour_usd(job, job.inputs["template"]["template"], region), use_per="hour it runs",
            note="minutes, once for each model",
        )
        for job in resources
    ]  # fmt: skip


def _service(resource: Resource, region: str, asked: bool) -> Line:
    """`asked`: an uptime check keeps an instance of the public one awake."""
    template = cast(dict[str, Any], resource.inputs["template"])
    if any(item["resources"].get("cpuIdle", True) for item in template["containers"]):
        raise LabError(f"{resource.name}: a container with `cpu_idle` is billed by requests; the bill knows no such")
    hour = _hour_usd(resource, template, region)
    gpu = has_gpu(resource.inputs)
    always = max(int(template["scaling"]["minInstanceCount"]), asked and not gpu)
    kept = "`alerts.uptime_check`" if asked else "`gateway.min_instances`"
    seconds = rate("run cpu", region).free / _cpus(template)
    return Line(
        "lane burst" if gpu else "gateway",
        urns(resource),
        month_usd=always * HOURS * hour,
        use_usd=hour,
        use_per="hour of a further instance" if always else "hour awake",
        note="`burst.min_instances`" if gpu else f"{kept}; a billing account's first "
        + f"{seconds / SECONDS:.0f} hours a month are free",
    )  # fmt: skip


def _hour_usd(resource: Resource, template: dict[str, Any], region: str) -> float:
    """Of one instance with all its containers."""
    memory = sum(_gib(item["resources"]["limits"]["memory"]) for item in template["containers"])
    second = _cpus(template) * rate("run cpu", region).usd + memory * rate("run memory", region).usd
    if "nodeSelector" in template:
        card = template["nodeSelector"]["accelerator"]
        if card not in CARDS or not template.get("gpuZonalRedundancyDisabled"):
            raise LabError(f"{resource.name}: the bill knows {', '.join(CARDS)} without zonal redundancy, no other")
        second += rate(CARDS[card], region).usd
    return second * SECONDS


def _cpus(template: dict[str, Any]) -> float:
    return sum(_number(item["resources"]["limits"]["cpu"], {"m": 1 / 1000}) for item in template["containers"])


def _gib(text: str) -> float:
    return _number(text, {"Mi": 1 / 1024, "Gi": 1})


def _number(text: str, units: dict[str, float]) -> float:
    """A Kubernetes quantity, such as `512Mi` or `2`."""
    factor = next((factor for unit, factor in units.items() if text.endswith(unit)), 1)
    return float(text.rstrip("".join(units))) * factor
