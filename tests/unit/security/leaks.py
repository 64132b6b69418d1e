"""Where a secret's value stands in plain text: the search through a recorded stack, and through any text or bytes.

Owns: the forms in which a value is looked for, what a container (base64, bzip2, zip) is opened, which property counts
as secret. Does not own: the values (a test plants recognizable ones).
"""

import base64
import binascii
import bz2
import functools
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

import yaml

from lab.read.stack import Resource, Stack

_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]{16,}={0,2}")
_DEEPEST: Final = 3
"""Containers in containers: base64 of bzip2 of base64."""


@functools.lru_cache(maxsize=1000)
def forms(value: str) -> set[bytes]:
    """A value as it is, escaped as JSON and YAML do, in hex and in base64 at each place of a group."""
    raw = value.encode()
    found = {raw, json.dumps(value)[1:-1].encode(), value.encode("unicode_escape"), raw.hex().encode()}
    for before in range(3):
        # The first and the last group depend on what stands around it.
        whole = base64.b64encode(b"\0" * before + raw)
        inner = whole[4 if before else 0 : len(whole) // 4 * 4 - 4]
        found |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return {form for form in found if len(form) >= 8}


def holds(content: bytes, values: Iterable[str]) -> set[str]:
    """The values that stand in the content, or in what is packed in it."""
    texts = opened(content)
    return {value for value in values if any(form in text for form in forms(value) for text in texts)}


@functools.lru_cache(maxsize=10_000)
def opened(content: bytes) -> tuple[bytes, ...]:
    """The content, and everything that is packed in it."""
    return tuple(_opened(content))


def _opened(content: bytes, depth: int = 0) -> Iterator[bytes]:
    yield content
    if depth == _DEEPEST:
        return
    inner: list[bytes] = []
    if content.startswith(b"BZh"):
        inner.append(bz2.decompress(content))
    elif content.startswith(b"PK") and zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inner += [archive.read(name) for name in archive.namelist()]
    else:
        for part in _BASE64.findall(content):
            try:
                inner.append(base64.b64decode(part, validate=True))
            except (binascii.Error, ValueError):
                continue
    for one in inner:
        yield from _opened(one, depth + 1)


def shown(stack: Stack, values: Mapping[str, str]) -> list[str]:
    """`resource.path: name` of each place where a value of `values` (name -> value) stands and nothing marks it."""
    names = {value: name for name, value in values.items()}
    found: set[str] = set()
    for resource in stack.resources:
        marked = {"inputs": resource.secrets, "outputs": resource.secret_outputs, "options": frozenset[str]()}
        for part, secrets in marked.items():
            for path in _plain(getattr(resource, part), names, secrets):
                found.add(f"{resource.name} {part}.{path}")
        for value in holds(f"{resource.name} {resource.urn}".encode(), names):
            found.add(f"the name {resource.name}: {names[value]}")
    for path in _plain(stack.outputs, names, stack.secret_outputs):
        found.add(f"output {path}")
    return sorted(found)


def _plain(value: Any, names: Mapping[str, str], secrets: frozenset[str], path: str = "") -> Iterator[str]:
    if path in secrets:
        return
    if isinstance(value, Mapping):
        for key, item in cast(Mapping[str, Any], value).items():
            yield from _plain(item, names, secrets, f"{path}.{key}".lstrip("."))
            yield from (f"{path}'s keys: {names[one]}" for one in holds(str(key).encode(), names))
    elif isinstance(value, list):
        for index, item in enumerate(cast(list[Any], value)):
            yield from _plain(item, names, secrets, f"{path}.{index}".lstrip("."))
    else:
        yield from (f"{path}: {names[one]}" for one in holds(str(value).encode(), names))


def keys_of(stack: Stack) -> dict[str, str]:
    """What a stack registers of keys, by where it came from: made ones, auth keys, what a kubeconfig holds."""
    found: dict[str, str] = {}
    for resource in stack.resources:
        found |= _keys(resource)
    for client, key in stack.outputs.get("api_keys", {}).items():
        found[f"key of {client}"] = key
    return {name: value for name, value in found.items() if len(value) >= 8 and not value.startswith("<")}


def _keys(resource: Resource) -> dict[str, str]:
    match resource.type:
        case "random:index/randomPassword:RandomPassword":
            return {f"{resource.name}, made": str(resource.outputs.get("result", ""))}
        case "tailscale:index/tailnetKey:TailnetKey":
            return {f"{resource.name}, made": str(resource.outputs.get("key", "")).strip()}
        case "pulumi:providers:kubernetes":
            return in_kubeconfig(str(resource.inputs["kubeconfig"]))
        case _:
            return {}


def in_kubeconfig(text: str) -> dict[str, str]:
    """The secret parts of it, and the whole."""
    found = {"kubeconfig": text}
    document: object = yaml.safe_load(text)
    users = cast(dict[str, Any], document).get("users", ()) if isinstance(document, dict) else ()
    for entry in cast(list[dict[str, Any]], users):
        for name in ("token", "client-key-data", "password"):
            if name in entry["user"]:
                found[f"kubeconfig's {name}"] = str(entry["user"][name])
    return found
