"""What one rule of a policy lets through, as far as its own text says it.

Owns: reading `acls` and `grants` for one source and one `tag:port`. Does not own: groups, host aliases and address
ranges, which only Tailscale can resolve. Pure.
"""

from typing import Any, cast

_EVERYBODY = ("*", "autogroup:tagged")
"""Names that stand for every tagged machine."""


_NUMBERS = {"tcp": "6", "udp": "17"}
"""Protocols by their number, as a rule may name them."""


def opens(rule: dict[str, Any], source: str, target: str, protocol: str = "tcp") -> bool:
    """Whether the rule lets the tag, or who else it names, `source` reach `target` (`tag:home:22`) over tcp or udp."""
    # The fields' older names are `users` and `ports`.
    fields = {key.lower(): value for key, value in rule.items()}
    host, _, port = target.rpartition(":")
    if not _names(sources(rule), source):
        return False
    targets = _list(fields.get("dst", fields.get("ports")))
    if "action" not in fields:
        # A grant: its destinations have no ports, `ip` has them; without `ip` it opens no network.
        return _names(targets, host) and any(_grants(item, int(port), protocol) for item in _list(fields.get("ip")))
    if str(fields.get("proto") or protocol) not in (protocol, _NUMBERS[protocol]):
        return False
    parts = (entry.rpartition(":") for entry in targets)
    return any(_names([name], host) and _has(ports, int(port)) for name, _, ports in parts)


def sources(rule: dict[str, Any]) -> list[str]:
    """Who the rule is for, as it names them."""
    fields = {key.lower(): value for key, value in rule.items()}
    return _list(fields.get("src", fields.get("users")))


def _list(value: object) -> list[str]:
    return [str(item) for item in cast(list[object], value)] if isinstance(value, list) else []


def _names(entries: list[str], tag: str) -> bool:
    return any(entry == tag or entry in _EVERYBODY for entry in entries)


def _grants(item: str, port: int, protocol: str) -> bool:
    named, colon, ports = item.rpartition(":")
    return (not colon or named in (protocol, _NUMBERS[protocol], "*")) and _has(ports, port)


def _has(ports: str, port: int) -> bool:
    """Whether `*`, `22`, `20-30` or a list of them holds the port."""
    if ports == "*":
        return True
    for part in ports.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit() and int(first) <= port <= int(last if last.isdigit() else first):
            return True
    return False
