"""Prometheus' text format, read and written.

Owns: the format. Does not own: what any metric means. Pure.
"""

from collections.abc import Mapping, Sequence


def samples(text: str, names: Mapping[str, str]) -> list[tuple[str, str, float]]:
    """Name, labels and value of the named metrics in Prometheus' text format."""
    found: list[tuple[str, str, float]] = []
    for line in text.splitlines():
        name, brace, rest = line.partition("{")
        if brace:
            labels, _, value = rest.rpartition("}")
        else:
            name, _, value = line.partition(" ")
            labels = ""
        if name in names:
            found.append((name, labels, float(value.split()[0])))
    return found


def exposition(rows: Sequence[tuple[str, str, float | None]]) -> str:
    """The format's text of rows of name with labels, type and value; those without a value are left out."""
    lines: list[str] = []
    for name, kind, value in rows:
        title = f"# TYPE pilotlight_{name.partition('{')[0]} {kind}"
        if value is not None:
            lines += [*([] if title in lines else [title]), f"pilotlight_{name} {value:.17g}"]
    return "\n".join(lines) + "\n"
