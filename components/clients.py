"""The clients' bearer keys.

Owns: a key for every client that brings none, made once and kept in the stack's state as a secret, and the old ones
until they end; what a client is handed. Does not own: where keys are checked and their end is kept (`gateway`).
"""

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_random as random

from components.settings import Settings
from components.settings.client_keys import ClientKey, current, in_grace


class Clients(pulumi.ComponentResource):
    """`keys`, old ones in grace included, and `current` by the client's name: every one a secret."""

    keys: Mapping[ClientKey, pulumi.Output[str]]
    current: Mapping[str, pulumi.Output[str]]

    def __init__(self, name: str, settings: Settings, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pilotlight:clients:Clients", name, None, opts)
        self._name = name
        grace = in_grace(settings)
        self._never_anew = _never_anew() if grace else None
        self.keys = {key: self._value(key) for key in (*current(settings), *grace)}
        self.current = {key.client: value for key, value in self.keys.items() if not key.until}
        self.register_outputs({"keys": self.current})

    def env(self, url: pulumi.Output[str], model: str) -> pulumi.Output[Mapping[str, str]]:
        """What each client needs, by its name, as the text of its `.env`; the gateway is at `url`. A secret."""

        def written(found: Mapping[str, Any]) -> Mapping[str, str]:
            lines = f"OPENAI_BASE_URL={found['url']}/v1\nOPENAI_API_KEY={{key}}\nOPENAI_MODEL={model}\n"
            return {client: lines.format(key=key) for client, key in found["keys"].items()}

        return pulumi.Output.secret(pulumi.Output.all(url=url, keys=dict(self.current)).apply(written))

    def _value(self, key: ClientKey) -> pulumi.Output[str]:
        if key.own:
            return pulumi.Output.secret(key.own.get_secret_value())
        made = random.RandomPassword(
            f"{self._name}-{key.client}{key.suffix}",
            # 43 of 62 letters and digits hold 256 random bits. The provider's special characters are left out: the
            # gateway takes none of them but `-` and `_`.
            length=43,
            special=False,
            opts=pulumi.ResourceOptions(parent=self, hooks=self._never_anew if key.until else None),
        )
        return pulumi.Output.secret(pulumi.Output.concat("sk-", made.result))


def _never_anew() -> pulumi.ResourceHookBinding:
    """Only the engine knows which keys there are."""
    options = pulumi.ResourceHookOptions(on_dry_run=True)
    return pulumi.ResourceHookBinding(before_create=[pulumi.ResourceHook("old-key-never-anew", _refuse, options)])


def _refuse(made: pulumi.ResourceHookArgs) -> None:
    raise RuntimeError(
        f"old_keys: a key in grace is one that the stack has; {made.name} would be made anew. Consequence: nobody "
        + "holds it, and the key that callers do hold would end at once. Fix: `old_keys` names the `generation` that "
        + "the client has had until now, and `clients` the next one."
    )
