"""The mark in a policy that a stack wrote: whose it is, whether it is as written, and what stood there before.

Owns: the comments around a policy. Does not own: the policy (`policy`, `merge`), keeping what stood before (`before`).
Tailscale stores the file as text, so they stay in it (provider's documentation of `tailscale_acl`, `as_hujson`).

    // Written by some-project/pilotlight-dev, 8f14e45fceea167a. Change it in ...
    { the policy }
    // What stood here before:
    //| { its lines }

The sum leaves blanks out, which an editor may change.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from components.settings import Settings

_FIRST: Final = re.compile(r"// Written by (?P<writer>\S+), (?P<sum>[0-9a-f]{16})\. .*\n")
_BEFORE: Final = "// What stood here before:\n"
_LINE: Final = "//| "


@dataclass(frozen=True)
class Marked:
    """A policy with a mark."""

    writer: str
    intact: bool
    """Whether nobody changed the text since."""
    before: str
    """The policy that it took the place of; empty if it doesn't say."""


def writer(settings: Settings) -> str:
    """The stack's name in a mark: the same after a `destroy`."""
    return f"{settings.project}/{settings.prefix}"


def marked(policy: str, written_by: str, before: str) -> str:
    """The text that is registered."""
    kept = "".join(f"{_LINE}{line}\n" for line in before.removesuffix("\n").split("\n"))
    body = f"{policy}\n{_BEFORE}{kept}"
    told = "Change it in `tailnet.policy_file`: `pulumi up` replaces what is edited here."
    return f"// Written by {written_by}, {_sum(written_by, body)}. {told}\n{body}"


def read(text: str) -> Marked | None:
    """What the mark says; None if there is none."""
    text = text.replace("\r\n", "\n")
    first = _FIRST.search(text)
    if not first:
        return None
    body = text[first.end() :]
    intact = not text[: first.start()].strip() and _sum(first["writer"], body) == first["sum"]
    lines = body.partition(_BEFORE)[2].split("\n")
    before = "".join(f"{line[len(_LINE) :]}\n" for line in lines if line.startswith(_LINE.rstrip()))
    return Marked(first["writer"], intact, before)


def unmarked(text: str) -> str:
    """The policy without what stood before it."""
    return text.partition(_BEFORE.rstrip())[0]


def _sum(written_by: str, body: str) -> str:
    return sha256("".join([written_by, *body.split()]).encode()).hexdigest()[:16]
