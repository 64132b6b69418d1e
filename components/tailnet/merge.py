"""The user's own policy with this stack's share added.

Owns: the merge, and what the user's rules must not say beside the share. Does not own: the share (`policy`), reading
the file (`own_file`). Only Tailscale knows who is in a group and which address a host alias means: that is left to the
policy's tests, which Tailscale runs before it accepts an update.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from components import ports
from components.settings import Settings
from components.settings.section import SettingsError
from components.tailnet import own_file, reach
from components.tailnet.own_file import OwnFile, Row, refused
from components.tailnet.policy import GATEWAY, Policy, policy, share

_TAG: Final = re.compile(r"tag:[A-Za-z][A-Za-z0-9-]*")


def declared(settings: Settings) -> Policy:
    """The policy that this stack registers; raises `SettingsError` if the user's own can't stand beside its share."""
    if not settings.tailnet.policy_file:
        return policy(settings)
    users, ours = own_file.read(settings.tailnet.policy_file), share(settings)
    merged = _merged(users, ours)
    parts = (_other_owners, _open_doors, _contrary_tests, _routes)
    found = [line for part in parts for line in part(users, ours)] + _ownerless(merged)
    if found:
        raise SettingsError(found)
    return merged


def require_mergeable(settings: Settings) -> None:
    """Refuses a policy file that this stack could not register, before any resource exists."""
    if settings.tailnet.policy_owner:
        declared(settings)


def shielded_alone(settings: Settings) -> list[str]:
    """Rules of the user's that let people reach the gateway: `--shields-up` alone closes it then.

    Not refused: `autogroup:member` -> `*:*` is what most owners wrote, and shields hold whatever a policy allows.
    """
    if not (settings.tailnet.policy_owner and settings.tailnet.policy_file):
        return []
    users = own_file.read(settings.tailnet.policy_file)
    ours = set(share(settings)["tagOwners"])
    return [
        f"tailnet.policy_file {users.written(name)}[{i}] lets {source} reach tag:gateway: no test of the policy closes "
        + "the gateway to it, only `--shields-up` in the gateway itself does. To close it in the policy too, name "
        + "what is meant instead of everything."
        for name in ("acls", "grants")
        for i, rule in enumerate(users.rows(name))
        for source in reach.sources(rule)
        if source not in ours and any(reach.opens(rule, source, f"{GATEWAY}:{port}") for port in ports.GATEWAY)
    ]


def _merged(users: OwnFile, ours: Policy) -> Policy:
    """All that the user wrote, then what this stack needs and the user didn't write."""
    merged = dict(users.document)
    for name, own in ours.items():
        if name == "tagOwners":
            merged[users.written(name)] = {**users.owners(), **own}
        else:
            rows = users.rows(name)
            present = [_canonical(row) for row in rows]
            merged[users.written(name)] = [*rows, *(row for row in own if _canonical(row) not in present)]
    return merged


def _canonical(row: Row) -> Row:
    """A rule without the order of its lists, which means nothing."""
    return {key: sorted(map(str, cast(list[Any], v))) if isinstance(v, list) else v for key, v in row.items()}


def _other_owners(users: OwnFile, ours: Policy) -> Iterator[str]:
    for tag, theirs in users.owners().items():
        own = cast(list[str], ours["tagOwners"].get(tag, theirs))
        if sorted(theirs) != sorted(own):
            yield refused(
                f"gives it to {', '.join(theirs) or 'nobody'}, this stack to {', '.join(own)}",
                "remove it there, or set `tailnet.owners` to the same",
                at=f"{users.written('tagOwners')}.{tag}",
                consequence="who may add machines to home's side of the tailnet would not be who `tailnet.owners` says",
            )


def _open_doors(users: OwnFile, ours: Policy) -> Iterator[str]:
    """Rules that let one of this stack's machines reach what its tests deny."""
    denied = [(*_asked(row), target) for row in ours["tests"] for target in row.get("deny", ())]
    for name in ("acls", "grants"):
        for i, rule in enumerate(users.rows(name)):
            opened = [f"{src} reach {dst}" for src, by, dst in denied if reach.opens(rule, src, dst, by)]
            if opened:
                more = f" and {len(opened) - 1} more that this stack's tests deny" if len(opened) > 1 else ""
                yield refused(
                    f"must not let {opened[0]}{more}",
                    "name who is meant instead of everybody, for example `autogroup:member`",
                    at=f"{users.written(name)}[{i}]",
                )


def _contrary_tests(users: OwnFile, ours: Policy) -> Iterator[str]:
    verdicts = ("accept", "deny")
    said = {
        (*_asked(row), dst): verdict for row in ours["tests"] for verdict in verdicts for dst in row.get(verdict, ())
    }
    for i, row in enumerate(users.rows("tests")):
        for verdict in verdicts:
            for _, dst in _texts(row.get(verdict), ""):
                if said.get((*_asked(row), dst), verdict) != verdict:
                    rule = f"must not {verdict} {row['src']} -> {dst}: this stack's tests want the contrary"
                    yield refused(rule, "remove it there", at=f"{users.written('tests')}[{i}]")


def _asked(row: Row) -> tuple[str, str]:
    """Whom a test asks for, and by which protocol."""
    return str(row.get("src")), str(row.get("proto", "tcp"))


def _routes(users: OwnFile, ours: Policy) -> Iterator[str]:
    """Home is one machine and no way into its network; the gateway and CI are no way anywhere."""
    for where, text in _texts(users.section("autoApprovers"), users.written("autoApprovers")):
        if text in ours["tagOwners"]:
            yield refused(
                f"must not name {text}",
                "approve routes of other machines only",
                at=where,
                consequence="a machine of this stack could draw traffic of the whole tailnet to itself",
            )


def _ownerless(merged: Policy) -> list[str]:
    """Tags that are used and that nobody may give out."""
    known = {tag for name, owners in merged.items() if name.lower() == "tagowners" for tag in owners}
    used: dict[str, str] = {}
    for where, text in _texts(merged, ""):
        for tag in _TAG.findall(text):
            used.setdefault(tag, where)
    return [
        refused(f"uses {tag}, which has no owner", f'add "{tag}": ["autogroup:admin"] to `tagOwners`', at=where)
        for tag, where in used.items()
        if tag not in known
    ]


def _texts(value: object, where: str) -> Iterator[tuple[str, str]]:
    """Every text in a value, with its place."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, list):
        for i, item in enumerate(cast(list[object], value)):
            yield from _texts(item, f"{where}[{i}]")
    elif isinstance(value, dict):
        for key, item in cast(dict[str, object], value).items():
            yield from _texts(item, f"{where}.{key}" if where else key)
