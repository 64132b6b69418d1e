"""Runs the Pulumi CLI on a copy of this repository, cut off from every cloud and every account.

Owns: the copy, the CLI's home and state (all in a temporary folder), and the providers, whose place one that accepts
anything takes. Does not own: what is asserted. The repository itself is never written: `pulumi config set` would.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from lab.read.cloud import UNTOUCHED, random_password
from lab.read.stack import ROOT
from tests.engine import google, kubernetes, tailscale
from tests.engine.anyprovider import AnyProvider, debug_providers, serving
from tests.engine.behaviour import UNKNOWN, Behaviour, secret

NEEDS_THE_CLI: Final = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="no pulumi CLI on PATH"),
    # Google's SDK warns of some of its own classes while it is imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_gcp"),
]
"""Marks of every module here."""
PROJECT: Final = "some-project"
REGION: Final = "us-central1"
TUNNEL_KEY: Final = "tskey-auth-engine"
HOME_TOKEN: Final = "token-of-the-home-cluster"
KUBECONFIG: Final = yaml.safe_dump(
    {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "home", "cluster": {"server": "https://home:6443"}}],
        "users": [{"name": "home", "user": {"token": HOME_TOKEN}}],
        "contexts": [{"name": "home", "context": {"cluster": "home", "user": "home"}}],
        "current-context": "home",
    }
)
"""One that never ends: it has a token in place of a certificate."""


def _password(given: dict[str, Any]) -> str:
    """Another one for each creation, the same as long as the resource lives."""
    declared = {key: value for key, value in given.items() if key not in ("id", "name", "made")}
    return random_password(declared, random.Random(given["id"]))


def _address(given: dict[str, Any]) -> str:
    """Another one for each name."""
    return f"10.80.1.{zlib.crc32(given['id'].encode()) % 250 + 2}"


def _version(given: dict[str, Any]) -> str:
    """Another one for each version: a secret counts its own, however their resources are named."""
    return str(zlib.crc32(given["id"].encode()))


OUTPUTS: Final = {
    "gcp:compute/address:Address": {"address": _address},
    "gcp:compute/instanceTemplate:InstanceTemplate": {"selfLinkUnique": "https://compute.test/$name?uniqueId=$made"},
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": {
        "instanceGroup": "https://compute.test/$name"
    },
    "gcp:iam/workloadIdentityPool:WorkloadIdentityPool": {
        "name": "projects/123456789012/locations/global/workloadIdentityPools/$workloadIdentityPoolId"
    },
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": {
        "name": "projects/123456789012/locations/global/workloadIdentityPools/$workloadIdentityPoolId/providers/"
        + "$workloadIdentityPoolProviderId"
    },
    "gcp:serviceaccount/account:Account": {
        "email": f"$accountId@{PROJECT}.iam.gserviceaccount.com",
        "name": f"projects/{PROJECT}/serviceAccounts/$accountId@{PROJECT}.iam.gserviceaccount.com",
        "member": f"serviceAccount:$accountId@{PROJECT}.iam.gserviceaccount.com",
        "uniqueId": "1234567890",
    },
    "gcp:secretmanager/secretVersion:SecretVersion": {"version": _version},
    "gcp:cloudrunv2/service:Service": {"uri": "https://gateway.test"},
    "gcp:organizations/getProject:getProject": {"number": "123456789012"},
    "tailscale:index/getAcl:getAcl": {"hujson": UNTOUCHED},
    # With the newline that a stored key sometimes carries.
    "tailscale:index/tailnetKey:TailnetKey": {
        "key": secret(f"{TUNNEL_KEY}-$id\n"),
        "expiresAt": "2027-01-15T10:30:00Z",
    },
    "tailscale:index/federatedIdentity:FederatedIdentity": {"audience": "api.tailscale.com/$id"},
    "random:index/randomPassword:RandomPassword": {"result": secret(_password)},
}
NOT_COPIED: Final = shutil.ignore_patterns(".venv", ".lab", ".git", "__pycache__", ".*_cache")
TIMEOUT_S: Final = 120
"""For one call of the CLI; the slowest takes 10 to 15 s on two cores."""


@dataclass(frozen=True)
class Done:
    """A finished call of the CLI."""

    code: int
    out: str
    everything: str


@dataclass(frozen=True)
class Snapshot:
    """What the engine knows of a stack after a change."""

    outputs: dict[str, Any]
    """As `pulumi stack output --json --show-secrets` prints them."""
    masked: dict[str, Any]
    """As `pulumi stack output --json` prints them."""
    state: str
    """The state as it is stored, secrets encrypted."""
    resources: list[dict[str, Any]]
    """The state's resources, without those the engine adds itself: the stack and default providers."""


class Engine:
    """One stack of a copy of this repository."""

    def __init__(self, tree: Path, environment: Mapping[str, str], provider: AnyProvider, stack: str) -> None:
        self.tree = tree
        self.provider = provider
        self.stack = stack
        self._environment = environment
        self.run("stack", "init", stack)
        self.run("config", "set", "gcp:project", PROJECT)
        self.run("config", "set", "gcp:region", REGION)
        self.run("config", "set", "tailscale:tailnet", "example.ts.net")

    def moved_to(self, backend: str) -> None:
        """Calls the CLI with another backend from now on, as after `pulumi login`."""
        self._environment = {**self._environment, "PULUMI_BACKEND_URL": backend}

    def run(self, *arguments: str, text: str | None = None, refused: bool | None = False) -> Done:
        """Calls the CLI, which must succeed, or fail if `refused`, or either if None; `text` is its standard input."""
        named = (*arguments, "--non-interactive") + (() if arguments[:2] == ("stack", "init") else ("-s", self.stack))
        done = subprocess.run(
            ["pulumi", *named],
            cwd=self.tree,
            env=self._environment,
            input=text or "",
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        everything = f"$ pulumi {' '.join(named)}\n{done.stdout}{done.stderr}"
        assert refused in (None, done.returncode != 0), everything
        return Done(done.returncode, done.stdout, everything)

    def read(self, *arguments: str) -> dict[str, Any]:
        """The JSON that a call prints."""
        return json.loads(self.run(*arguments).out)

    def up(self, *arguments: str) -> Snapshot:
        """`pulumi up`, and what the engine knows then."""
        self.run("up", "--yes", "--skip-preview", *arguments)
        return self.snapshot()

    def snapshot(self) -> Snapshot:
        return Snapshot(
            outputs=self.read("stack", "output", "--json", "--show-secrets"),
            masked=self.read("stack", "output", "--json"),
            state=self.run("stack", "export").out,
            resources=self.resources(),
        )

    def resources(self) -> list[dict[str, Any]]:
        deployment = self.read("stack", "export")["deployment"]
        return [resource for resource in deployment.get("resources", []) if not _of_the_engine(resource["urn"])]

    def at(self, now: datetime) -> None:
        """Sets the program's clock, which stands still from then on."""
        set_clock(self.tree, now)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Adds config by hand, as in an editor: what the CLI would not write can be written so."""
        path = self.tree / f"Pulumi.{self.stack}.yaml"
        document: dict[str, Any] = yaml.safe_load(path.read_text())
        document["config"] = {**document.get("config", {}), **config}
        path.write_text(yaml.safe_dump(document))


@contextmanager
def engines(folder: Path, *behaviours: Behaviour) -> Generator["Factory"]:
    """Serves the providers, with what their clouds always do; the factory makes stacks that use them."""
    # As at Google, switching an API on takes longer than anything that merely needs it.
    provider = AnyProvider(
        OUTPUTS,
        slow={"gcp:projects/service:Service": 2.0},
        behaviours=[*behaviours, *google.always(), tailscale.Keys(), kubernetes.Releases()],
    )
    with serving(provider) as port:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        environment = kept | {
            "HOME": str(folder),
            "NO_COLOR": "1",
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "only-for-this-test",
            "PULUMI_DEBUG_PROVIDERS": debug_providers(port, "gcp", "kubernetes", "random", "tailscale"),
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_HOME": str(folder / "pulumi-home"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        yield Factory(folder, environment, provider)


@dataclass(frozen=True)
class Factory:
    folder: Path
    environment: Mapping[str, str]
    provider: AnyProvider

    def stack(self, name: str, *, schema_defaults: Mapping[str, Any] | None = None, grants_s: float = 0) -> Engine:
        """A new stack in a copy of its own; `schema_defaults` change those of Pulumi.yaml."""
        tree = self.tree(name, grants_s=grants_s)
        (tree / f"Pulumi.{name}.yaml").unlink(missing_ok=True)
        if schema_defaults:
            project = tree / "Pulumi.yaml"
            document: dict[str, Any] = yaml.safe_load(project.read_text())
            for key, default in schema_defaults.items():
                document["config"][key]["default"] = default
            project.write_text(yaml.safe_dump(document))
        return Engine(tree, self.environment, self.provider, name)

    def tree(self, name: str, *, grants_s: float = 0) -> Path:
        """A copy of the repository; `grants_s`, seconds, replaces the minutes of a service's wait after a new grant."""
        tree = self.folder / f"tree-{name}"
        shutil.copytree(ROOT, tree, ignore=NOT_COPIED)
        # Pulumi.yaml names `.venv`; the packages are those this test runs with.
        (tree / ".venv").symlink_to(sys.prefix)
        # Nobody waits minutes for a provider of this machine.
        grants = tree / "components" / "grants.py"
        text, found = re.subn(
            r"(?m)^COUNTS_AFTER_S: Final = \d+$", f"COUNTS_AFTER_S: Final = {grants_s}", grants.read_text()
        )
        assert found == 1
        grants.write_text(text)
        return tree


def set_clock(tree: Path, now: datetime) -> None:
    """Of the program in that copy of the repository."""
    settings = tree / "components" / "settings" / "stack.py"
    clock = f"default_factory=lambda: datetime.fromisoformat({now.isoformat()!r}),"
    text, found = re.subn(r"default_factory=lambda: datetime\..*", clock, settings.read_text())
    assert found == 1
    settings.write_text(text)


def types_and_names(urns: list[str]) -> list[tuple[str, str]]:
    """(type token, name) of the program's own resources among `urns`, sorted."""
    parts = [urn.split("::", 3) for urn in urns if not _of_the_engine(urn)]
    return sorted((kind.split("$")[-1], name) for _, _, kind, name in parts)


def unknown(value: Any) -> bool:
    """Whether a value of a preview is not known yet."""
    return UNKNOWN in json.dumps(value)


def _of_the_engine(urn: str) -> bool:
    _, _, kind, name = urn.split("::", 3)
    default_provider = kind.startswith("pulumi:providers:") and name.startswith("default")
    return kind == "pulumi:pulumi:Stack" or default_provider
