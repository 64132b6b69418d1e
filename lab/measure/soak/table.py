"""The soak's tables: requests, faults, losses, waits, memory and descriptors.

Owns: their form. Does not own: what is counted (`verdict`).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from lab.measure.soak.run import PHASES, Report
from lab.measure.soak.schedule import Event
from lab.measure.soak.verdict import Violation, outcome

OUTCOMES: Final = ("answered", "left", "told to wait", "cut off")
VIOLATIONS: Final = ("lost", "crossed", "twice", "broken", "undocumented", "late", "memory", "descriptors", "left over")
SHOWN: Final = 20


def tables(report: Report) -> str:
    """Everything about one soak."""
    return "\n\n".join(
        [requests(report), faults(report), gauges(report), losses(report.violations)]
        + ([sentences(report.violations)] if report.violations else [])
    )


def requests(report: Report) -> str:
    """By kind: what became of them, and how long they waited."""
    rows = [[*("kind", "sent"), *OUTCOMES, "wrong", "began after p50", "p99", "longest"]]
    kinds = list(dict.fromkeys(one.kind for one in report.told))
    for kind in [*kinds, ""]:
        told = [one for one in report.told if one.kind == kind or not kind]
        found = Counter(outcome(one, report.happened, report.limits)[0] for one in told)
        waits = sorted(one.begun - one.sent for one in told if one.begun is not None and one.status == 200)
        wrong = len(told) - sum(found[name] for name in OUTCOMES)
        rows.append(
            [kind or "all", str(len(told)), *(str(found[name]) for name in OUTCOMES), str(wrong)]
            + [_seconds(waits, share) for share in (0.5, 0.99, 1.0)]
        )
    lanes = Counter(one.lane or "nobody" for one in report.told if one.status == 200)
    answered = ", ".join(f"{lane} {count}" for lane, count in lanes.most_common())
    return f"{_table(rows)}\nanswered by: {answered}; nobody may wait longer than {report.limits.longest_s:.0f} s"


def faults(report: Report) -> str:
    """By kind: how often, and for how long together."""
    rows = [["fault", "times", "seconds"]]
    for name in dict.fromkeys(one.fault for one in sorted(report.happened, key=lambda one: one.fault)):
        lasted = [one.off - one.on for one in report.happened if one.fault == name]
        rows.append([name, str(len(lasted)), f"{sum(lasted):.0f}"])
    return _table(rows)


def gauges(report: Report) -> str:
    """Memory and descriptors of each process, before and after."""
    rows = [["process", "limit MiB", "before", *PHASES, "after", "descriptors before", "after"]]
    for title in sorted({*report.before, *report.after}):
        before, after = report.before.get(title), report.after.get(title)
        rows.append(
            [
                title,
                str(report.memory_mib.get(title, "-")),
                f"{before.memory_mib:.0f}" if before else "-",
                *(f"{report.peak_mib.get((phase, title), 0.0):.0f}" for phase in PHASES),
                f"{after.memory_mib:.0f}" if after else "-",
                str(before.descriptors) if before else "-",
                str(after.descriptors) if after else "-",
            ]
        )
    first, last = report.held
    return (
        f"{_table(rows)}\nCaddy, its garbage collected: {first.heap_mib:.1f} MiB in {first.goroutines} goroutines "
        + f"before, {last.heap_mib:.1f} MiB in {last.goroutines} after"
    )


def losses(violations: Sequence[Violation]) -> str:
    """How often each promise was not kept."""
    found = Counter(one.kind for one in violations)
    return "promises not kept: " + ", ".join(f"{found[kind]} {kind}" for kind in VIOLATIONS)


def sentences(violations: Sequence[Violation]) -> str:
    """Each of them, as far as anybody would read."""
    lines = [f"{one.kind}: {one.text}" for one in violations[:SHOWN]]
    return "\n".join([*lines, *([f"and {len(violations) - SHOWN} more"] if len(violations) > SHOWN else [])])


def events(found: Iterable[Event]) -> str:
    """A schedule, line by line."""
    return "\n".join(f"  {one.at:6.1f} s  {one.fault} for {one.lasts:.1f} s" for one in found) or "  no fault at all"


def _seconds(waits: Sequence[float], share: float) -> str:
    return f"{waits[min(len(waits) - 1, int(share * len(waits)))]:.1f} s" if waits else "-"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    return "\n".join([_row(head), _row(["---"] * len(head)), *(_row(row) for row in rest)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
