"""The log-based metrics that the stack registers, evaluated on log lines as Google would.

Owns: entries made of a program's lines, and points made of entries by the declared filters and extractors. Does not
own: the filters' language (`query`), what is drawn of the points (`promql`).
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from lab.errors import LabError
from lab.read import query
from lab.read.stack import Stack

METRIC: Final = "gcp:logging/metric:Metric"
_EXTRACT: Final = re.compile(r"EXTRACT\(([\w.]+)\)")
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """One line that a metric counts: when, seconds since 1970, under which labels, and the value of a distribution."""

    at: float
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Metric:
    """A registered metric."""

    name: str
    """As PromQL knows it."""
    filter: str
    labels: Mapping[str, str]
    """Field by label."""
    value: str
    """Field; empty for a metric that counts."""
    bounds: Sequence[float]
    """Of the buckets."""

    def points(self, entries: Iterable[Entry]) -> list[Point]:
        """Of the entries; a line without the value, or whose value is no number, is no point."""
        found: list[Point] = []
        for entry in entries:
            if not query.matches(self.filter, entry):
                continue
            labels = {label: _text(query.field(entry, path)) for label, path in self.labels.items()}
            value = _number(query.field(entry, self.value)) if self.value else 1.0
            if not math.isnan(value):
                found.append(Point(seconds(entry["timestamp"]), labels, value))
        return found


def declared(stack: Stack) -> list[Metric]:
    """The stack's metrics."""
    return [_metric(resource.inputs) for resource in stack.of_type(METRIC)]


def entries(lines: Iterable[str], service: str) -> list[Entry]:
    """Lines of a Cloud Run service's programs as Cloud Logging keeps them; a line that is no JSON is text."""
    resource = {"type": "cloud_run_revision", "labels": {"service_name": service}}
    return [{"resource": resource, "timestamp": line["time"], "jsonPayload": line} for line in logged(lines)]


def logged(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Those of a program's lines that are JSON with a time, as the gateway's programs write them."""
    for line in lines:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict) and "time" in content:
            yield cast(dict[str, Any], content)


def seconds(timestamp: str) -> float:
    """Of RFC 3339, whose fractions may be finer than Python reads."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", timestamp.replace("Z", "+00:00"))).timestamp()


def _metric(inputs: Mapping[str, Any]) -> Metric:
    keys = {label["key"] for label in inputs["metricDescriptor"].get("labels", [])}
    extractors: dict[str, str] = inputs.get("labelExtractors", {})
    if keys != extractors.keys():
        raise LabError(f"{inputs['name']}: Google wants an extractor for each label, and a label for each")
    buckets = inputs.get("bucketOptions", {}).get("exponentialBuckets")
    bounds = (
        [buckets["scale"] * buckets["growthFactor"] ** i for i in range(buckets["numFiniteBuckets"] + 1)]
        if buckets
        else []
    )
    return Metric(
        name="logging_googleapis_com:user_" + re.sub(r"\W", "_", inputs["name"]),
        filter=inputs["filter"],
        labels={label: _path(text) for label, text in extractors.items()},
        value=_path(inputs["valueExtractor"]) if "valueExtractor" in inputs else "",
        bounds=bounds,
    )


def _path(extractor: str) -> str:
    known = _EXTRACT.fullmatch(extractor)
    if not known:
        raise LabError(f"the lab can't evaluate the extractor {extractor!r}")
    return known[1]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
