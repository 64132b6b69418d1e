"""A Pulumi resource provider that accepts anything, so that the real engine can run the program without a cloud.

Owns: the provider protocol, and the outputs a real provider would compute, from a table `{type token: {property:
template}}`. In a template's strings `$id`, `$name`, `$made` (how often it was created) and every top-level text input
that is not secret (`$accountId`) are replaced; a function is called with the inputs and these three. It remembers what
exists (`world`). Does not own: what a cloud refuses, replaces or writes back, which is its behaviours' (`behaviour`);
validation; real diffs (a change is an update, unless a behaviour says otherwise); remote components. One server stands
in for several providers:

    provider = AnyProvider({"gcp:compute/network:Network": {"selfLink": "https://x.test/$name"}}, slow={})
    with serving(provider) as port:
        environment["PULUMI_DEBUG_PROVIDERS"] = debug_providers(port, "gcp", "kubernetes")
"""

# ruff: noqa: ARG002 (the arguments are those of the protocol)
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent import futures
from contextlib import contextmanager
from dataclasses import replace
from string import Template
from typing import Any, TypeVar, cast

import grpc
from google.protobuf import any_pb2, empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from tests.engine import kubernetes
from tests.engine.behaviour import (
    SIGNATURE,
    UNKNOWN,
    Behaviour,
    Difference,
    Properties,
    Refused,
    Resource,
    Unready,
    plain,
    token_of,
)

Outputs = Mapping[str, Mapping[str, Any]]
_Kind = TypeVar("_Kind", bound=Behaviour)


def _map_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """Changes every leaf of a template, leaving the mark of a secret as it is."""
    if isinstance(value, dict):
        mapping = cast(Properties, value)
        return {key: item if key == SIGNATURE else _map_leaves(item, change) for key, item in mapping.items()}
    if isinstance(value, list):
        return [_map_leaves(item, change) for item in cast(list[Any], value)]
    return change(value)


def _merge(computed: Properties, given: Properties) -> Properties:
    """Lays what the program gave over what was computed, object by object."""
    merged = {**computed, **given}
    for key in computed.keys() & given.keys():
        ours, theirs = computed[key], given[key]
        if isinstance(ours, dict) and isinstance(theirs, dict) and SIGNATURE not in {*ours, *theirs}:
            merged[key] = _merge(cast(Properties, ours), cast(Properties, theirs))
    return merged


def _to_dict(properties: struct_pb2.Struct) -> Properties:
    return json_format.MessageToDict(properties)


def _to_struct(properties: Properties) -> struct_pb2.Struct:
    return json_format.ParseDict(properties, struct_pb2.Struct())


class AnyProvider(provider_pb2_grpc.ResourceProviderServicer):
    """Answers every call of the engine; `deleted` lists the type tokens it was asked to delete, `changes` all it did.

    `slow` is how long the creation of a type takes, seconds: what doesn't wait for it is then made earlier. Behaviours
    are asked in their order.
    """

    def __init__(self, outputs: Outputs, slow: Mapping[str, float], behaviours: Iterable[Behaviour] = ()) -> None:
        self.outputs = outputs
        self.slow = slow
        self.behaviours = list(behaviours)
        self.world: dict[str, Resource] = {}
        """What exists, by id. Two stacks that declare the same thing (an API, the tailnet's policy) share it."""
        self.deleted: list[str] = []
        self.read: list[str] = []
        """URNs, in order."""
        self.changes: list[tuple[str, str]] = []
        """(operation, resource's name), in order."""
        self.unreachable = ""
        """Start of the type tokens whose cluster is off. Its provider answers then as pulumi-kubernetes 4.34
        (provider/pkg/provider/provider.go): with `skipUpdateUnreachable` what is there stays and the rest fails;
        without it, whatever changes fails. Nothing is deleted; with `deleteUnreachable` objects are forgotten,
        releases are not. A preview passes."""
        self._skips = True
        self._forgets = False
        self._made: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def also(self, behaviour: _Kind) -> Generator[_Kind]:
        """Has one more behaviour for a while, which is asked first."""
        self.behaviours.insert(0, behaviour)
        try:
            yield behaviour
        finally:
            self.behaviours.remove(behaviour)

    def of(self, kind: type[_Kind]) -> _Kind:
        """Its one behaviour of a kind."""
        [found] = [behaviour for behaviour in self.behaviours if isinstance(behaviour, kind)]
        return found

    def existing(self, token: str, stack: str | None = None) -> list[Resource]:
        """What exists of a type, and of one stack if that is named."""
        found = [resource for resource in self.world.values() if resource.token == token]
        return [one for one in found if stack in (None, one.stack)]

    def _computed(self, token: str, given: Properties, **names: str) -> Properties:
        texts = {key: value for key, value in given.items() if isinstance(value, str)} | names

        def expand(leaf: Any) -> Any:
            if callable(leaf):
                return leaf({**given, **names})
            text = Template(leaf).safe_substitute(texts) if isinstance(leaf, str) else leaf
            return UNKNOWN if UNKNOWN in str(text) else text

        return {key: _map_leaves(value, expand) for key, value in self.outputs.get(token, {}).items()}

    def _state(self, urn: str, given: Properties, identity: str) -> Properties:
        """Inputs and computed outputs of a resource; an empty identity is one yet to be known."""
        name = urn.split("::", 3)[3]
        computed = self._computed(token_of(urn), {"name": name, **given}, id=identity, made=str(self._made[urn]))
        if not identity:
            computed = cast(Properties, _map_leaves(computed, lambda _: UNKNOWN))
        return _merge(computed, given)

    def _away(self, urn: str) -> bool:
        return bool(self.unreachable) and token_of(urn).startswith(self.unreachable)

    def _note(self, operation: str, urn: str) -> None:
        self.changes.append((operation, urn.rsplit("::", 1)[-1]))

    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True, accept_resources=True, accept_outputs=True)

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version="9999.0.0")  # never too old for an SDK

    def Configure(self, request: Any, context: Any) -> Any:
        given = plain(_to_dict(request.args))
        if "skipUpdateUnreachable" in given:
            self._skips = given["skipUpdateUnreachable"] == "true"
            self._forgets = given.get("deleteUnreachable") == "true"
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True, supportsPreview=True, acceptResources=True, acceptOutputs=True
        )

    def Check(self, request: Any, context: Any) -> Any:
        if self._away(request.urn) and self._skips:
            return provider_pb2.CheckResponse(inputs=request.olds)
        return provider_pb2.CheckResponse(inputs=request.news)

    def Diff(self, request: Any, context: Any) -> Any:
        old, new = plain(_to_dict(request.old_inputs)), plain(_to_dict(request.news))
        changed = {key for key in old.keys() | new.keys() if old.get(key, ...) != new.get(key, ...)}
        found = Difference(changed, replaces=set())
        known = Resource(request.urn, request.id, old, _to_dict(request.olds), serial=0)
        for behaviour in self.behaviours:
            behaviour.diff(known, new, found)
        kind = provider_pb2.DiffResponse
        return kind(
            changes=kind.DIFF_SOME if found.changed else kind.DIFF_NONE,
            diffs=sorted(found.changed),
            replaces=sorted(found.replaces),
            deleteBeforeReplace=found.delete_first,
        )

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return self.Check(request, context)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        return self.Diff(request, context)

    def Create(self, request: Any, context: Any) -> Any:
        if self._away(request.urn) and not request.preview:
            context.abort(grpc.StatusCode.UNKNOWN, kubernetes.refusal("create", request.urn))
        given = _to_dict(request.properties)
        if request.preview:
            # The engine must see that the computed outputs of a new resource are unknown.
            return provider_pb2.CreateResponse(properties=_to_struct(self._state(request.urn, given, "")))
        time.sleep(self.slow.get(token_of(request.urn), 0))
        with _told(context), self._lock:
            made = self._create(request.urn, given)
        return provider_pb2.CreateResponse(id=made.id, properties=_to_struct(made.state))

    def Read(self, request: Any, context: Any) -> Any:
        with self._lock:
            if request.id not in self.world:
                return provider_pb2.ReadResponse()
            found = self._written(self.world[request.id])
            self.read.append(request.urn)
        # As the bridge: what was given, as it is found now.
        given = {key: found.state.get(key, value) for key, value in _to_dict(request.inputs).items()}
        return provider_pb2.ReadResponse(id=found.id, properties=_to_struct(found.state), inputs=_to_struct(given))

    def Update(self, request: Any, context: Any) -> Any:
        if self._away(request.urn) and not request.preview:
            context.abort(grpc.StatusCode.UNKNOWN, kubernetes.refusal("update", request.urn))
        given = _to_dict(request.news)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=_to_struct(self._state(request.urn, given, request.id)))
        with _told(context), self._lock:
            old = self.world[request.id]
            new = self._resource(request.urn, given, request.id, old.serial)
            new = self._change("update", new, old, new)
        return provider_pb2.UpdateResponse(properties=_to_struct(new.state))

    def Delete(self, request: Any, context: Any) -> Any:
        if self._away(request.urn):
            if self._forgets and token_of(request.urn) != kubernetes.RELEASE:
                return empty_pb2.Empty()
            context.abort(grpc.StatusCode.UNKNOWN, kubernetes.refusal("delete", request.urn))
        with _told(context), self._lock:
            # A provider takes what is gone already for deleted.
            if request.id in self.world:
                self._ask("delete", self.world[request.id])
                del self.world[request.id]
            self.deleted.append(token_of(request.urn))
            self._note("delete", request.urn)
        return empty_pb2.Empty()

    def _create(self, urn: str, given: Properties) -> Resource:
        self._made[urn] += 1
        token, inputs = token_of(urn), plain(given)
        named = (behaviour.identity(token, inputs) for behaviour in self.behaviours)
        digest = hashlib.sha256(f"{urn} {self._made[urn]}".encode()).hexdigest()
        identity = next((name for name in named if name is not None), f"any-{digest[:12]}")
        new = self._resource(urn, given, identity, self._made.total())
        try:
            return self._change("create", new, new)
        except Refused:
            self._made[urn] -= 1
            raise

    def _resource(self, urn: str, given: Properties, identity: str, serial: int) -> Resource:
        return Resource(urn, identity, plain(given), self._state(urn, given, identity), serial)

    def _change(self, operation: str, new: Resource, *asked: Resource) -> Resource:
        """Makes `new` part of the world, unless a behaviour refuses; raises `_UnreadyResource` if it isn't ready."""
        reason = ""
        try:
            self._ask(operation, *asked)
        except Unready as unready:
            reason = str(unready)
        written = self.world[new.id] = self._written(new)
        self._note(operation, new.urn)
        if reason:
            raise _UnreadyResource(written, reason)
        return written

    def _ask(self, operation: str, *resources: Resource) -> None:
        for behaviour in self.behaviours:
            getattr(behaviour, operation)(*resources, self.world)

    def _written(self, found: Resource) -> Resource:
        for behaviour in self.behaviours:
            found = replace(found, state=_merge(found.state, behaviour.writes(found)))
        return found

    def Attach(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:
        given = _to_dict(request.args)
        told = (behaviour.invoke(request.tok) for behaviour in self.behaviours)
        answer = next((known for known in told if known is not None), None)
        if answer is None:
            answer = self._computed(request.tok, given) if request.tok in self.outputs else given
        fields: Properties = {"return": _to_struct(answer)}  # the field's name is a keyword of Python's
        return provider_pb2.InvokeResponse(**fields)


class _UnreadyResource(Exception):
    def __init__(self, made: Resource, reason: str) -> None:
        super().__init__(reason)
        self.made = made


@contextmanager
def _told(context: Any) -> Generator[None]:
    """Tells the engine what went wrong, as the bridge to Terraform's providers does."""
    try:
        yield
    except Refused as refused:
        context.abort(grpc.StatusCode.UNKNOWN, str(refused))
    except _UnreadyResource as unready:
        # `initializationError` in pkg/tfbridge/provider.go: an error that carries the resource.
        made, reason = unready.made, str(unready)
        failed = provider_pb2.ErrorResourceInitFailed(id=made.id, properties=_to_struct(made.state), reasons=[reason])
        detail = any_pb2.Any()
        detail.Pack(failed)
        status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=reason, details=[detail])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.UNKNOWN, reason)


@contextmanager
def serving(provider: AnyProvider) -> Generator[int]:
    """Serves on a free port of the loopback address, which is handed back."""
    options = [("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()


def debug_providers(port: int, *names: str) -> str:
    """The value of PULUMI_DEBUG_PROVIDERS which sends those providers' calls to the port."""
    return ",".join(f"{name}:{port}" for name in names)
