"""The policy that stands when this stack comes, and the one that stood before this stack's.

Owns: keeping the latter, telling whether the former is this stack's own, and naming what a new one takes away. Does not
own: whether an edited policy may be replaced (`tailnet.overwrite_policy`, which Tailscale holds on the first update).
"""

import json
from collections.abc import Iterator
from typing import Any, Final, cast

import json5
import pulumi
import pulumi_tailscale as tailscale

from components.tailnet import mark
from components.tailnet.policy import Policy

_ALL: Final = (
    {"src": ["*"], "dst": ["*"], "ip": ["*"]},
    {"action": "accept", "src": ["*"], "dst": ["*:*"]},
)
"""Tailscale's default, as a grant and as it was written before grants."""


def kept(
    name: str, declared: Policy, writer: str, *, opts: pulumi.ResourceOptions
) -> tuple[pulumi.Stash, pulumi.Output[bool]]:
    """What stood before this stack's policy, in the stack's state; and whether the policy that stands is its own.

    Warns of what `declared` takes from today's.
    """
    live = tailscale.get_acl_output().apply(lambda found: found.hujson)
    live.apply(lambda text: [pulumi.log.warn(line) for line in warnings(text, declared, writer)])
    # Later updates find this stack's own.
    stays = pulumi.ResourceOptions(ignore_changes=["input"])
    stash = pulumi.Stash(name, input=live.apply(first), opts=pulumi.ResourceOptions.merge(opts, stays))
    return stash, live.apply(lambda text: is_own(text, writer))


def first(text: str) -> str:
    """The policy that somebody wrote by hand: `text`, or what stood before it if a stack wrote it."""
    found = mark.read(text)
    return found.before if found and found.intact and found.before else text


def is_own(text: str, writer: str) -> bool:
    """Whether the stack wrote this policy, and nobody edited it since."""
    found = mark.read(text)
    return found is not None and found.intact and found.writer == writer


def warnings(text: str, declared: Policy, writer: str) -> list[str]:
    """What to know before `text` is replaced: that another stack wrote it, that it was edited, what goes away."""
    told: list[str] = []
    found = mark.read(text)
    if found and found.writer != writer:
        told.append(
            f"The tailnet's policy was written by {found.writer}, this stack is {writer}. A tailnet's policy has one "
            + "owner: set `tailnet.policy_owner: false` here; if that stack is gone, `tailnet.overwrite_policy: true`."
        )
    elif found and not found.intact:
        told.append(
            "The tailnet's policy is this stack's and was edited since. After `destroy`, `up` is refused for it; else "
            + "the next change of the policy replaces the edits. Move them to `tailnet.policy_file`; then, after "
            + "`destroy`, `tailnet.overwrite_policy: true` is your yes to replacing it."
        )
    if lost := list(losses(mark.unmarked(text), declared)):
        told.append(
            f"The tailnet's policy would lose {len(lost)} entries that you wrote: {'; '.join(lost)}. "
            + "Save the policy in the project and name it in `tailnet.policy_file` to keep them; "
            + "`tailnet.overwrite_policy: true` is your yes to losing them."
        )
    return told


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
