"""Tailscale as its provider answers: the tailnet's one policy, and keys that end.

Owns: the answers of terraform-provider-tailscale at 0a85227 (2026-06-26), `resource_acl.go` and
`resource_tailnet_key.go`. Does not own: whether a policy is a valid one.
"""

# ruff: noqa: ARG002 (the arguments are those of the hooks)
from typing import Final

from lab.read.cloud import UNTOUCHED
from tests.engine.behaviour import Behaviour, Difference, Properties, Refused, Resource, World, at

ACL: Final = "tailscale:index/acl:Acl"
KEY: Final = "tailscale:index/tailnetKey:TailnetKey"


class Policy(Behaviour):
    """A tailnet always has one policy. Unless told to overwrite, a creation wants it as Tailscale made it.

    The provider sends `If-Match: ts-default` then. A deletion leaves the policy as it is, unless it is to be reset.
    """

    def __init__(self) -> None:
        self.hujson = UNTOUCHED
        """Assign to it to edit the policy by hand."""

    def create(self, new: Resource, world: World) -> None:
        if new.token == ACL:
            if self.hujson != UNTOUCHED and not new.inputs.get("overwriteExistingContent"):
                raise Refused(
                    "Overwrite Protected: You are trying to overwrite a non-default policy. Please import the ACL "
                    "first or set overwrite_existing_content = true."
                )
            self.hujson = new.inputs["acl"]

    def update(self, old: Resource, new: Resource, world: World) -> None:
        if new.token == ACL:
            self.hujson = new.inputs["acl"]

    def delete(self, old: Resource, world: World) -> None:
        if old.token == ACL and old.inputs.get("resetAclOnDestroy"):
            self.hujson = UNTOUCHED

    def writes(self, found: Resource) -> Properties:
        return {"acl": self.hujson} if found.token == ACL else {}

    def invoke(self, token: str) -> Properties | None:
        return {"hujson": self.hujson} if token == "tailscale:index/getAcl:getAcl" else None


class Keys(Behaviour):
    """An ended key stays where it is. Its end shows in `invalid`, which only a read (`--refresh`) brings to the state.

    From then on a diff replaces it, if `recreate_if_invalid` says so or the key is reusable (`ModifyPlan`).
    """

    FIXED: Final = ("description", "ephemeral", "expiry", "preauthorized", "reusable", "tags")
    """`RequiresReplace`."""

    def __init__(self) -> None:
        self.ended: set[int] = set()
        """Serials of keys that ended, or that a machine used up: a test adds to it."""

    def writes(self, found: Resource) -> Properties:
        return {"invalid": found.serial in self.ended} if found.token == KEY else {}

    def diff(self, old: Resource, news: Properties, found: Difference) -> None:
        if old.token != KEY:
            return
        found.replaces |= {field for field in self.FIXED if at(old.inputs, field) != at(news, field)}
        anew = {"always": True, "never": False}.get(news.get("recreateIfInvalid", ""), bool(news.get("reusable")))
        if old.state.get("invalid") and anew:
            found.changed.add("id")
            found.replaces.add("id")
