"""The clients' bearer keys.

Owns: a key for every client that brings none, made once and kept in the stack's state as a secret. Does not own: where
keys are checked (`gateway`). A dynamic resource, because none of the stack's providers makes random values.

The names of this module and of `_KeyMaker` are part of every stack's state (the provider is pickled by reference):
renamed, `pulumi destroy` of an older stack could not find them.
"""

import secrets
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider

from components.settings import Settings


class _KeyMaker(ResourceProvider):
    """Makes a key at creation and never again."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        key = "sk-" + secrets.token_urlsafe(32)
        return CreateResult(id_=props["client"], outs={**props, "key": key})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=_olds.get("client") != _news.get("client"), replaces=["client"])


class ClientKey(Resource, module="clients", name="ClientKey"):
    """A random bearer key, 43 characters of 256 random bits after `sk-`."""

    key: pulumi.Output[str]

    def __init__(self, name: str, *, client: str, opts: pulumi.ResourceOptions) -> None:
        super().__init__(_KeyMaker(), name, {"client": client, "key": None}, opts)


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
                made = ClientKey(
                    f"{name}-{client.name}",
                    client=client.name,
                    opts=pulumi.ResourceOptions(parent=self, additional_secret_outputs=["key"]),
                )
                key = made.key
            keys[client.name] = pulumi.Output.secret(key)
        self.keys = keys
        self.register_outputs({"keys": keys})
