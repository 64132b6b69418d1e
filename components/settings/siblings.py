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


def require_sole_owner(settings: Settings) -> None:
    """Refuses a stack that claims what another one of the project claims, before any resource exists."""
    own = Claims(
        tailnet=pulumi.Config("tailscale").get("tailnet"),
        policy=settings.tailnet.policy_owner,
        home=settings.home.hostname if settings.home.owner else None,
    )
    if Lane.HOME in settings.lanes and (found := list(clashes(own, settings.stack, FOLDER))):
        raise SettingsError(found)


def clashes(own: Claims, stack: str, folder: Path) -> Iterator[str]:
    """A `problem` line for each thing that the stack and a sibling both claim."""
    for path in sorted(folder.glob("Pulumi.*.yaml")):
        other = path.name.split(".")[1]
        claims = None if other == stack else _claims(path)
        if claims is None or claims.tailnet != own.tailnet:
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
    """What a sibling claims; None if it can't be deployed as it stands, or has no home in its lanes."""
    try:
        config = _mapping(_mapping(yaml.safe_load(path.read_text())).get("config"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    lanes = config.get(f"{PULUMI_PROJECT}:lanes", [Lane.HOME])
    if not config.get("gcp:project") or Lane.HOME not in lanes:
        return None
    home, tailnet = (_mapping(config.get(f"{PULUMI_PROJECT}:{name}")) for name in ("home", "tailnet"))
    return Claims(
        tailnet=config.get("tailscale:tailnet"),
        policy=tailnet.get("policy_owner", True) is True,
        home=home.get("hostname", "home") if home.get("owner", True) is True else None,
    )


def _mapping(value: object) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
