"""The registered metrics, charts and alerts on the log lines of a real lab: a renamed field leaves no chart empty."""

import contextlib
import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lab.read import alerts, metrics, usage
from lab.read.cloud import Cloud
from lab.read.promql import Window
from lab.read.stack import Stack, config_of, render
from tests.kit import until
from tests.lab.running import Running, detached, folder, lab

CONFIG = {
    "lanes": '["home", "burst", "vm"]',
    "home": '{"max_requests": 2}',
    "vm": '{"machine_type": "c3-highcpu-8"}',
    "clients": '[{"name": "demo"}, {"name": "few", "max_requests": 4}]',
    "alerts": '{"email": "me@example.com"}',
}
SERVICE = "pilotlight-dev-gateway"
DASHBOARD = "gcp:monitoring/dashboard:Dashboard"
NOT_HERE = {"alerts-key-ends": "asks the clock alone", "alerts-vm-stopped": "a metric of Google's own"}


@pytest.fixture(scope="module")
def stack() -> Stack:
    cloud = Cloud(port=8787)
    given = {f"pilotlight:{key}": value for key, value in CONFIG.items()}
    return render("dev", {**cloud.config(), **config_of("dev"), **given}, cloud.compute)


@pytest.fixture(scope="module")
def lines(declared_addresses: None) -> list[str]:  # noqa: ARG001
    """Of one run: each lane answers, somebody waits in line, hangs up, is refused, and burst starts.

    Also a client with a limit, whose requests come back to the gateway and wait for a lane there.
    """
    options = [word for key, value in CONFIG.items() for word in ("--config", f"{key}={value}")]
    with (
        detached("--fake-models", "--answer-in", "1", "--cold-start", "1", *options) as text,
        contextlib.closing(Running(text)) as here,
    ):
        body: dict[str, Any] = {"model": here.model, "messages": [{"role": "user", "content": "hi"}]}
        url = "/chat/completions"
        here.http.post(url, json=body, headers={"Authorization": "Bearer nobody"})
        with here.http.stream("POST", url, json={**body, "stream": True}, headers=here.authorized) as answer:
            next(answer.iter_raw())
        few = {"Authorization": f"Bearer {here.outputs['api_keys']['few']}"}
        with ThreadPoolExecutor(52) as callers:
            asked = [callers.submit(here.http.post, url, json=body, headers=here.authorized) for _ in range(40)]
            asked += [callers.submit(here.http.post, url, json=body, headers=few) for _ in range(12)]
            assert {call.result().status_code for call in asked} == {200}
        until(lambda: here.lane() == "burst" or here.lane() == "home", "the crowd is gone")
        with here.broken("home-refused"):
            here.settle("burst")
    return [line for path in sorted((folder() / "logs").glob("*.log")) for line in path.read_text().splitlines()]


def window(stack: Stack, lines: list[str]) -> Window:
    entries = metrics.entries(lines, SERVICE)
    return Window([(metric, metric.points(entries)) for metric in metrics.declared(stack)], 0, 1e11)


def charts(stack: Stack) -> Iterator[tuple[str, str]]:
    [board] = stack.of_type(DASHBOARD)
    for widget in json.loads(board.inputs["dashboardJson"])["gridLayout"]["widgets"]:
        for data in widget["xyChart"]["dataSets"]:
            yield widget["title"], data["timeSeriesQuery"]["prometheusQuery"]


def check_no_chart_is_empty(stack: Stack, lines: list[str]) -> None:
    seen = window(stack, lines)
    assert [title for title, query in charts(stack) if not seen.value(query)] == []


def check_alerts_can_be_evaluated(stack: Stack, lines: list[str]) -> None:
    seen = window(stack, lines)
    for policy in stack.of_type(alerts.POLICY):
        if policy.name not in NOT_HERE:
            for condition in policy.inputs["conditions"]:
                seen.value(condition["conditionPrometheusQueryLanguage"]["query"])


def test_every_chart_has_something_to_show(stack: Stack, lines: list[str]) -> None:
    check_no_chart_is_empty(stack, lines)
    check_alerts_can_be_evaluated(stack, lines)
    by_lane = window(stack, lines).value(next(query for title, query in charts(stack) if title.startswith("Requests")))
    assert {dict(labels)["lane"] for labels in by_lane} >= {"", "home", "burst"}


@pytest.mark.parametrize(
    "field",
    ["lane", "client", "status", "begun_ms", "lane_ms", "ended_ms", "whole", "bytes_read", "size", "state", "in_flight",
     "first_token_s", "prompt_tokens", "answer_tokens", "longest_s", "seconds", "from", "to", "message"],
)  # fmt: skip
def test_a_renamed_field_is_seen(stack: Stack, lines: list[str], field: str) -> None:
    """In the lines, as a new Caddy or a change of the pilot would."""
    renamed = [line.replace(f'"{field}":', '"renamed":') for line in lines]
    assert renamed != lines
    try:
        check_no_chart_is_empty(stack, renamed)
    except AssertionError:
        return
    known = window(stack, renamed)
    told = {dict(key)[field] for _, query in charts(stack) for key in known.value(query) if field in dict(key)}
    assert told == {""}, "the charts tell nothing apart"


def test_usage_adds_up_to_what_was_asked(lines: list[str]) -> None:
    found = usage.requests("\n".join(lines))
    assert {one.client for one in found} == {"demo", "few"}
    assert len([one for one in found if one.status == 200 and not one.broken]) >= 40
    [left] = [one for one in found if one.broken]
    assert left.lane == "home"
    assert 0 < left.slot_s < 60
    for one in found:
        assert (one.slot_s > 0) == (one.lane != usage.GATEWAY)


def check_charts_and_usage_agree(stack: Stack, lines: list[str]) -> None:
    """Of whole answers. A line's own time, by which the command counts, is no earlier than the answer's end."""
    [query] = [query for title, query in charts(stack) if "seconds of a slot" in title]
    shown = {(dict(key)["client"], dict(key)["lane"]): s for key, s in window(stack, lines).value(query).items()}
    used, told = defaultdict[tuple[str, str], float](float), defaultdict[tuple[str, str], float](float)
    for one in usage.requests("\n".join(lines)):
        if one.lane != usage.GATEWAY and not one.broken:
            used[one.client, one.lane] += one.slot_s
    for line in metrics.logged(lines):
        if "whole" in line and "client" in line:
            told[line["client"], line["lane"]] += (line["ended_ms"] - line["begun_ms"] + float(line["lane_ms"])) / 1000
    assert ("few", "home") in shown
    assert shown.keys() == used.keys()
    for key, seconds in shown.items():
        assert seconds <= used[key] + 0.001 * len(lines), f"{key}: more than it used, as with its wait"
        assert seconds == pytest.approx(told[key], abs=1e-6), f"{key}: of whole answers, and of nothing else"


def test_charts_and_usage_say_the_same_of_a_slot(stack: Stack, lines: list[str]) -> None:
    check_charts_and_usage_agree(stack, lines)


@pytest.mark.parametrize("without", ["whole", "begun", "lane"])
def test_a_chart_that_counts_the_wait_or_broken_answers_is_seen(stack: Stack, lines: list[str], without: str) -> None:
    [board] = stack.of_type(DASHBOARD)
    text = board.inputs["dashboardJson"]
    changed = text.replace("begun_sum{", "begun_count{") if without == "begun" else text
    changed = changed.replace("lane_sum{", "lane_count{") if without == "lane" else changed
    changed = changed.replace(r",whole=\"yes\"", "") if without == "whole" else changed
    assert changed != text
    other = dataclasses.replace(board, inputs={**board.inputs, "dashboardJson": changed})
    resources = [other if one is board else one for one in stack.resources]
    with pytest.raises(AssertionError):
        check_charts_and_usage_agree(dataclasses.replace(stack, resources=resources), lines)


def test_the_command_shows_what_the_lab_logged(lines: list[str]) -> None:
    assert lines
    shown = lab("usage").stdout
    assert "slot s" in shown
    assert " demo " in shown


def test_a_metric_without_its_label_is_refused(stack: Stack) -> None:
    """As Google would refuse it."""
    resources = [
        dataclasses.replace(one, inputs={**one.inputs, "labelExtractors": {}})
        if one.name == "observability-requests"
        else one
        for one in stack.resources
    ]
    with pytest.raises(metrics.LabError, match="an extractor for each label"):
        metrics.declared(dataclasses.replace(stack, resources=resources))
