"""`python -m tests.supply.sbom`: the bill of materials, CycloneDX 1.6 as JSON, on standard output.

What the stack runs comes from the recorded stack with every lane and preset: images, charts, weights; what the home
server gets, from the bootstrap; packages, from the locks. It has no date and a serial number of its contents: the same
commit has the same bill.
"""

import json
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from components.home import bootstrap
from components.models.catalogue import PRESETS as MODELS
from components.settings.presets import PRESETS
from lab.read import home, plan
from lab.read.cloud import Cloud
from lab.read.stack import ROOT, Stack, config_of, render
from tests.engine.behaviour import at

Component = dict[str, Any]
SERVICES: Final = [{"name": name, "preset": name} for name in PRESETS]
STACKS: Final[tuple[dict[str, Any], ...]] = (
    {"lanes": ["home", "burst", "vm"], "services": SERVICES},
    {"lanes": ["vm"], "vm": {"gpu": "t4"}},
)
"""Every image that the defaults and the presets run: a VM with a card has another one."""
_PIN: Final = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)


def bill() -> dict[str, Any]:
    """The whole document."""
    components = [one for _, one in sorted({one["bom-ref"]: one for one in _components()}.items())]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components, sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "pilotlight", "name": "pilotlight"}},
        "components": components,
    }


def _components() -> Iterator[Component]:
    yield from _packages()
    stacks = [_stack(changes) for changes in STACKS]
    yield from (_image(image) for image in sorted({image for stack in stacks for image in images(stack)}))
    charts = {(one.inputs["chart"], one.inputs["version"], one.inputs["repositoryOpts"]["repo"])
              for stack in stacks for one in stack.of_type(home.RELEASE) if home.is_remote(one)}  # fmt: skip
    for name, version, repository in sorted(charts):
        purl = f"pkg:helm/{name}@{version}?repository_url={repository}"
        yield {"type": "application", "name": name, "version": version, "purl": purl, "bom-ref": purl}
    yield from _weights()
    for name, version in (("k3s-io/k3s", bootstrap.K3S_VERSION), ("tailscale/tailscale", bootstrap.TAILSCALE_VERSION),
                          ("NVIDIA/nvidia-container-toolkit", bootstrap.TOOLKIT_VERSION)):  # fmt: skip
        purl = f"pkg:github/{name.lower()}@{version.replace('+', '%2B')}"
        yield {"type": "application", "name": name, "version": version, "purl": purl, "bom-ref": purl}


def _packages() -> Iterator[Component]:
    """Those of the program, and those of tests and lab, which nothing deployed contains. Hashes stand in the lock."""
    program = {match[0] for match in _pins(ROOT / "requirements.txt")}
    for name, version in _pins(ROOT / "requirements-dev.txt"):
        purl = f"pkg:pypi/{name}@{version}"
        scope = "required" if name in program else "excluded"
        yield {"type": "library", "name": name, "version": version, "scope": scope, "purl": purl, "bom-ref": purl}


def _pins(lock: Path) -> list[tuple[str, str]]:
    return _PIN.findall(lock.read_text())


def images(stack: Stack) -> set[str]:
    """Every image that the stack starts, as declared."""
    paths = ("template.containers.image", "template.template.containers.image")
    found = {str(image) for one in stack.resources for path in paths for image in at(one.inputs, path)}
    read = plan.read(stack)
    return found | {pod.image for pod in home.pods(stack.resources)} | ({read.vm.container.image} if read.vm else set())


def _image(image: str) -> Component:
    name, _, digest = image.partition("@")
    name, _, tag = name.rpartition(":")
    registry, _, path = name.partition("/")
    purl = f"pkg:docker/{path}@{tag}?repository_url={registry}"
    hashes = [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}] if digest else []
    found: Component = {"type": "container", "name": name, "version": tag, "purl": purl, "bom-ref": purl}
    return found | ({"hashes": hashes} if hashes else {})


def _weights() -> Iterator[Component]:
    """Of every preset of `model`: the repository by its commit for vLLM, the files by their sums for llama.cpp."""
    files: dict[str, str] = {}
    for model in MODELS.values():
        purl = f"pkg:huggingface/{model.weights.lower()}@{model.revision}"
        kind = "machine-learning-model"
        yield {"type": kind, "name": model.weights, "version": model.revision, "purl": purl, "bom-ref": purl}
        files |= {file.url: file.sha256 for file in (model.gguf, model.projector) if file}
    for url, sum_ in sorted(files.items()):
        hashes = [{"alg": "SHA-256", "content": sum_}]
        yield {"type": "file", "name": url.rsplit("/", 1)[-1], "bom-ref": url, "hashes": hashes,
               "externalReferences": [{"type": "distribution", "url": url}]}  # fmt: skip


def _stack(changes: dict[str, Any]) -> Stack:
    cloud = Cloud(port=8787)
    own = {f"pilotlight:{key}": json.dumps(value) for key, value in changes.items()}
    return render("dev", {**cloud.config(), **config_of("dev"), **own}, cloud.compute)


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=2)
    print()
