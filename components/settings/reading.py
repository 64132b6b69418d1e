"""Reads the stack's settings from Pulumi's config, and refuses them with every problem at once.

Owns: `pilotlight:*` and the two provider keys `gcp:project` and `gcp:region`, unknown keys, and the translation of
pydantic's errors into field, rule, consequence, fix. Does not own: the rules themselves (`rules`,
`client_rules`, `model_rules`, `service_rules`, `share_rules`, `vm_rules`).
"""

import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, cast, get_args

import pulumi
from pydantic import ValidationError

from components.settings import client_rules, model_rules, rules, service_rules, share_rules, vm_rules
from components.settings.section import Refusal, Section, SettingsError, problem
from components.settings.stack import PULUMI_PROJECT, Settings

FROM_STACK: Final = ("stack", "project", "region", "now")
"""Settings that don't come from `pilotlight:*`."""
CONFIGURABLE: Final = tuple(field for field in Settings.model_fields if field not in FROM_STACK)
"""Keys of `pilotlight:*`."""


def read(config: Mapping[str, str], *, stack: str) -> Settings:
    """Settings from Pulumi's config (`namespace:key` -> text; objects and arrays as JSON, as the engine sends them).

    Raises `SettingsError` with every problem found.
    """
    values: dict[str, object] = {"stack": stack}
    problems: list[str] = []
    for key in ("project", "region"):
        value = config.get(f"gcp:{key}", "").strip()
        if value:
            values[key] = value
        else:
            problems.append(
                problem(f"gcp:{key}", "is not set", "Google Cloud doesn't know where to deploy",
                        f"pulumi config set gcp:{key} <{key}>")
            )  # fmt: skip
    for full, text in config.items():
        namespace, _, key = full.partition(":")
        if namespace != PULUMI_PROJECT:
            # Other namespaces are the providers', who read their own.
            if difflib.get_close_matches(namespace, [PULUMI_PROJECT]):
                problems.append(_unknown(full, [f"{PULUMI_PROJECT}:{known}" for known in CONFIGURABLE]))
            continue
        if key not in CONFIGURABLE:
            problems.append(_unknown(key, list(CONFIGURABLE)))
        else:
            values[key] = _decode(key, text)
    if problems:
        raise SettingsError(problems)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError([_explain(dict(one)) for one in error.errors(include_input=False)]) from None
    parts = (rules, client_rules, model_rules, service_rules, share_rules, vm_rules)
    if found := [line for part in parts for line in part.broken(settings)]:
        raise SettingsError(found)
    return settings


def read_stack(*checks: Callable[[Settings], None]) -> Settings:
    """Settings of the running Pulumi program, after `checks` that need more than the settings' own rules.

    Raises `SettingsError` before any resource is registered.
    """
    settings = read(pulumi.runtime.config.CONFIG.get() or {}, stack=pulumi.get_stack())
    for check in checks:
        check(settings)
    return settings


def _decode(key: str, text: str) -> object:
    """Config text as a value: JSON for every field but plain strings."""
    if key == "kubeconfig":
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key.rsplit(".", 1)[-1], known, n=1)
    fix = f"did you mean `{near[0]}`? " if near else ""
    return problem(key, "is no setting", "it would be ignored", f"{fix}known here: {', '.join(sorted(known))}")


_WORDS: Final = {"tuple_type": "must be a list", "model_type": "must hold named settings", "missing": "is required"}
"""Pydantic's errors that speak of Python."""


def _explain(error: dict[str, Any]) -> str:
    """A pydantic error as field, rule, consequence, fix."""
    location = cast(tuple[str | int, ...], error["loc"])
    field = ".".join(str(part) for part in location)
    if field in ("project", "region"):
        field = f"gcp:{field}"
    raised = error.get("ctx", {}).get("error")
    if isinstance(raised, Refusal):
        return problem(field, raised.rule, raised.consequence, raised.fix)
    if error["type"] == "extra_forbidden":
        return _unknown(field, sorted(_section(location[:-1]).model_fields))
    rule = _WORDS.get(error["type"], f"is refused: {error['msg']}")
    described = _description(location)
    fix = f"give a value that fits its meaning: {described}" if described else "see docs/settings.md"
    return problem(field, rule, "the stack can't be declared", fix)


def _section(location: tuple[str | int, ...]) -> type[Section]:
    """The settings class that a location in the config belongs to."""
    section: type[Section] = Settings
    for part in location:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        candidates = (annotation, *get_args(annotation))
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, Section))
    return section


def _description(location: tuple[str | int, ...]) -> str:
    names = [part for part in location if isinstance(part, str)]
    try:
        return (_section(tuple(names[:-1])).model_fields[names[-1]].description or "").rstrip(".")
    except (KeyError, IndexError, StopIteration):
        return ""
