"""A Pulumi resource provider that accepts anything, so that the real engine can run the program without a cloud.

Owns: the provider protocol, and the outputs a real provider would compute, from a table `{type token: {property:
template}}`. In a template's strings `$id`, `$name`, `$made` (how often it was created) and every top-level text input
that is not secret (`$accountId`) are replaced; a function is called with the inputs and these three. Does not own:
validation, real diffs (a change is an update, unless `replaced` says otherwise), remote components. It keeps no state,
so one server stands in for several providers:

    provider = AnyProvider({"gcp:compute/network:Network": {"selfLink": "https://x.test/$name"}}, slow={})
    with serving(provider) as port:
        environment["PULUMI_DEBUG_PROVIDERS"] = debug_providers(port, "gcp", "kubernetes")
"""

# ruff: noqa: ARG002 (the arguments are those of the protocol)
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from string import Template
from typing import Any, Final, cast

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

# How the engine writes special values; these constants are part of Pulumi's wire format.
SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"
OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
UNREACHABLE: Final = "configured Kubernetes cluster is unreachable"

Properties = dict[str, Any]
Outputs = Mapping[str, Mapping[str, Any]]


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

    `slow` is how long the creation of a type takes, seconds: what doesn't wait for it is then made earlier. `replaced`
    names the inputs of a type whose change makes a new resource.
    """

    def __init__(
        self, outputs: Outputs, slow: Mapping[str, float], replaced: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.outputs = outputs
        self.slow = slow
        self.replaced = replaced or {}
        self.deleted: list[str] = []
        self.changes: list[tuple[str, str]] = []
        """(operation, resource's name), in order."""
        self.unreachable = ""
        """Start of the type tokens whose cluster is off. It answers then as pulumi-kubernetes 4.33
        (provider/pkg/provider/provider.go): with `skipUpdateUnreachable` what is there stays and the rest fails;
        without it, whatever changes fails. A preview passes."""
        self._skips = True
        self._made: Counter[str] = Counter()

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
        computed = self._computed(_token(urn), {"name": name, **given}, id=identity, made=str(self._made[urn]))
        if not identity:
            computed = cast(Properties, _map_leaves(computed, lambda _: UNKNOWN))
        return _merge(computed, given)

    def _away(self, urn: str) -> bool:
        return bool(self.unreachable) and _token(urn).startswith(self.unreachable)

    def _note(self, operation: str, urn: str) -> None:
        self.changes.append((operation, urn.rsplit("::", 1)[-1]))

    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True, accept_resources=True, accept_outputs=True)

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version="9999.0.0")  # never too old for an SDK

    def Configure(self, request: Any, context: Any) -> Any:
        if skips := _to_dict(request.args).get("skipUpdateUnreachable"):
            self._skips = plain(skips) == "true"
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True, supportsPreview=True, acceptResources=True, acceptOutputs=True
        )

    def Check(self, request: Any, context: Any) -> Any:
        if self._away(request.urn) and self._skips:
            return provider_pb2.CheckResponse(inputs=request.olds)
        return provider_pb2.CheckResponse(inputs=request.news)

    def Diff(self, request: Any, context: Any) -> Any:
        old, new = plain(_to_dict(request.old_inputs)), plain(_to_dict(request.news))
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key, ...) != new.get(key, ...))
        replaces = sorted(set(changed) & set(self.replaced.get(_token(request.urn), ())))
        kind = provider_pb2.DiffResponse
        return kind(changes=kind.DIFF_SOME if changed else kind.DIFF_NONE, diffs=changed, replaces=replaces)

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return self.Check(request, context)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        return self.Diff(request, context)

    def Create(self, request: Any, context: Any) -> Any:
        if self._away(request.urn) and not request.preview:
            context.abort(grpc.StatusCode.UNKNOWN, UNREACHABLE)
        if not request.preview:
            self._made[request.urn] += 1
            self._note("create", request.urn)
        digest = hashlib.sha256(f"{request.urn} {self._made[request.urn]}".encode()).hexdigest()
        # In a preview the engine must see that the computed outputs of a new resource are unknown.
        identity = "" if request.preview else f"any-{digest[:12]}"
        if not request.preview:
            time.sleep(self.slow.get(_token(request.urn), 0))
        state = self._state(request.urn, _to_dict(request.properties), identity)
        return provider_pb2.CreateResponse(id=identity, properties=_to_struct(state))

    def Read(self, request: Any, context: Any) -> Any:
        state = self._state(request.urn, _to_dict(request.inputs), request.id)
        properties = _to_struct(_merge(state, _to_dict(request.properties)))
        return provider_pb2.ReadResponse(id=request.id, properties=properties, inputs=request.inputs)

    def Update(self, request: Any, context: Any) -> Any:
        if self._away(request.urn) and not request.preview:
            context.abort(grpc.StatusCode.UNKNOWN, UNREACHABLE)
        if not request.preview:
            self._note("update", request.urn)
        state = self._state(request.urn, _to_dict(request.news), request.id)
        return provider_pb2.UpdateResponse(properties=_to_struct(state))

    def Delete(self, request: Any, context: Any) -> Any:
        if self._away(request.urn):
            context.abort(grpc.StatusCode.UNKNOWN, UNREACHABLE)
        self.deleted.append(_token(request.urn))
        self._note("delete", request.urn)
        return empty_pb2.Empty()

    def Attach(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:
        given = _to_dict(request.args)
        answer = self._computed(request.tok, given) if request.tok in self.outputs else given
        fields: Properties = {"return": _to_struct(answer)}  # the field's name is a keyword of Python's
        return provider_pb2.InvokeResponse(**fields)


def _token(urn: str) -> str:
    """The type token in `urn:pulumi:<stack>::<project>::<parent type>$<type>::<name>`."""
    return urn.split("::", 3)[2].split("$")[-1]


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
