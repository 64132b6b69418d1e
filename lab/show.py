"""How the lab's commands look, on a terminal and in a pipe.

Owns: tables, progress, and how values become text; nothing of it needs colour, and no line breaks a value in two. Does
not own: what is shown (`control`, `unproven`, `greeting`, `read.cost`), the command line (`__main__`).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, cast

from rich.console import Console
from rich.table import Table

from components.machines.prices import HOURS
from lab.read.cost.bill import Bill
from lab.read.cost.line import Line

LONGEST: Final = 100
"""Characters of an output's value that still stand in its table."""
console: Final = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
wide: Final = Console(markup=False, highlight=False, emoji=False, soft_wrap=True, width=10_000)
"""For tables of which nothing may be folded or cut."""


def say(line: str) -> None:
    """A line of progress, at once; a spinner stays below it."""
    console.print(f"lab: {line}")


def busy(what: str) -> AbstractContextManager[object]:
    """A spinner that says what is waited for, on a terminal alone: in a pipe the lines of `say` are the progress."""
    return console.status(what)


def lines(found: Sequence[str]) -> None:
    """Plain lines, none of them broken."""
    for line in found:
        console.print(line)


# --- outputs ---------------------------------------------------------------------------------------------------------


def text_of(value: Any) -> str:
    """An output's value as it is handed on: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=2)


def named(found: Mapping[str, Any]) -> dict[str, Any]:
    """Every value by its name; the entries of a map as `map.entry`, which is how `lab outputs` lists them."""
    flat: dict[str, Any] = {}
    for name, value in sorted(found.items()):
        entries = cast(dict[str, Any], value) if isinstance(value, dict) else {}
        flat |= {f"{name}.{key}": entry for key, entry in entries.items()} or {name: value}
    return flat


def outputs(found: Mapping[str, Any]) -> None:
    """Names and values; the size of a long value, after the others, and how to see one whole."""
    texts = {name: text_of(value) for name, value in named(found).items()}
    long = {name: size_of(value) for name, value in named(found).items() if _is_long(texts[name])}
    rows = [[name, text] for name, text in texts.items() if name not in long]
    _table(("output", "value"), [*rows, *map(list, long.items())], whole=True)
    for name in [*long][:1]:
        lines(["", f"`python -m lab outputs {name}` prints that value whole"])


def _is_long(text: str) -> bool:
    return "\n" in text or len(text) > LONGEST


def size_of(value: Any) -> str:
    """What a long value is and how large: `script, 412 lines, 15.2 KiB`."""
    text = text_of(value)
    if isinstance(value, list):
        kind, count = "list", _count(len(cast(list[Any], value)), "entry", "entries")
    else:
        kind, count = "script" if text.startswith("#!") else "text", _count(len(text.splitlines()), "line")
    return f"{kind}, {count}, {len(text.encode()) / 1024:.1f} KiB"


# --- status ----------------------------------------------------------------------------------------------------------


def status(stack: str, found: Mapping[str, Any]) -> None:
    """Everything `lab status` knows, as tables of at most the terminal's width."""
    gateway, burst, vm = found["gateway"], found.get("burst"), found.get("vm")
    starts = gateway["starts_s"]
    rows = [
        [f"stack {stack}", f"up {duration(found['uptime_s'])}, pid {found['pid']}"],
        ["gateway", f"{_count(gateway['instances'], 'instance')}, {gateway['in_flight']} in flight"],
        ["cold starts", f"{len(starts)}, the last took {starts[-1]:.2f} s" if starts else "none yet"],
        *([["burst", f"{burst['instances']} of up to {_count(burst['most'], 'instance')}"]] if burst else []),
        *([["vm", _machines(vm)]] if vm else []),
        ["faults", ", ".join(found["faults"]) or "none"],
    ]
    _table((), rows)
    if lanes := found.get("lanes"):
        rows = [[name, *_lane(lane)] for name, lane in lanes.items()]
        _table(("lane", "state", "for", "in flight", "first token", "last error"), rows)
    elif gateway["instances"]:
        lines(["", "lanes: no pilot answers"])
    else:
        lines(["", "lanes: unknown while no gateway runs; a request starts one"])
    rows = [
        [title, "running" if process["running"] else "ended", str(process["pid"])]
        for title, process in found["processes"].items()
    ]
    _table(("process", "state", "pid"), rows)
    if restarts := found["restarts"]:
        _table(("liveness", "restarts"), [[title, str(count)] for title, count in restarts.items()])
    if errors := found["errors"]:
        _table(("log", "last error"), [[log, error] for log, error in errors.items()])
    else:
        lines(["", "errors in the logs: none"])


def _machines(vm: Mapping[str, Any]) -> str:
    coming = f", {vm['starting']} on the way" if vm["starting"] else ""
    return f"{vm['machines']} of up to {_count(vm['most'], 'machine')}{coming}"


def _lane(lane: Mapping[str, Any]) -> list[str]:
    first = lane.get("first_token_s")
    in_flight = lane["in_flight"]
    return [
        lane["state"],
        duration(lane["seconds"]),
        "-" if in_flight is None else str(in_flight),
        f"{first:.2f} s" if first else "-",
        lane["error"] or "-",
    ]


def usage(rows: Sequence[Sequence[str]]) -> None:
    """What clients used, a row for each day, client and lane."""
    if not rows:
        lines(["no request of a client stands in these lines"])
        return
    _table(("day", "client", "lane", "requests", "errors", "broke off", "MB in", "MB out", "slot s"), rows)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 7 min`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


# --- cost ------------------------------------------------------------------------------------------------------------


def cost(stack: str, found: Bill, *, as_json: bool) -> None:
    """A line of the bill each, the sum, and what is free."""
    if as_json:
        whole = {"stack": stack, "month_usd": round(found.month_usd, 2), **dataclasses.asdict(found)}
        lines([json.dumps(whole, indent=2)])
        return
    lines([f"stack {stack} in {found.region}, USD at list price without tax; a month is {HOURS} hours"])
    rows = [[line.what, _month(line), _use(line)] for line in found.lines]
    _table(("part", "while nobody calls", "in use"), [*rows, ["sum", f"{found.month_usd:.2f}", ""]])
    missing = [f"sum: at least, for no price is known of {', '.join(found.unknown)}"] if found.unknown else []
    lines(["", *missing, *(f"{line.what}: {line.note}" for line in found.lines if line.note)])
    lines(["", *(f"free, {_count(len(names), 'resource')}: {reason}" for reason, names in found.free.items())])


def _month(line: Line) -> str:
    return "unknown" if line.month_usd is None else f"{line.month_usd:.2f}"


def _use(line: Line) -> str:
    """Three digits: what counts in cents an hour and what counts in dollars stand in one column."""
    return f"{line.use_usd:#.3g} / {line.use_per}" if line.use_per else ""


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, whole: bool = False) -> None:
    """A table without rules; its last column folds at the terminal's edge, unless it must stay `whole` to be copied."""
    table = Table(*titles or [""] * len(rows[0]), box=None, pad_edge=False, show_header=bool(titles))
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ignore"
    if not whole:
        table.columns[-1].no_wrap, table.columns[-1].overflow = False, "fold"
    for row in rows:
        table.add_row(*row)
    if titles:
        console.print()
    (wide if whole else console).print(table, soft_wrap=whole)
