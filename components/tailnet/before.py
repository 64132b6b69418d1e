"""The policy that stood before this stack's.

Owns: keeping it, and naming what a new one takes away. Does not own: whether an edited policy may be replaced
(`tailnet.overwrite_policy`, which Tailscale holds on the first update).
"""

import json
from collections.abc import Iterator
from typing import Any, Final, cast

import json5
import pulumi
import pulumi_tailscale as tailscale

from components.tailnet.policy import Policy

_ALL: Final = (
    {"src": ["*"], "dst": ["*"], "ip": ["*"]},
    {"action": "accept", "src": ["*"], "dst": ["*:*"]},
)
"""Tailscale's default, as a grant and as it was written before grants."""


def kept(name: str, declared: Policy, *, opts: pulumi.ResourceOptions) -> pulumi.Stash:
    """The policy as the first update found it, in the stack's state; warns of what `declared` takes from today's."""
    live = tailscale.get_acl_output().apply(lambda found: found.hujson)
    live.apply(lambda text: [pulumi.log.warn(line) for line in warnings(text, declared)])
    # Later updates find this stack's own.
    stays = pulumi.ResourceOptions(ignore_changes=["input"])
    return pulumi.Stash(name, input=live, opts=pulumi.ResourceOptions.merge(opts, stays))


def warnings(text: str, declared: Policy) -> list[str]:
    """One line that names what goes away, none if nothing does."""
    found = list(losses(text, declared))
    if not found:
        return []
    return [
        f"The tailnet's policy would lose {len(found)} entries that you wrote: {'; '.join(found)}. "
        + "Save the policy in the project and name it in `tailnet.policy_file` to keep them; "
        + "`tailnet.overwrite_policy: true` is your yes to losing them."
    ]


def losses(text: str, declared: Policy) -> Iterator[str]:
    """Entries of a policy (HuJSON) that the new one lacks; what names this stack's tags is no loss.

    All to all is none either where nobody has a tag: the new policy names all that is left of it.
    """
    before = cast(dict[str, Any], json5.loads(text))
    after = {name.lower(): section for name, section in declared.items()}
    owners = next((cast(Policy, found) for name, found in before.items() if name.lower() == "tagowners"), Policy())
    tagged = any(tag not in declared["tagOwners"] for tag in owners)
    for name, section in before.items():
        now = after.get(name.lower())
        if isinstance(section, dict):
            for key, value in cast(dict[str, Any], section).items():
                if key not in declared["tagOwners"] and cast(Policy, now or {}).get(key) != value:
                    yield f"{name}.{key}"
        elif isinstance(section, list):
            for i, row in enumerate(cast(list[Any], section)):
                known = row in (now or ()) or (row in _ALL and not tagged)
                if not known and not any(f'"{tag}' in json.dumps(row) for tag in declared["tagOwners"]):
                    yield f"{name}[{i}] {json.dumps(row, ensure_ascii=False)}"
        elif now != section:
            yield name
