"""The table in docs/settings.md: a row per setting, with its default, its meaning and what it changes.

Owns: the walk through the settings' classes and the table's form. Does not own: what a setting changes (`effects`).
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final, cast, get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from components.settings.reading import CONFIGURABLE
from components.settings.section import Section
from components.settings.stack import Settings
from lab.read.stack import ROOT

PAGE: Final = ROOT / "docs" / "settings.md"
START, END = "<!-- settings: made by `make golden` -->", "<!-- settings end -->"


def fields(section: type[Section] = Settings, prefix: str = "") -> Iterator[tuple[str, FieldInfo, bool]]:
    """Every setting by its dotted name, `[]` after a list of groups, and whether it is a group of settings itself."""
    for key, field in section.model_fields.items():
        if section is Settings and key not in CONFIGURABLE:
            continue
        candidates = [c for c in (field.annotation, *get_args(field.annotation)) if isinstance(c, type)]
        inner = next((c for c in candidates if issubclass(c, Section)), None)
        name = prefix + key + ("[]" if inner and isinstance(field.default, tuple) else "")
        yield name, field, inner is not None
        if inner:
            yield from fields(inner, f"{name}.")


def table(effects: Mapping[str, str]) -> str:
    """The settings as a Markdown table; `effects` says by name what a setting changes."""
    rows = ["| setting | default | meaning | changes |", "|---|---|---|---|"]
    for name, field, is_group in fields():
        text = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{name}` | {'' if is_group else _shown(field.default)} | {text} | {effects.get(name, '')} |")
    return "\n".join(rows)


def kept_effects(page: str) -> dict[str, str]:
    """The table's last column as the page has it, by setting."""
    rows = [line.split(" | ") for line in page.partition(START)[2].partition(END)[0].splitlines()[3:]]
    return {row[0].strip("| `"): row[-1].removesuffix("|").strip() for row in rows}


def page(effects: Mapping[str, str]) -> str:
    """docs/settings.md with its table renewed."""
    before, _, rest = PAGE.read_text().partition(START)
    return f"{before}{START}\n{table(effects)}\n{END}{rest.partition(END)[2]}"


def _shown(default: Any) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None or default == "":
        return "none"
    if isinstance(default, tuple):
        return f"`[{', '.join(str(item) for item in cast(tuple[object, ...], default))}]`"
    plain = default.value if isinstance(default, Enum) else default
    return f"`{str(plain).lower() if isinstance(plain, bool) else plain}`"
