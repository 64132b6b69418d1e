"""Cloud Logging's query language, as far as the stack's own filters use it.

Owns: whether a log entry matches a filter, and the value of a field of it. Does not own: the entries. What it doesn't
know is a `LabError`, never a match.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from lab.errors import LabError

_CLAUSE: Final = re.compile(r'(NOT )?([A-Za-z_][\w.]*)(?:="([^"*]*)"|(:\*))')


def matches(text: str, entry: Mapping[str, Any]) -> bool:
    """Whether the entry is one of those that the filter `text` selects."""
    return all(_holds(clause, entry) for clause in text.split(" AND "))


def field(entry: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path; None where nothing does."""
    found: Any = entry
    for key in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = cast(Mapping[str, Any], found).get(key)
    return found


def _holds(clause: str, entry: Mapping[str, Any]) -> bool:
    known = _CLAUSE.fullmatch(clause)
    if not known:
        raise LabError(f"the lab can't evaluate {clause!r}, of a filter on log lines")
    negated, path, value, exists = known.groups()
    found = field(entry, path)
    return (found is not None if exists else str(found) == value) != bool(negated)
