"""The declared metrics, charts and alerts: named alike, few labels, and nothing that asks a lane."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from components.observability import metrics
from lab.errors import LabError
from lab.read import metrics as evaluated
from lab.read import query
from lab.read.promql import Window
from lab.read.stack import Stack

Render = Callable[..., Stack]
ALL: dict[str, Any] = {"lanes": ["home", "burst", "vm"], "alerts": {"email": "me@example.com"}}
NAME = re.compile(r"logging_googleapis_com:user_(\w+?)(?:_sum|_count|_bucket)?\{")
LABELS_MOST = 10
"""Of a metric of Google's (from memory)."""


def queries(stack: Stack) -> list[str]:
    [board] = stack.of_type("gcp:monitoring/dashboard:Dashboard")
    widgets = json.loads(board.inputs["dashboardJson"])["gridLayout"]["widgets"]
    asked = [data["timeSeriesQuery"]["prometheusQuery"] for one in widgets for data in one["xyChart"]["dataSets"]]
    policies = stack.of_type("gcp:monitoring/alertPolicy:AlertPolicy")
    conditions = [condition for policy in policies for condition in policy.inputs["conditions"]]
    return asked + [condition["conditionPrometheusQueryLanguage"]["query"] for condition in conditions]


@pytest.mark.parametrize("changes", [ALL, {"lanes": ["vm"]}, {"lanes": ["home"]}], ids=str)
def test_charts_and_alerts_ask_for_registered_metrics_alone(stack_of: Render, changes: dict[str, Any]) -> None:
    stack = stack_of(**changes)
    known = {one.inputs["name"].replace("-", "_") for one in stack.of_type(evaluated.METRIC)}
    assert {name for text in queries(stack) for name in NAME.findall(text)} <= known
    assert len(known) == len(metrics.declared(piloted=changes != {"lanes": ["vm"]}))


def test_every_metric_is_shown(stack_of: Render) -> None:
    text = " ".join(queries(stack_of(**ALL)))
    assert [one.name for one in metrics.declared(piloted=True) if f"_{one.name.replace('-', '_')}" not in text] == []


def test_labels_are_few_and_nothing_a_caller_says(stack_of: Render) -> None:
    for metric in evaluated.declared(stack_of(**ALL)):
        assert len(metric.labels) <= LABELS_MOST
        assert set(metric.labels) <= {"client", "lane", "status", "state", "from", "to", "whole"}
        assert 'resource.labels.service_name="pilotlight-' in metric.filter, "another stack may share the project"


@pytest.mark.parametrize(
    ("text", "entry", "found"),
    [
        ('a.b="x"', {"a": {"b": "x"}}, True),
        ('a.b="x"', {"a": {"b": "y"}}, False),
        ('a.b="x" AND a.c:*', {"a": {"b": "x"}}, False),
        ('a.b="x" AND NOT a.c:*', {"a": {"b": "x", "c": None}}, True),
        ("a.b:*", {"a": {"b": 0}}, True),
    ],
)
def test_a_filter_selects_as_cloud_logging_does(text: str, entry: dict[str, Any], found: bool) -> None:
    assert query.matches(text, entry) is found


@pytest.mark.parametrize("text", ['a.b=~"x"', "a.b", 'a="x" OR b="y"'])
def test_a_filter_that_the_lab_does_not_know_is_no_match(text: str) -> None:
    with pytest.raises(LabError, match="can't evaluate"):
        query.matches(text, {"a": "x"})


def window() -> Window:
    metric = evaluated.Metric(
        name="logging_googleapis_com:user_t",
        filter='jsonPayload.m="x"',
        labels={"lane": "jsonPayload.lane"},
        value="jsonPayload.ms",
        bounds=[2.0**number for number in range(9)],
    )
    lines = [{"lane": "home", "ms": 1.5}, {"lane": "home", "ms": "3.5"}, {"lane": "vm", "ms": 100}, {"lane": "vm"}]
    entries = [{"timestamp": "2026-11-29T12:00:00Z", "jsonPayload": {"m": "x", **line}} for line in lines]
    return Window([(metric, metric.points(entries))], 0, 1e11)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sum by (lane) (increase(N_sum{}[1m]))", {"home": 5.0, "vm": 100.0}),
        ('sum by (lane) (increase(N_count{lane!="vm"}[1m]))', {"home": 2.0}),
        ("sum by (lane) (increase(N_sum{}[1m])) / sum by (lane) (increase(N_count{}[1m]))", {"home": 2.5, "vm": 100.0}),
        ("sum by (lane) (increase(N_sum{}[1m])) > 50", {"vm": 100.0}),
        ("histogram_quantile(1, sum by (le, lane) (increase(N_bucket{}[1m])))", {"home": 4.0, "vm": 128.0}),
    ],
)
def test_promql_says_what_google_s_would(text: str, found: dict[str, float]) -> None:
    value = window().value(text.replace("N_", "logging_googleapis_com:user_t_"))
    assert {dict(labels)["lane"]: number for labels, number in value.items()} == found


@pytest.mark.parametrize(
    "text",
    ["sum by (nobody) (increase(N_sum{}[1m]))", "sum by (lane) (increase(N{}[1m]))",
     "sum by (lane) (increase(logging_googleapis_com:user_other{}[1m]))", "rate(N_sum{}[1m])"],
)  # fmt: skip
def test_a_query_that_can_show_nothing_is_refused(text: str) -> None:
    with pytest.raises(LabError):
        window().value(text.replace("N", "logging_googleapis_com:user_t"))
