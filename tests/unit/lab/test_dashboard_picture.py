"""The drawing of the declared dashboard: every series that a query has, and nothing that it hasn't."""

import math
from typing import Any, cast

from lab.measure import dashboard
from lab.read.promql import Labels, Series, Window


class Fixed:
    """A window in which each query has a given value."""

    def __init__(self, **values: Series) -> None:
        self._values = values

    def value(self, query: str) -> Series:
        return self._values[query]


def widget(title: str, query: str, kind: str) -> dict[str, Any]:
    return {
        "title": title,
        "xyChart": {"dataSets": [{"plotType": kind, "timeSeriesQuery": {"prometheusQuery": query}}]},
    }


HOME: Labels = (("lane", "home"),)
NONE: Labels = (("lane", ""),)
DOCUMENT = {"gridLayout": {"widgets": [widget("A <b>", "a", "STACKED_BAR"), widget("B", "b", "LINE")]}}


def test_each_series_has_its_value_in_each_step() -> None:
    windows = [Fixed(a={HOME: 2.0}, b={}), Fixed(a={HOME: 1.0, NONE: 3.0}, b={(): 1500.0})]
    bars, line = dashboard.charts(DOCUMENT, cast(list[Window], windows))
    assert (bars.bars, line.bars) == (True, False)
    assert bars.series["home"] == [2.0, 1.0]
    assert math.isnan(bars.series["none"][0])
    text = dashboard.svg("t", [bars, line])
    assert "A &lt;b&gt;" in text
    assert (text.count("<circle"), text.count(">1.5k<")) == (1, 1)
    assert text.count('fill="#1d4ed8"/>') + text.count('fill="#c2410c"/>') == 3 + 2 + 2, "bars, legends, one point"


def test_a_chart_without_any_series_is_an_empty_one() -> None:
    [chart, _] = dashboard.charts(DOCUMENT, cast(list[Window], [Fixed(a={}, b={})]))
    assert "<circle" not in dashboard.svg("t", [chart])
