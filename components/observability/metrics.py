"""Metrics that Google makes of the gateway's log lines: which lines, which fields, by which labels.

Owns: every filter and extractor, once; dashboard and alerts name these metrics. Does not own: the lines (`gateway`).
The lab evaluates the same filters on real lines, so that a field that is renamed leaves no chart empty unseen.

Google's limits: 10 labels and some 30,000 active series a metric, 500 metrics a project (from memory). Labels here are
clients, lanes, states and statuses, all of them few and declared; a caller's own words are no label.
"""

from dataclasses import dataclass
from typing import Any, Final

REQUEST: Final = 'jsonPayload.message="handled request"'
ANSWERED: Final = f"{REQUEST} AND jsonPayload.lane:*"
ACCOUNT: Final = 'jsonPayload.message="account"'
BY: Final = ("client", "lane")
GROWTH: Final = 1.3
"""Of one bucket over the one below: a quantile is off by less than that."""
BUCKETS: Final = 64
"""From 1 to 1.3^64, which is 19 million; of seconds, from a hundredth."""


@dataclass(frozen=True)
class LogMetric:
    """One metric: it counts lines, or with a `value` adds up and sorts what they say."""

    name: str
    title: str
    lines: str
    """Which lines of the gateway's, in Cloud Logging's query language."""
    labels: tuple[str, ...] = ()
    """Fields of the line, which become labels of the same name."""
    value: str = ""
    """A field that is a number."""
    unit: str = "1"

    def series(self, prefix: str, *, of: str = "", where: str = "") -> str:
        """Its series in PromQL; `of`: `_sum`, `_count` or `_bucket` of values; `where`: further matchers."""
        # Google's name for it: the type's special characters become underscores.
        name = f"logging_googleapis_com:user_{prefix}-{self.name}".replace("-", "_")
        return f'{name}{of}{{monitored_resource="cloud_run_revision"{where and ","}{where}}}'


REQUESTS: Final = LogMetric("requests", "Requests", REQUEST, (*BY, "status"))
BROKEN: Final = LogMetric(
    "broken", "Answers that broke off", f"{ANSWERED} AND NOT jsonPayload.whole:*", BY
)  # the caller hung up, or the lane did
BEGUN: Final = LogMetric("begun", "Until an answer begins", ANSWERED, (*BY, "whole"), "begun_ms", "ms")
LANE: Final = LogMetric("lane", "Of that, on the lane", ANSWERED, (*BY, "whole"), "lane_ms", "ms")
ENDED: Final = LogMetric("ended", "Until an answer ends", ANSWERED, BY, "ended_ms", "ms")
RECEIVED: Final = LogMetric("received", "Bytes of requests", REQUEST, ("client",), "bytes_read", "By")
SENT: Final = LogMetric("sent", "Bytes of answers", REQUEST, ("client",), "size", "By")
EVERY_GATEWAY: Final = (REQUESTS, BROKEN, BEGUN, LANE, ENDED, RECEIVED, SENT)
"""Of Caddy's access log."""

STATES: Final = LogMetric("states", "Minutes in a state", ACCOUNT, ("lane", "state"))
FIRST_TOKEN: Final = LogMetric("first-token", "First token", ACCOUNT, ("lane",), "first_token_s", "s")
IN_FLIGHT: Final = LogMetric("in-flight", "Slots in use", ACCOUNT, ("lane",), "in_flight")
READ: Final = LogMetric("prompt-tokens", "Tokens of prompts", ACCOUNT, ("lane",), "prompt_tokens")
WRITTEN: Final = LogMetric("answer-tokens", "Tokens of answers", ACCOUNT, ("lane",), "answer_tokens")
LINE: Final = LogMetric("line", "Longest wait in line", 'jsonPayload.message="line"', (), "longest_s", "s")
MOVES: Final = LogMetric("moves", "Moves between states", "jsonPayload.from:*", ("lane", "from", "to"))
WAKE: Final = LogMetric(
    "wake", "Burst's start", 'jsonPayload.from="warming" AND jsonPayload.to="warm"', ("lane",), "seconds", "s"
)
OF_THE_PILOT: Final = (STATES, FIRST_TOKEN, IN_FLIGHT, READ, WRITTEN, LINE, MOVES, WAKE)
"""Of the pilot's lines."""


def declared(*, piloted: bool) -> tuple[LogMetric, ...]:
    """The metrics of a stack: without a pilot there are no lines of it."""
    return EVERY_GATEWAY + (OF_THE_PILOT if piloted else ())


def filter_of(metric: LogMetric, service: str) -> str:
    """The lines, of this stack's gateway alone: another one may share the project."""
    return f'resource.type="cloud_run_revision" AND resource.labels.service_name="{service}" AND {metric.lines}'


def arguments(metric: LogMetric, prefix: str, service: str) -> dict[str, Any]:
    """The arguments of the metric's resource, but the project."""
    kind = "DISTRIBUTION" if metric.value else "INT64"
    found: dict[str, Any] = {
        "name": f"{prefix}-{metric.name}",
        "description": f"{metric.title}, of the gateway's log lines.",
        "filter": filter_of(metric, service),
        "metric_descriptor": {
            "metric_kind": "DELTA",
            "value_type": kind,
            "unit": metric.unit,
            "display_name": f"{prefix}: {metric.title}",
            "labels": [{"key": label, "value_type": "STRING"} for label in metric.labels],
        },
        "label_extractors": {label: f"EXTRACT(jsonPayload.{label})" for label in metric.labels},
    }
    if metric.value:
        buckets = {"num_finite_buckets": BUCKETS, "growth_factor": GROWTH, "scale": 0.01 if metric.unit == "s" else 1}
        found |= {
            "value_extractor": f"EXTRACT(jsonPayload.{metric.value})",
            "bucket_options": {"exponential_buckets": buckets},
        }
    return found


def total(metric: LogMetric, prefix: str, window: str, *, by: tuple[str, ...], of: str = "", where: str = "") -> str:
    """PromQL: how many lines, or what they add up to, in each `window`."""
    return f"sum by ({', '.join(by)}) (increase({metric.series(prefix, of=of, where=where)}[{window}]))"


def slot_ms(prefix: str, window: str, *, by: tuple[str, ...]) -> str:
    """PromQL: the time of lanes' slots that whole answers took; `lab.read.usage` adds it up in the same way."""
    whole = 'whole="yes"'
    lane, begun = (total(metric, prefix, window, by=by, of="_sum", where=whole) for metric in (LANE, BEGUN))
    return f"({lane} - {begun} + {total(ENDED, prefix, window, by=by, of='_sum')})"


def mean(metric: LogMetric, prefix: str, window: str, *, by: tuple[str, ...]) -> str:
    """PromQL: of the values in each `window`."""
    added, counted = (total(metric, prefix, window, by=by, of=of) for of in ("_sum", "_count"))
    return f"{added} / {counted}"


def quantile(metric: LogMetric, prefix: str, window: str, share: float, *, by: tuple[str, ...]) -> str:
    """PromQL: what that share of the values did not exceed, as well as the buckets tell it."""
    return f"histogram_quantile({share:g}, {total(metric, prefix, window, by=('le', *by), of='_bucket')})"
