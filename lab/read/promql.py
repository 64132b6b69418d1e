"""PromQL, as far as the stack's dashboard and alerts use it, over the points of log-based metrics.

Owns: the value of a query in a window of time (a chart is a row of them), or at a moment, looking back as far as the
query says. Does not own: the points (`metrics`), when an alert looks (`alerts`). What it doesn't know is a `LabError`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from lab.errors import LabError
from lab.read.metrics import Metric, Point

Labels = tuple[tuple[str, str], ...]
Series = dict[Labels, float]
_NUMBERS: Final[Labels] = (("a", "number"),)
"""Labels of a plain number, which goes with every series."""
_TOTAL: Final = re.compile(r"sum by \(([^)]*)\) \(increase\((\w+:\w+)\{([^}]*)\}\[([^\]]+)\]\)\)")
_QUANTILE: Final = re.compile(r"histogram_quantile\(([\d.]+), ")
_ABSENT: Final = re.compile(r"absent_over_time\((\w+:\w+)\{([^}]*)\}\[([^\]]+)\]\)")
_CLOCK: Final = "vector(time())"
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_OPERATION: Final = re.compile(r" (-|\+|/|>=|>|<) ")
_RANGE: Final = re.compile(r"(\d+)([smhd])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MATCHER: Final = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')


class Window:
    """What the metrics counted from `begin` to before `end`, seconds since 1970."""

    def __init__(self, points: Sequence[tuple[Metric, Sequence[Point]]], begin: float, end: float) -> None:
        self._points = {metric.name: (metric, found) for metric, found in points}
        self._begin, self._end = begin, end

    def value(self, query: str) -> Series:
        """The query's series, by their labels. A comparison leaves those for which it holds."""
        value, rest = self._expression(query)
        if rest or _NUMBERS in value:
            raise LabError(f"the lab can't evaluate {query!r}, from {rest!r} on")
        return value

    def _expression(self, text: str) -> tuple[Series, str]:
        left, rest = self._term(text)
        while operation := _OPERATION.match(rest):
            right, rest = self._term(rest[operation.end() :])
            left = _combined(operation[1], left, right)
        return left, rest

    def _term(self, text: str) -> tuple[Series, str]:
        if text.startswith("("):
            value, rest = self._expression(text[1:])
            if not rest.startswith(")"):
                raise LabError(f"a bracket is open in {text!r}")
            return value, rest[1:]
        if quantile := _QUANTILE.match(text):
            value, rest = self._total(text[quantile.end() :], float(quantile[1]))
            return value, rest.removeprefix(")")
        if text.startswith(_CLOCK):
            return {(): self._end}, text.removeprefix(_CLOCK)
        if absent := _ABSENT.match(text):
            _, points = self._selected(absent[1], absent[2], absent[3])
            return {} if points else {(): 1.0}, text[absent.end() :]
        if number := _NUMBER.match(text):
            return {_NUMBERS: float(number[0])}, text[number.end() :]
        return self._total(text, None)

    def _begins(self, over: str) -> float:  # noqa: ARG002
        """Where the range of a query begins: with the window, whatever it says."""
        return self._begin

    def _selected(self, name: str, matchers: str, over: str) -> tuple[Metric, list[Point]]:
        if name not in self._points:
            raise LabError(f"no metric is registered as {name}")
        metric, points = self._points[name]
        asked = {label for label, _, _ in _MATCHER.findall(matchers)}
        if unknown := asked - {*metric.labels, "monitored_resource"}:
            raise LabError(f"{name} has no label {', '.join(sorted(unknown))}")
        begin = self._begins(over)
        return metric, [one for one in points if begin <= one.at < self._end and _selected(one.labels, matchers)]

    def _total(self, text: str, share: float | None) -> tuple[Series, str]:
        found = _TOTAL.match(text)
        if not found:
            raise LabError(f"the lab can't evaluate {text!r}")
        by, name, matchers, over = found.groups()
        name, of = next(
            ((name.removesuffix(end), end) for end in ("_sum", "_count", "_bucket") if name.endswith(end)), (name, "")
        )
        metric, points = self._selected(name, matchers, over)
        if bool(metric.value) != bool(of) or (of == "_bucket") != (share is not None):
            raise LabError(f"{name} has no {of or 'plain count'}")
        labels = [label for label in by.split(", ") if label and label != "le"]
        if unknown := set(labels) - metric.labels.keys():
            raise LabError(f"{name} has no label {', '.join(sorted(unknown))}")
        rest, grouped = text[found.end() :], dict[Labels, list[float]]()
        for point in points:
            grouped.setdefault(tuple((label, point.labels[label]) for label in labels), []).append(point.value)
        if share is not None:
            return {key: _quantile(values, share, metric.bounds) for key, values in grouped.items()}, rest
        return {key: sum(values) if of == "_sum" else float(len(values)) for key, values in grouped.items()}, rest


class Moment(Window):
    """As an alert sees the metrics: each part of a query looks back from `at`, itself included, as far as its range."""

    def __init__(self, points: Sequence[tuple[Metric, Sequence[Point]]], at: float) -> None:
        super().__init__(points, at, math.nextafter(at, math.inf))

    def _begins(self, over: str) -> float:
        found = _RANGE.fullmatch(over)
        if not found:
            raise LabError(f"the lab doesn't know the range {over!r}")
        return self._begin - int(found[1]) * _UNITS_S[found[2]]


def _selected(labels: Mapping[str, str], matchers: str) -> bool:
    for label, how, value in _MATCHER.findall(matchers):
        if label == "monitored_resource":
            continue
        same = re.fullmatch(value, labels[label]) is not None if how == "=~" else labels[label] == value
        if same == (how == "!="):
            return False
    return True


def _quantile(values: Sequence[float], share: float, bounds: Sequence[float]) -> float:
    """Between the bounds of the bucket in which that share of the values ends, as Prometheus does."""
    wanted, seen = share * len(values), 0.0
    for low, high in zip((0.0, *bounds), (*bounds, math.inf), strict=True):
        inside = sum(low <= value < high for value in values)
        if inside and seen + inside >= wanted:
            return low if high == math.inf else low + (high - low) * (wanted - seen) / inside
        seen += inside
    return bounds[-1]


def _combined(operation: str, left: Series, right: Series) -> Series:
    if _NUMBERS in left:
        raise LabError("the lab evaluates no number on the left of an operation")
    pairs: dict[Labels, tuple[float, float]] = {}
    for key, value in left.items():
        other = right.get(_NUMBERS, right.get(key))
        if other is not None:
            pairs[key] = value, other
    match operation:
        case "-":
            return {key: one - other for key, (one, other) in pairs.items()}
        case "+":
            return {key: one + other for key, (one, other) in pairs.items()}
        case "/":
            return {key: one / other if other else math.nan for key, (one, other) in pairs.items()}
        case ">":
            return {key: one for key, (one, other) in pairs.items() if one > other}
        case "<":
            return {key: one for key, (one, other) in pairs.items() if one < other}
        case _:
            return {key: one for key, (one, other) in pairs.items() if one >= other}
