"""The dashboard: what happens now by lane, and what each client used by day.

Owns: the charts and their words. Does not own: the metrics (`metrics`), which lanes there are. Pure. Looking at it asks
Google's metrics alone, and wakes nothing.
"""

from typing import Any, Final

from components.observability import metrics
from components.observability.metrics import mean, quantile, slot_ms, total

NOW: Final = "${__interval}"
"""Google puts the width of the chart's points here."""
DAY: Final = "1d"
FAILED: Final = 'status=~"[45].."'
LANES: Final = ("lane",)
CLIENTS: Final = ("client",)


def document(prefix: str, *, piloted: bool) -> dict[str, Any]:
    """The dashboard's JSON."""
    return {
        "displayName": f"{prefix}: lanes and clients",
        "gridLayout": {
            "columns": "2",
            "widgets": [*_requests(prefix), *(_lanes(prefix) if piloted else ()), *_usage(prefix)],
        },
    }


def _requests(prefix: str) -> list[dict[str, Any]]:
    def waited(of: str) -> str:
        begun = total(metrics.BEGUN, prefix, NOW, by=LANES, of="_sum")
        lane = total(metrics.LANE, prefix, NOW, by=LANES, of="_sum")
        return f"({begun} - {lane}) / {total(metrics.BEGUN, prefix, NOW, by=LANES, of=of)} / 1000"

    return [
        chart(
            "Requests by lane; none: the gateway's own answers",
            total(metrics.REQUESTS, prefix, NOW, by=LANES),
            bars=True,
        ),
        chart("Errors by status", total(metrics.REQUESTS, prefix, NOW, by=("status",), where=FAILED), bars=True),
        chart(
            "Answers that broke off, or whose caller hung up", total(metrics.BROKEN, prefix, NOW, by=LANES), bars=True
        ),
        chart("Wait for a lane, mean, s", waited("_count")),
        chart("Until an answer begins, 95 %, ms", quantile(metrics.BEGUN, prefix, NOW, 0.95, by=LANES)),
        chart("Until an answer ends, 95 %, ms", quantile(metrics.ENDED, prefix, NOW, 0.95, by=LANES)),
    ]


def _lanes(prefix: str) -> list[dict[str, Any]]:
    return [
        chart("First token, mean, s", mean(metrics.FIRST_TOKEN, prefix, NOW, by=LANES)),
        chart("Longest wait in line, s", mean(metrics.LINE, prefix, NOW, by=())),
        chart("Minutes in each state", total(metrics.STATES, prefix, NOW, by=("lane", "state")), bars=True),
        chart("Slots in use, mean", mean(metrics.IN_FLIGHT, prefix, NOW, by=LANES)),
        chart("Tokens of answers", total(metrics.WRITTEN, prefix, NOW, by=LANES, of="_sum"), bars=True),
        chart("Tokens of prompts", total(metrics.READ, prefix, NOW, by=LANES, of="_sum"), bars=True),
        chart("Burst's start, mean, s", mean(metrics.WAKE, prefix, NOW, by=LANES)),
        chart("Moves between states", total(metrics.MOVES, prefix, NOW, by=("lane", "to")), bars=True),
    ]


def _usage(prefix: str) -> list[dict[str, Any]]:
    slot = slot_ms(prefix, DAY, by=("client", "lane"))
    return [
        chart("By day and client: requests", total(metrics.REQUESTS, prefix, DAY, by=CLIENTS)),
        chart("By day and client: errors", total(metrics.REQUESTS, prefix, DAY, by=CLIENTS, where=FAILED)),
        chart("By day, client and lane: seconds of a slot, of whole answers", f"{slot} / 1000"),
        chart("By day and client: bytes of requests", total(metrics.RECEIVED, prefix, DAY, by=CLIENTS, of="_sum")),
        chart("By day and client: bytes of answers", total(metrics.SENT, prefix, DAY, by=CLIENTS, of="_sum")),
    ]


def chart(title: str, query: str, *, bars: bool = False) -> dict[str, Any]:
    """One chart of one query."""
    kind = "STACKED_BAR" if bars else "LINE"
    return {
        "title": title,
        "xyChart": {"dataSets": [{"plotType": kind, "timeSeriesQuery": {"prometheusQuery": query}}]},
    }
