"""Prometheus' text format, read.

Owns: the format. Does not own: what any metric means. Pure.
"""

from collections.abc import Mapping


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
