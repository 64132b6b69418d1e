"""The alert policies that the stack registers, evaluated over time as Google would.

Owns: when a condition is looked at, and from when on it is an incident. Does not own: what its query says at a moment
(`promql`), the points (`metrics`). Everything is seen at once here; Google's own points come minutes later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lab.errors import LabError
from lab.read.metrics import Metric, Point
from lab.read.promql import Moment
from lab.read.stack import Stack

POLICY: Final = "gcp:monitoring/alertPolicy:AlertPolicy"


@dataclass(frozen=True)
class Alert:
    """One policy's one condition."""

    name: str
    query: str
    every_s: float
    """Between two looks."""
    duration_s: float
    """How long it must hold."""

    def incident(self, points: Sequence[tuple[Metric, Sequence[Point]]], begin: float, end: float) -> list[float]:
        """The looks from `begin` to `end`, seconds since 1970, at which the owner has an incident."""
        found: list[float] = []
        since: float | None = None
        at = begin
        while at <= end:
            holds = bool(Moment(points, at).value(self.query))
            since = (at if since is None else since) if holds else None
            if since is not None and at - since >= self.duration_s:
                found.append(at)
            at += self.every_s
        return found


def declared(stack: Stack) -> list[Alert]:
    """The stack's alerts."""
    return [_alert(resource.name, resource.inputs) for resource in stack.of_type(POLICY)]


def _alert(name: str, inputs: Mapping[str, Any]) -> Alert:
    said = [condition.get("conditionPrometheusQueryLanguage") for condition in inputs["conditions"]]
    if len(said) != 1 or not said[0]:
        raise LabError(f"{name}: the lab evaluates policies of one condition, in PromQL")
    [said] = said
    return Alert(name, said["query"], _seconds(said["evaluationInterval"]), _seconds(said["duration"]))


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))
