"""Texts that are made from the code and kept in the repository, so that a change shows in review.

Owns: the inventory of a stack, the config schema in Pulumi.yaml, the chart's scenario of each preset. Does not own: the
settings table in docs/ (`settings_table`). `update` writes them all, `test_golden` compares them.
"""

import bz2
import io
import json
import zipfile
from base64 import b64decode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, cast

import yaml

from components.gateway.pilot_start import PACKED
from components.home.chart import values
from components.settings.declared_services import declared
from components.settings.presets import PRESETS
from components.settings.reading import CONFIGURABLE
from components.settings.services import ServiceSettings
from components.settings.stack import Settings
from lab.read.cloud import Cloud
from lab.read.stack import ROOT, Resource, Stack, config_of, render

HERE: Final = Path(__file__).parent
PULUMI_YAML: Final = ROOT / "Pulumi.yaml"
SCENARIOS: Final = ROOT / "charts" / "ai-service" / "ci"
LONG_PROJECT: Final = "a-project-id-of-30-characters0"
STACKS: Final[Mapping[str, Mapping[str, str | None]]] = {
    "dev": {},
    "burst": {
        "pilotlight:lanes": '["home", "burst", "vm"]',
        "pilotlight:alerts": '{"email": "me@example.com", "uptime_check": true}',
        "pilotlight:budget": '{"per_month": 100, "billing_account": "012345-6789AB-CDEF01"}',
    },
    # One plain machine; by default the VM is spot capacity, and a group.
    "vm-only": {"pilotlight:lanes": '["vm"]', "pilotlight:vm": '{"spot": false}'},
    "card": {"pilotlight:lanes": '["vm"]', "pilotlight:vm": '{"gpu": "t4", "spot": true}'},
    # Joins without a key, too, and so does CI: nothing of a secret of the tailnet's is left.
    "home-only": {
        "pilotlight:lanes": '["home"]',
        "pilotlight:tailnet": '{"join": "federated", "ci_repository": "me/pilotlight"}',
    },
    # Long names, and two other regions: one without L4 on Cloud Run and with T4 in two zones, and one with both.
    "far": {
        "gcp:project": LONG_PROJECT,
        "gcp:region": "asia-northeast3",
        "pilotlight:lanes": '["vm"]',
        "pilotlight:vm": '{"gpu": "t4"}',
    },
    "europe": {
        "gcp:project": LONG_PROJECT,
        "gcp:region": "europe-west4",
        "pilotlight:lanes": '["burst", "vm"]',
    },
    "delivery": {
        "pilotlight:lanes": '["home", "burst", "vm"]',
        "pilotlight:delivery": '{"repository": "me/pilotlight", "environments": ["dev", "prod"]}',
    },
    # Beside dev: it owns neither home nor the tailnet's policy, so it has no kubeconfig either.
    "prod": {
        "pilotlight:kubeconfig": None,
        "pilotlight:delivery": '{"repository": "me/pilotlight", "owner": false}',
    },
    "services": {
        "pilotlight:services": json.dumps([{"name": name, "preset": name} for name in PRESETS]),
        "pilotlight:home": '{"nodes": 2}',
    },
}
"""Golden inventories: name -> config on top of that stack's file, or else of Pulumi.dev.yaml; None takes a key away."""
NAMED: Final = {"prod": "prod", "far": "robots-of-the-second-lab-seoul", "europe": "robots-of-the-first-lab-at-eem"}
"""Pulumi stacks of the inventories that aren't `dev`'s."""
HEADER: Final = "# What the program registers. Made by `make golden`; a difference is a change of the cloud.\n"


def rendered(name: str, *, preview: bool = False) -> Stack:
    """The stack of one golden inventory."""
    cloud = Cloud(port=8787, auth_key="tskey-auth-golden")
    stack = NAMED.get(name, "dev")
    file = stack if (ROOT / f"Pulumi.{stack}.yaml").exists() else "dev"
    config: dict[str, str | None] = {**cloud.config(), **config_of(file), **STACKS[name]}
    given = {key: value for key, value in config.items() if value is not None}
    return render(stack, given, cloud.compute, preview=preview)


def inventory(stack: Stack) -> str:
    """Every resource with parent, options and inputs, sorted by type and name; secret inputs masked."""
    resources = sorted(stack.resources, key=lambda resource: (resource.type, resource.name))
    document = {"resources": [_entry(resource) for resource in resources], "outputs": sorted(stack.outputs)}
    return HEADER + yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)


def _entry(resource: Resource) -> dict[str, Any]:
    inputs = {key: _masked(value, key, resource) for key, value in sorted(resource.inputs.items())}
    found = {"type": resource.type, "name": resource.name, "parent": resource.parent}
    options = dict(resource.options)
    if "replacementTrigger" in options:
        options["replacementTrigger"] = "<by the date>"
    return found | {"options": options, "inputs": inputs}


def _masked(value: Any, path: str, resource: Resource) -> Any:
    if path in resource.secrets:
        text = value if isinstance(value, str) else ""
        content = b64decode(text) if resource.inputs.get("isSecretDataBase64") else b""
        # Caddy's configuration is stored as a secret and holds none: keys are placeholders. It is shown as data.
        if content.startswith(b"BZh"):
            return {"<secret>": json.loads(bz2.decompress(content))}
        # Nor does a program or a page: their files are shown by what changes with them.
        if zipfile.is_zipfile(packed := io.BytesIO(content)):
            return {"<secret>": _files(packed)}
        if text.startswith("<!doctype html>"):
            return {"<secret>": _told(text.encode())}
        return "<secret>"
    if isinstance(value, dict):
        # Sorted: the wire format keeps no order, and mixes it anew in every process.
        mapping = sorted(cast(dict[str, Any], value).items())
        return {key: _masked(item, f"{path}.{key}", resource) for key, item in mapping}
    if isinstance(value, list):
        return [_masked(item, f"{path}.{i}", resource) for i, item in enumerate(cast(list[Any], value))]
    return value


def _files(packed: io.BytesIO) -> dict[str, str]:
    with zipfile.ZipFile(packed) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    modules: dict[str, str] = json.loads(bz2.decompress(contents.pop(PACKED)))
    contents |= {name: text.encode() for name, text in modules.items()}
    return {name: _told(each) for name, each in contents.items()}


def _told(content: bytes) -> str:
    return f"{len(content)} bytes, sha256 {sha256(content).hexdigest()[:16]}"


def config_schema() -> dict[str, Any]:
    """Pulumi.yaml's `config`: type, description and default of every key, from the settings."""
    schema: dict[str, Any] = {}
    default = Settings(stack="dev", project="project", region="us-east1").model_dump(mode="json", exclude_none=True)
    for key in CONFIGURABLE:
        field = Settings.model_fields[key]
        entry: dict[str, Any] = {"description": field.description}
        if key == "kubeconfig":
            # No default: a declared type without one would make the key required.
            continue
        if isinstance(default[key], list):
            kind = "object" if not default[key] or isinstance(default[key][0], dict) else "string"
            entry |= {"type": "array", "items": {"type": kind}, "default": default[key]}
        else:
            entry |= {"type": "object", "default": {}}
        schema[key] = entry
    return schema


def chart_scenarios() -> dict[Path, str]:
    """Values of the chart for each preset, by file, as the stack sends them."""
    entries = tuple(ServiceSettings(name=preset, preset=preset) for preset in PRESETS)
    settings = Settings(stack="dev", project="project", region="us-east1", services=entries)
    return {
        SCENARIOS / f"{service.name}-values.yaml": "# A preset, as the stack sends it. Made by `make golden`.\n"
        + yaml.safe_dump(values(service, settings), sort_keys=False, width=110)
        for service in declared(settings)
    }


def pulumi_yaml() -> str:
    """Pulumi.yaml with its config schema renewed; what stands above it is kept."""
    above = PULUMI_YAML.read_text().partition("config:\n")[0]
    body = yaml.safe_dump({"config": config_schema()}, sort_keys=False, width=110, allow_unicode=True)
    return above + body
