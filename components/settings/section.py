"""The ground that every group of settings stands on: base class, lanes, refusals, patterns and units.

Owns: the form of every refusal (field, rule, consequence, fix), and the patterns that more than one section uses. Does
not own: any setting, any rule between two of them (`rules`).
"""

import re
from enum import StrEnum
from typing import Annotated, Final

import pulumi
from pydantic import BaseModel, BeforeValidator, ConfigDict

MODEL_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9][A-Za-z0-9._:-]*)*$"
"""Stands in URL paths and Caddy's matchers, where blanks, `*`, `{` and `..` have a meaning of their own."""
REPOSITORY: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"
"""A public repository on Hugging Face."""
EXACT_IMAGE: Final = re.compile(
    r"[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?(/[a-z0-9][a-z0-9._-]*)+"  # registry/name, the registry not left to a default
    + r":(?!.*(latest|nightly))[A-Za-z0-9._-]*(\d+\.\d+\.\d+|b\d{4,})[A-Za-z0-9._-]*"  # 1.2.3, llama.cpp's b1234
    + r"(@sha256:[0-9a-f]{64})?"
)
_MEMORY: Final = re.compile(r"([1-9][0-9]{0,6})(MiB|GiB)")


class Lane(StrEnum):
    """Where a request can be answered, in the order of the request path."""

    HOME = "home"
    BURST = "burst"
    VM = "vm"


class Section(BaseModel):
    """A group of settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Refusal(ValueError):
    """A value that a field of the settings refuses; the field's name is added where it is known."""

    def __init__(self, rule: str, consequence: str, fix: str) -> None:
        self.rule, self.consequence, self.fix = rule, consequence, fix
        super().__init__(rule)


class SettingsError(pulumi.RunError):
    """The settings can't be deployed. `problems` holds one line each: field, rule, consequence, fix.

    Pulumi shows a `RunError` without a traceback.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("the settings are refused; nothing was changed:\n" + "\n".join(f"  - {p}" for p in problems))


def problem(field: str, rule: str, consequence: str, fix: str) -> str:
    """One line of a `SettingsError`."""
    return f"{field}: {rule}. Consequence: {consequence}. Fix: {fix}."


def mib(memory: str) -> int:
    """MiB of a text such as `9GiB`."""
    found = _MEMORY.fullmatch(memory)
    assert found is not None, memory
    return int(found[1]) * (1024 if found[2] == "GiB" else 1)


def _with_unit(value: object) -> object:
    if isinstance(value, str) and _MEMORY.fullmatch(value):
        return value
    near = f"{value}GiB" if str(value).isdigit() else "9GiB"
    raise Refusal(
        f"a whole number with its unit, GiB or MiB; it is {value!r}",
        "the sum on the card could not be checked, and a unit guessed wrongly is an engine that dies at its start",
        f"write it as {near}",
    )


Memory = Annotated[str, BeforeValidator(_with_unit)]
"""Memory of a GPU, with its unit."""
