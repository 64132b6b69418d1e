"""Renders the Pulumi program in process and records the resources that it registers.

Owns: the recording monitor, which stands in for the engine. Does not own: a cloud's answers (`cloud`), the
reading of the resources (`plan`). The program runs unchanged: `__main__.py` with the config of `Pulumi.<stack>.yaml`.
"""

import asyncio
import json
import logging
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import yaml
from google.protobuf import json_format, struct_pb2
from pulumi.runtime import rpc, set_mocks
from pulumi.runtime import stack as pulumi_stack
from pulumi.runtime.config import set_all_config
from pulumi.runtime.mocks import MockMonitor, Mocks
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import SETTINGS, set_root_resource

from lab.errors import LabError

ROOT: Final = Path(__file__).resolve().parents[2]
PROJECT: Final = "pilotlight"
"""The Pulumi project's name, with which the keys of its config begin."""
STASH: Final = "pulumi:index:Stash"
"""The engine's own resource, which keeps a value."""
UNKNOWN: Final = "<unknown>"
"""How a value stands in a recorded resource that a preview can't know."""


@dataclass(frozen=True)
class Resource:
    """One registered resource; inputs and outputs are plain values with the provider's camelCase names."""

    urn: str
    type: str
    name: str
    parent: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    options: dict[str, Any]
    secrets: frozenset[str]
    """Inputs that are secret, as dotted paths: `secretData`, `envs.0.value`."""
    secret_outputs: frozenset[str] = frozenset()
    """The same of its outputs: the engine marks those of secret inputs, and what the program or a component says."""


@dataclass(frozen=True)
class Stack:
    """All that one run of the program registered, in order."""

    name: str
    resources: list[Resource]
    outputs: dict[str, Any]
    secret_outputs: frozenset[str] = frozenset()
    """As a resource's."""

    def of_type(self, token: str) -> list[Resource]:
        """Resources whose type token is exactly `token`."""
        return [resource for resource in self.resources if resource.type == token]


Compute = Callable[[str, dict[str, Any], Sequence[Resource]], dict[str, Any]]
"""What the provider would add: (type token, inputs, what there is already) -> outputs, `id` among them where it
matters."""


def config_of(stack: str) -> dict[str, str]:
    """The stack's config as the engine hands it to the program, without secrets, which only its owner can read."""
    path = ROOT / f"Pulumi.{stack}.yaml"
    if not path.exists():
        known = ", ".join(sorted(p.name.split(".")[1] for p in ROOT.glob("Pulumi.*.yaml")))
        raise LabError(f"no stack named {stack!r}: {path.name} does not exist (there is: {known})")
    document = cast(dict[str, Any], yaml.safe_load(path.read_text()) or {})
    found: dict[str, str] = {}
    for key, value in cast(dict[str, Any], document.get("config") or {}).items():
        readable = _without_secrets(value)
        if readable is not None:
            full = key if ":" in key else f"{PROJECT}:{key}"
            # YAML has days and moments, JSON has not.
            found[full] = readable if isinstance(readable, str) else json.dumps(readable, default=str)
    return found


def settings_given(words: Sequence[str]) -> dict[str, str]:
    """Settings of one run, each `KEY=JSON`, or `KEY=@FILE`: a command line is everybody's to read."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise LabError(f"--config takes KEY=JSON or KEY=@FILE, not {' '.join(words)}")
        if value.startswith("@"):
            try:
                value = Path(value[1:]).read_text()
            except OSError as error:
                raise LabError(f"--config {key}: {value[1:]} can't be read: {error.strerror}") from None
        found[key if ":" in key else f"{PROJECT}:{key}"] = value
    return found


def render(stack: str, config: Mapping[str, str], compute: Compute, *, preview: bool = False) -> Stack:
    """Runs the program once and returns what it registered.

    With `preview`, computed outputs are unknown, as in `pulumi preview` of a stack that doesn't exist yet.
    Raises whatever the program raises, `pulumi.RunError` for refused settings.
    """
    monitor = _RecordingMonitor(compute, preview=preview)
    # The loop comes first: `set_mocks` already starts tasks on the current one.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # A program that failed leaves its unfinished calls here, bound to a loop that is closed.
    left_behind = cast(Any, SETTINGS)
    left_behind.rpc_manager.clear()
    left_behind.outputs.clear()
    set_mocks(_NoMocks(), project=PROJECT, stack=stack, preview=preview, monitor=monitor)
    # Mocks bring a root resource that is finished before the program exports anything; `run_in_stack` makes its own.
    set_root_resource(cast(Any, None))
    set_all_config(dict(config), secret_keys=[f"{PROJECT}:{key}" for key in ("kubeconfig", "clients", "old_keys")])
    logging.getLogger("pulumi").setLevel(logging.ERROR)

    def program() -> None:
        runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")

    try:
        loop.run_until_complete(pulumi_stack.run_in_stack(program))
    finally:
        unfinished = asyncio.all_tasks(loop)
        for task in unfinished:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*unfinished, return_exceptions=True))
        loop.close()
        asyncio.set_event_loop(None)
    return Stack(stack, monitor.recorded, monitor.stack_outputs, monitor.secret_outputs)


class _NoMocks(Mocks):
    """Nothing gets past the recording monitor, whose answers leave no event loops behind in threads."""

    def call(self, args: Any) -> Any:
        raise LabError(f"call {args.token} did not come through the recording monitor")

    def new_resource(self, args: Any) -> tuple[str, dict[str, Any]]:
        raise LabError(f"resource {args.name} did not come through the recording monitor")


class _RecordingMonitor(MockMonitor):
    """Records registrations with their options, and refuses a URN that comes twice as the engine does."""

    def __init__(self, compute: Compute, *, preview: bool) -> None:
        super().__init__(_NoMocks())
        self._compute = compute
        self._preview = preview
        self.recorded: list[Resource] = []
        self.stack_outputs: dict[str, Any] = {}
        self.secret_outputs: frozenset[str] = frozenset()

    def RegisterResource(self, request: Any) -> Any:
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == "pulumi:pulumi:Stack":
            return resource_pb2.RegisterResourceResponse(urn=urn)
        if any(resource.urn == urn for resource in self.recorded):
            raise LabError(f"two resources are registered as {urn}")
        secrets: set[str] = set()
        inputs = _plain_struct(request.object, secrets)
        computed = self._compute(request.type, inputs, self.recorded) if self._knows(request) else {}
        identity = "" if self._preview or not request.custom else str(computed.pop("id", f"{request.name}-id"))
        answer = struct_pb2.Struct()
        answer.CopyFrom(request.object)
        answer.update(computed)
        for key in request.additionalSecretOutputs:
            if key in computed:
                answer.update({key: {rpc._special_sig_key: rpc._special_secret_sig, "value": computed[key]}})  # pyright: ignore[reportPrivateUsage]
        self.recorded.append(
            Resource(
                urn=urn,
                type=request.type,
                name=request.name,
                parent=request.parent.rsplit("::", 1)[-1],
                inputs=inputs,
                outputs={**inputs, **computed, "id": identity or UNKNOWN},
                options=_options(request),
                secrets=frozenset(secrets),
                secret_outputs=frozenset({*secrets, *request.additionalSecretOutputs}),
            )
        )
        return resource_pb2.RegisterResourceResponse(urn=urn, id=identity, object=answer)

    def _knows(self, request: Any) -> bool:
        """Whether the engine knows the outputs: in a preview those alone that it computes itself."""
        return request.custom and (not self._preview or request.type == STASH)

    def Invoke(self, request: Any) -> Any:
        found = self._compute(request.tok, _plain_struct(request.args, set()), ())
        if not found:
            raise LabError(f"the program calls {request.tok}; the lab has no cloud to ask")
        answer = struct_pb2.Struct()
        answer.update(found)
        fields: dict[str, Any] = {"return": answer}  # the field's name is a keyword of Python's
        return resource_pb2.ResourceInvokeResponse(**fields)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        secrets: set[str] = set()
        outputs = _plain_struct(request.outputs, secrets)
        # A component's URN names the stack, too: it is its parent's type.
        if "::pulumi:pulumi:Stack::" in request.urn:
            self.stack_outputs, self.secret_outputs = outputs, frozenset(secrets)
        for index, component in enumerate(self.recorded):
            if component.urn == request.urn:
                self.recorded[index] = replace(component, outputs=outputs, secret_outputs=frozenset(secrets))
        return cast(Any, super()).RegisterResourceOutputs(request)


def _options(request: Any) -> dict[str, Any]:
    """The resource options that change what the engine does; those at their default are left out."""
    dependencies = sorted(urn.rsplit("::", 1)[-1] for urn in request.dependencies)
    options = {
        "aliases": [alias.urn for alias in request.aliases if alias.urn],
        "deleteBeforeReplace": request.deleteBeforeReplace or None,
        "dependsOn": dependencies,
        "ignoreChanges": list(request.ignoreChanges),
        "import": request.importId,
        "protect": request.protect or None,
        "provider": request.provider.rsplit("::", 2)[-2] if request.provider else None,
        "replaceOnChanges": list(request.replaceOnChanges),
        "replacementTrigger": _plain(json_format.MessageToDict(request.replacement_trigger), "", set()),
        "retainOnDelete": request.retainOnDelete or None,
        "secretOutputs": [name for name in request.additionalSecretOutputs if not name.endswith("Labels")],
    }
    return {name: value for name, value in options.items() if value}


def _plain_struct(struct: Any, secrets: set[str]) -> dict[str, Any]:
    return cast(dict[str, Any], _plain(json_format.MessageToDict(struct), "", secrets))


def _plain(value: Any, path: str, secrets: set[str]) -> Any:
    """A wire value as plain data; the paths of secret ones are added to `secrets`."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value == rpc.UNKNOWN:
        return UNKNOWN
    if isinstance(value, list):
        return [_plain(item, f"{path}.{i}".lstrip("."), secrets) for i, item in enumerate(cast(list[Any], value))]
    if not isinstance(value, dict):
        return value
    mapping = cast(dict[str, Any], value)
    signature = mapping.get(rpc._special_sig_key)  # pyright: ignore[reportPrivateUsage]
    if signature == rpc._special_secret_sig:  # pyright: ignore[reportPrivateUsage]
        secrets.add(path)
        return _plain(mapping["value"], path, set())
    if signature == rpc._special_resource_sig:  # pyright: ignore[reportPrivateUsage]
        return mapping["urn"].rsplit("::", 1)[-1]
    return {key: _plain(item, f"{path}.{key}".lstrip("."), secrets) for key, item in mapping.items()}


def _without_secrets(value: Any) -> Any:
    """A config value without `secure:` parts; None where nothing is left."""
    if isinstance(value, dict):
        mapping = cast(dict[str, Any], value)
        if set(mapping) == {"secure"}:
            return None
        kept = {key: _without_secrets(item) for key, item in mapping.items()}
        return {key: item for key, item in kept.items() if item is not None}
    if isinstance(value, list):
        return [item for item in map(_without_secrets, cast(list[Any], value)) if item is not None]
    return value
