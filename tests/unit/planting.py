"""Stacks with a planted mistake, for rules that must see it."""

import copy
import dataclasses
from typing import Any

from lab.read.stack import Resource, Stack


def planted(stack: Stack, name: str, path: str, value: Any) -> Stack:
    """A copy in which one resource says something else.

    The path begins with the resource's field: `inputs.template.timeout`, `options.dependsOn`. `...` removes the key; a
    list's next number adds to it.
    """
    [resource] = [resource for resource in stack.resources if resource.name == name]
    field, *keys = [int(key) if key.isdigit() else key for key in path.split(".")]
    changed = copy.deepcopy(getattr(resource, str(field)))
    place: Any = changed
    for key in keys[:-1]:
        place = place[key]
    if not keys:
        changed = value
    elif value is ...:
        del place[keys[-1]]
    elif keys[-1] == len(place):
        place.append(value)
    else:
        place[keys[-1]] = value
    assert changed != getattr(resource, str(field)), f"{path} says that already"
    replaced = dataclasses.replace(resource, **{str(field): changed})
    return dataclasses.replace(stack, resources=[replaced if r is resource else r for r in stack.resources])


def with_extra(stack: Stack, kind: str, name: str, **inputs: Any) -> Stack:
    """A copy in which somebody declared one more resource."""
    extra = Resource(f"urn::{kind}::{name}", kind, name, "", inputs, inputs, {}, frozenset())
    return dataclasses.replace(stack, resources=[*stack.resources, extra])
