"""The keys that the gateway takes: each client's own, and its old ones until they end. Pure.

Owns: which keys there are, and their names. Does not own: the values in the config (`clients`), the rules
(`client_rules`), the making of keys (`components.clients`).
"""

from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from components.settings.kubeconfig import rfc3339
from components.settings.stack import Settings


@dataclass(frozen=True)
class ClientKey:
    """One key. A key keeps the name of its resources while it is the client's, and when it is the old one."""

    client: str
    generation: int | None
    """Of those that the stack makes; None: `own`."""
    own: SecretStr | None
    until: datetime | None = None
    """When it ends; None: not before the client gets another."""

    @property
    def suffix(self) -> str:
        """What a resource's name ends with. A client's name has no `_`: no two keys share a name."""
        if self.own:
            return "_old" if self.until else ""
        return "" if self.generation == 1 else f"_{self.generation}"

    @property
    def variable(self) -> str:
        """The environment variable that holds it. A client's name has no `_`, and no digit first: no two share one."""
        return variable(self.client, f"OLD_KEY_{self.generation or 0}" if self.until else "KEY")

    @property
    def ends(self) -> str:
        """`until`, RFC 3339, or nothing."""
        return rfc3339(self.until) if self.until else ""


def variable(client: str, kind: str = "KEY") -> str:
    """The environment variable that holds a client's key."""
    return f"CLIENT_{kind}_" + client.upper().replace("-", "_")


def current(settings: Settings) -> list[ClientKey]:
    """Every client's own key."""
    return [
        ClientKey(client.name, None if client.key else client.generation, client.key) for client in settings.clients
    ]


def in_grace(settings: Settings) -> list[ClientKey]:
    """The old keys that haven't ended."""
    return [
        ClientKey(old.client, old.generation, old.key, old.until)
        for old in settings.old_keys
        if old.until > settings.now
    ]


def told(settings: Settings) -> list[dict[str, str | int]]:
    """The old keys that still are good, without the keys: whose, which (`generation`, or `own`), and until when."""
    return [{"client": key.client, "key": key.generation or "own", "until": key.ends} for key in in_grace(settings)]
