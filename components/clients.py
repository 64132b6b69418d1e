"""The clients' bearer keys.

Owns: a key for every client that brings none, made once and kept in the stack's state as a secret. Does not own: where
keys are checked (`gateway`).
"""

from collections.abc import Mapping

import pulumi
import pulumi_random as random

from components.settings import Settings


class Clients(pulumi.ComponentResource):
    """`keys` by client name, every one a secret."""

    keys: Mapping[str, pulumi.Output[str]]

    def __init__(self, name: str, settings: Settings, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pilotlight:clients:Clients", name, None, opts)
        keys: dict[str, pulumi.Output[str]] = {}
        for client in settings.clients:
            if client.key:
                key = pulumi.Output.from_input(client.key.get_secret_value())
            else:
                made = random.RandomPassword(
                    f"{name}-{client.name}",
                    # 43 of 62 letters and digits hold 256 random bits. The provider's special characters are left
                    # out: the gateway takes none of them but `-` and `_`.
                    length=43,
                    special=False,
                    opts=pulumi.ResourceOptions(parent=self),
                )
                key = pulumi.Output.concat("sk-", made.result)
            keys[client.name] = pulumi.Output.secret(key)
        self.keys = keys
        self.register_outputs({"keys": keys})
