"""Home's Kubernetes as its provider answers: releases whose names are taken, and a cluster that is off.

Owns: the answers of pulumi-kubernetes 4.34 (provider/pkg/provider/provider.go, helm_release.go) and the one of Helm's
that a forgotten release gets. Does not own: when the cluster is off (`anyprovider`), whether objects are valid.
"""

from typing import Any, Final

from tests.engine.behaviour import Behaviour, Refused, Resource, World, token_of

RELEASE: Final = "kubernetes:helm.sh/v3:Release"
UNREACHABLE: Final = "configured Kubernetes cluster is unreachable"
"""Of an unreachable cluster, where the provider changes an object."""
RELEASE_UNREACHABLE: Final = "Helm Release with unreachable cluster"
"""Of an unreachable cluster, where the provider changes a release."""
IN_USE: Final = "cannot re-use a name that is still in use"
"""Helm's (pkg/action/install.go, `availableName`)."""


def refusal(operation: str, urn: str) -> str:
    """What the provider says to an operation, `create`, `update` or `delete`, while its cluster is unreachable."""
    return f"can't {operation} {RELEASE_UNREACHABLE}" if token_of(urn) == RELEASE else UNREACHABLE


class Releases(Behaviour):
    """A release is one of a namespace and a name. Each stack has a cluster of its own."""

    def create(self, new: Resource, world: World) -> None:
        if new.token == RELEASE and any(_place(one) == _place(new) for one in world.values()):
            raise Refused(IN_USE)


def _place(one: Resource) -> tuple[Any, ...]:
    return one.token, one.stack, one.inputs.get("namespace"), one.inputs.get("name")
