"""A cloud's behaviours, in the words that `anyprovider` asks them with.

Owns: what a resource is to a cloud, the two ways in which a cloud says no, and the hooks of a behaviour. Does not own:
the provider protocol (`anyprovider`), the behaviours themselves (`google`, `tailscale`).
"""

# ruff: noqa: ARG002 (the arguments are those of the hooks)
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

# How the engine writes special values; these constants are part of Pulumi's wire format.
SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"
OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

Properties = dict[str, Any]


class Refused(Exception):
    """The cloud's refusal: nothing has changed."""


class Unready(Exception):
    """The cloud made or changed the resource, which then failed to become ready.

    The engine keeps such a resource with the error, and the next `up` updates it.
    """


@dataclass(frozen=True)
class Resource:
    """A resource as the cloud has it."""

    urn: str
    id: str
    inputs: Properties
    """Without the marks of secrets."""
    state: Properties
    """Inputs and computed outputs, secrets marked."""
    serial: int
    """Counts creations: a resource that was made again can have the id of the old one, never its serial."""

    @property
    def token(self) -> str:
        """The type token."""
        return token_of(self.urn)

    @property
    def stack(self) -> str:
        """The stack that made it."""
        return self.urn.split("::", 1)[0].removeprefix("urn:pulumi:")

    @property
    def name(self) -> str:
        """The name in the program, which the cloud doesn't know."""
        return self.urn.split("::", 3)[3]

    def refers_to(self, other: "Resource") -> bool:
        """Whether an input is the other's id, link or address."""
        computed = (plain(other.state.get(key)) for key in ("selfLink", "selfLinkUnique", "instanceGroup", "address"))
        links = {other.id, *computed} - {None, ""}
        return any(leaf in links for leaf in leaves(self.inputs))


World = Mapping[str, Resource]
"""What exists, by id."""


@dataclass
class Difference:
    """The answer to a diff; a behaviour may change it."""

    changed: set[str]
    """Top-level properties."""
    replaces: set[str]
    """Those that make a new resource."""
    delete_first: bool = False


class Behaviour:
    """One thing that a cloud does beyond accepting; a method that is left out does nothing.

    `create`, `update` and `delete` may raise `Refused`, `create` and `update` also `Unready`: later behaviours are then
    not asked. No method but `diff` is called in a preview, and never two at a time.
    """

    def identity(self, token: str, inputs: Properties) -> str | None:
        """The id that the cloud gives; None where the cloud draws one."""

    def create(self, new: Resource, world: World) -> None:
        """Called while `new` is not yet part of the world."""

    def update(self, old: Resource, new: Resource, world: World) -> None:
        """Called while the world still has `old`."""

    def delete(self, old: Resource, world: World) -> None:
        """Called while the world still has `old`."""

    def writes(self, found: Resource) -> Properties:
        """What the cloud itself writes into a resource's state, when it is made, changed or read."""
        return {}

    def diff(self, old: Resource, news: Properties, found: Difference) -> None:
        """`old` is what the engine remembers. In a preview, a value among `news` may be `UNKNOWN`."""

    def invoke(self, token: str) -> Properties | None:
        """The answer of a function that this behaviour knows."""


class FailsOnce(Behaviour):
    """Refuses each resource's first creation, update and deletion, as a cloud out of luck does.

    A resource of the `unready` types is made or changed all the same, and fails to become ready.
    """

    def __init__(self, unready: Sequence[str] = ()) -> None:
        self.unready = unready
        self.failed: list[tuple[str, str]] = []
        """(operation, URN), in order, each once."""

    def _fail(self, operation: str, urn: str) -> None:
        if (operation, urn) not in self.failed:
            self.failed.append((operation, urn))
            kind = Unready if operation != "delete" and token_of(urn) in self.unready else Refused
            raise kind(f"googleapi: Error 503: the first {operation} of {urn.rsplit('::', 1)[-1]} fails")

    def create(self, new: Resource, world: World) -> None:
        self._fail("create", new.urn)

    def update(self, old: Resource, new: Resource, world: World) -> None:
        self._fail("update", new.urn)

    def delete(self, old: Resource, world: World) -> None:
        self._fail("delete", old.urn)


def secret(value: Any) -> Properties:
    """Marks a value of the outputs table as secret."""
    return {SIGNATURE: SECRET, "value": value}


def plain(value: Any) -> Any:
    """Strips the wrappers of secrets and outputs, leaving values that can be compared."""
    if isinstance(value, dict):
        mapping = cast(Properties, value)
        if mapping.get(SIGNATURE) in (SECRET, OUTPUT):
            return plain(mapping.get("value", UNKNOWN))
        return {key: plain(item) for key, item in mapping.items()}
    return [plain(item) for item in cast(list[Any], value)] if isinstance(value, list) else value


def leaves(value: Any) -> Generator[Any]:
    """Every value in a structure that is no object and no list."""
    if isinstance(value, dict):
        for item in cast(Properties, value).values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in cast(list[Any], value):
            yield from leaves(item)
    else:
        yield value


def at(value: Any, path: str) -> list[Any]:
    """What stands at a dotted path, through every item of the lists on the way; nothing is an empty list."""
    found: list[Any] = [value]
    for key in path.split("."):
        items = [item for one in found for item in (cast(list[Any], one) if isinstance(one, list) else (one,))]
        found = [item[key] for item in items if isinstance(item, dict) and key in item]
    return found


def token_of(urn: str) -> str:
    """The type token in `urn:pulumi:<stack>::<project>::<parent type>$<type>::<name>`."""
    return urn.split("::", 3)[2].split("$")[-1]
