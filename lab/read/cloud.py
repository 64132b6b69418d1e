"""The providers' answers: the computed outputs of the mocked resources, and the user's accounts.

Owns: addresses, generated keys and names that no declaration can know. Does not own: any behaviour; the parts
that behave are processes (`plan`) or simulations (`run.cloudrun`).
"""

import random
import secrets
import string
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from lab.errors import LabError
from lab.read import cloud_run
from lab.read.stack import Resource

VM_ADDRESS: Final = "127.0.0.2"
"""The VM's internal address: a loopback address of its own, so that the declared port can stay as it is."""
GOOGLE_PROJECT: Final = "lab-project"
PROJECT_NUMBER: Final = "123456789012"
_POOLS: Final = f"projects/{PROJECT_NUMBER}/locations/global/workloadIdentityPools"
KEY_ENDS: Final = "2027-02-20T03:00:00Z"
"""Here no key ends."""
UNTOUCHED: Final = """// Example/default ACLs for unrestricted connections.
{
  "grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}],
  "ssh": [{"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:self"],
           "users": ["autogroup:nonroot", "root"]}],
  "nodeAttrs": [{"target": ["autogroup:member"], "attr": ["funnel"]}],
}
"""
"""The policy of a tailnet that nobody has edited, without the comments: Tailscale's console, September 2026."""
CHARACTERS: Final = {
    "upper": string.ascii_uppercase,
    "lower": string.ascii_lowercase,
    "numeric": string.digits,
    "special": "!@#$%&*()-_=+[]{}<>:?",
}
"""What a random password is drawn from: the provider's classes of characters, each in unless its input says false."""


def random_password(inputs: Mapping[str, Any], source: random.Random) -> str:
    """A password as the random provider makes it: every character is drawn from all declared classes.

    `source` draws. Raises `LabError` on an input that would change the provider's password and not this one.
    """
    unknown = sorted(inputs.keys() - CHARACTERS.keys() - {"length"})
    if unknown:
        raise LabError(f"a random password with {', '.join(unknown)}: the lab does not understand that")
    drawn_from = "".join(characters for kind, characters in CHARACTERS.items() if inputs.get(kind, True))
    return "".join(source.choice(drawn_from) for _ in range(int(inputs["length"])))


@dataclass(frozen=True)
class Cloud:
    """One account's answers. `port` is where the gateway's public address listens on this machine."""

    port: int
    burst_port: int = 8788
    """Where the burst lane's address listens."""
    vm_address: str = VM_ADDRESS
    kubernetes_url: str = "http://127.0.0.1:6443"
    auth_key: str = field(default_factory=lambda: f"tskey-auth-lab-{secrets.token_urlsafe(32)}")

    def config(self) -> dict[str, str]:
        """Config that only a user with accounts has: project, region, and the home cluster's kubeconfig."""
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": self.kubernetes_url}}],
            "users": [{"name": "lab", "user": {"token": "lab"}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
            "current-context": "lab",
        }
        return {
            "gcp:project": GOOGLE_PROJECT,
            "gcp:region": "us-central1",
            "pilotlight:kubeconfig": yaml.safe_dump(kubeconfig),
        }

    def compute(self, token: str, inputs: dict[str, Any], before: Sequence[Resource] = ()) -> dict[str, Any]:
        """Computed outputs of one resource, by type token; `before`: what was registered earlier."""
        project = inputs.get("project", GOOGLE_PROJECT)
        match token:
            case "gcp:serviceaccount/account:Account":
                email = f"{inputs['accountId']}@{project}.iam.gserviceaccount.com"
                unique = str(10**20 + zlib.crc32(email.encode()))
                names = {"member": f"serviceAccount:{email}", "name": f"projects/{project}/serviceAccounts/{email}"}
                return {"email": email, "uniqueId": unique, **names}
            case "gcp:iam/workloadIdentityPool:WorkloadIdentityPool":
                return {"name": f"{_POOLS}/{inputs['workloadIdentityPoolId']}"}
            case "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider":
                pool = f"{_POOLS}/{inputs['workloadIdentityPoolId']}"
                return {"name": f"{pool}/providers/{inputs['workloadIdentityPoolProviderId']}"}
            case "gcp:kms/keyRing:KeyRing":
                return {"id": f"projects/{project}/locations/{inputs['location']}/keyRings/{inputs['name']}"}
            case "gcp:kms/cryptoKey:CryptoKey":
                return {"id": f"{inputs['keyRing']}/cryptoKeys/{inputs['name']}"}
            case "gcp:compute/network:Network":
                return {"id": f"projects/{project}/global/networks/{inputs['name']}"}
            case "gcp:compute/subnetwork:Subnetwork":
                return {"id": f"projects/{project}/regions/{inputs['region']}/subnetworks/{inputs['name']}"}
            case "gcp:compute/disk:Disk":
                return {"id": f"projects/{project}/zones/{inputs['zone']}/disks/{inputs['name']}"}
            case "gcp:compute/address:Address":
                return {"address": self.vm_address}
            case "gcp:secretmanager/secret:Secret":
                return {"id": f"projects/{project}/secrets/{inputs['secretId']}", "name": inputs["secretId"]}
            case "gcp:secretmanager/secretVersion:SecretVersion":
                held = [one for one in before if one.type == token and one.inputs["secret"] == inputs["secret"]]
                name, version = f"{inputs['secret']}/versions/{len(held) + 1}", str(len(held) + 1)
                return {"id": name, "version": version, "name": name}
            case "gcp:compute/instanceTemplate:InstanceTemplate":
                link = f"projects/{project}/global/instanceTemplates/{inputs['name']}"
                return {"id": link, "selfLinkUnique": f"{link}?uniqueId=1"}
            case "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager":
                place = f"projects/{project}/regions/{inputs['region']}"
                return {
                    "id": f"{place}/instanceGroupManagers/{inputs['name']}",
                    "instanceGroup": f"{place}/instanceGroups/{inputs['name']}",
                }
            case "gcp:compute/instanceGroupManager:InstanceGroupManager":
                place = f"projects/{project}/zones/{inputs['zone']}"
                return {
                    "id": f"{place}/instanceGroupManagers/{inputs['name']}",
                    "instanceGroup": f"{place}/instanceGroups/{inputs['name']}",
                }
            case "gcp:compute/regionHealthCheck:RegionHealthCheck":
                return {"id": f"projects/{project}/regions/{inputs['region']}/healthChecks/{inputs['name']}"}
            case "gcp:compute/regionBackendService:RegionBackendService":
                return {"id": f"projects/{project}/regions/{inputs['region']}/backendServices/{inputs['name']}"}
            case "gcp:monitoring/uptimeCheckConfig:UptimeCheckConfig":
                return {"uptimeCheckId": f"the-endpoint-{zlib.crc32(inputs['displayName'].encode())}"}
            case "gcp:storage/bucket:Bucket":
                return {"id": inputs["name"], "url": f"gs://{inputs['name']}"}
            case "gcp:cloudrunv2/job:Job":
                return {"id": f"projects/{project}/locations/{inputs['location']}/jobs/{inputs['name']}"}
            case cloud_run.SERVICE:
                port = self.burst_port if cloud_run.has_gpu(inputs) else self.port
                return {"uri": f"http://127.0.0.1:{port}"}
            case "gcp:organizations/getProject:getProject":
                return {"projectId": inputs["projectId"], "number": PROJECT_NUMBER}
            case "tailscale:index/getAcl:getAcl":
                return {"hujson": UNTOUCHED}
            case "pulumi:index:Stash":
                return {"output": inputs["input"]}
            case "tailscale:index/tailnetKey:TailnetKey":
                key = f"{self.auth_key}{'' if inputs['reusable'] else '-once'}\n"
                return {"key": key, "expiresAt": KEY_ENDS}
            case "tailscale:index/federatedIdentity:FederatedIdentity":
                identity = f"T{zlib.crc32(inputs['description'].encode())}CNTRL"
                return {"id": identity, "audience": f"api.tailscale.com/{identity}"}
            case "random:index/randomPassword:RandomPassword":
                return {"id": "none", "result": random_password(inputs, secrets.SystemRandom())}
            case _:
                return {}
