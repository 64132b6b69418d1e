"""Where a stack stands: its Google project and region, which can't change while it stands.

Owns: remembering both, and the refusal. Does not own: whether they are well formed (`settings`).

Nothing could be made beside the old: networks, buckets and services would have the same names, ranges and addresses,
and what clients call would be another one.
"""

from typing import Any

import pulumi

from components.settings import Settings
from components.settings.section import SettingsError, problem


def kept(name: str, settings: Settings) -> pulumi.Output[pulumi.Resource]:
    """What everything at Google depends on: it is there once the place is that of the first `up`.

    Raises `SettingsError` in it otherwise: a preview shows that, and an update has changed nothing yet.
    """
    place = {"gcp:project": settings.project, "gcp:region": settings.region}
    # Refused or not, it stays what it was at the first `up`.
    stash = pulumi.Stash(name, input=place, opts=pulumi.ResourceOptions(ignore_changes=["input"]))
    return stash.output.apply(lambda first: _same(first, place, stash))


def _same(first: dict[str, Any], place: dict[str, str], stash: pulumi.Stash) -> pulumi.Resource:
    problems = [
        problem(
            key,
            f"as long as the stack stands it is {first[key]}, not {now}",
            "nothing could be made beside the old, which has the same names, and the endpoint would be another",
            f"`pulumi config set {key} {first[key]}`; for another place a stack of its own (`pulumi stack init`), or "
            + "this one after `pulumi destroy`",
        )
        for key, now in place.items()
        if first[key] != now
    ]
    if problems:
        raise SettingsError(problems)
    return stash
