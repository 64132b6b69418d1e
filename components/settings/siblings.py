"""The stacks that are declared beside this one, in the other `Pulumi.<stack>.yaml` of the project.

Owns: what two stacks can't both own. Does not own: a sibling's other settings, which are checked when it is deployed; a
stack of another folder, of which nothing is known here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import pulumi
import yaml

from components.settings.home import HomeSettings
from components.settings.section import Lane, SettingsError, problem
from components.settings.stack import PULUMI_PROJECT, Settings

FOLDER: Final = Path(__file__).parents[2]
"""The project's folder."""


@dataclass(frozen=True)
class Claims:
    """What one stack says that it owns; `tailnet` is None where only the environment knows it."""

    tailnet: str | None
    policy: bool
    home: str | None
    """Its home's name in the tailnet; None: it deploys onto none."""
    delivers: str | None = None
    """The Google project whose delivery it owns; None: it owns none."""


def require_sole_owner(settings: Settings) -> None:
    """Refuses a stack that claims what another one of the project claims, before any resource exists."""
    joined = Lane.HOME in settings.lanes
    own = Claims(
        tailnet=pulumi.Config("tailscale").get("tailnet"),
        policy=joined and settings.tailnet.policy_owner,
        home=settings.home.hostname if joined and settings.home.owner else None,
        delivers=settings.project if settings.owns_delivery else None,
    )
    if found := list(clashes(own, settings.stack, FOLDER)):
        raise SettingsError(found)


def clashes(own: Claims, stack: str, folder: Path) -> Iterator[str]:
    """A `problem` line for each thing that the stack and a sibling both claim."""
    for path in sorted(folder.glob("Pulumi.*.yaml")):
        other = path.name.split(".")[1]
        claims = None if other == stack else _claims(path)
        if claims is None:
            continue
        if own.delivers is not None and own.delivers == claims.delivers:
            yield problem(
                "delivery.owner",
                f"true in one stack of a Google project; it is in {stack} and in {other} ({path.name})",
                "both would make the same pool, bucket and key, and Google refuses the second half-way",
                "set it to false in one of the two",
            )
        if claims.tailnet != own.tailnet:
            continue
        if own.policy and claims.policy:
            yield problem(
                "tailnet.policy_owner",
                f"true in one stack of a tailnet; it is in {stack} and in {other} ({path.name})",
                "each `pulumi up` would replace the policy that the other one wrote",
                "set it to false in one of the two",
            )
        if own.home is not None and own.home == claims.home:
            yield problem(
                "home.owner",
                f"true in one stack of a home; it is in {stack} and in {other} ({path.name}), both for `{own.home}`",
                "two stacks would deploy onto one cluster and undo each other",
                "set it to false in one of the two, or name the other machine in `home.hostname`",
            )


def _claims(path: Path) -> Claims | None:
    """What a sibling claims; None if it can't be deployed as it stands."""
    try:
        config = _mapping(_mapping(yaml.safe_load(path.read_text())).get("config"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    project = config.get("gcp:project")
    if not project:
        return None
    joined = Lane.HOME in config.get(f"{PULUMI_PROJECT}:lanes", Settings.model_fields["lanes"].default)
    home, tailnet, delivery = (
        _mapping(config.get(f"{PULUMI_PROJECT}:{name}")) for name in ("home", "tailnet", "delivery")
    )
    return Claims(
        tailnet=config.get("tailscale:tailnet"),
        policy=joined and tailnet.get("policy_owner", True) is True,
        home=home.get("hostname", HomeSettings().hostname) if joined and home.get("owner", True) is True else None,
        delivers=project if delivery.get("repository") and delivery.get("owner", True) is True else None,
    )


def _mapping(value: object) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
