"""Every name that the program gives is one that its cloud takes, however long stack, project and clients are called.

No preview sees a name that is too long or has a wrong character: the cloud refuses it half-way.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from lab.read.cloud import Cloud
from lab.read.stack import Resource, Stack, render
from tests.golden import rendered as golden

GCE: Final = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
"""terraform-provider-google-beta at 93c65b2, verify/validation.go, `ValidateGCEName`."""
RUN: Final = r"[a-z]([-a-z0-9]{0,47}[a-z0-9])?"
"""Cloud Run Admin API v2, `serviceId`: begins with a letter, ends in no hyphen, fewer than 50 characters. A job's, too
(from memory)."""
NAMES: Final[dict[str, tuple[str, str]]] = {
    "gcp:cloudrunv2/job:Job": ("name", RUN),
    "gcp:cloudrunv2/service:Service": ("name", RUN),
    **{
        f"gcp:compute/{token}": ("name", GCE)
        for token in (
            "address:Address", "disk:Disk", "firewall:Firewall", "forwardingRule:ForwardingRule", "instance:Instance",
            "instanceTemplate:InstanceTemplate", "network:Network", "regionAutoscaler:RegionAutoscaler",
            "regionBackendService:RegionBackendService", "regionHealthCheck:RegionHealthCheck",
            "regionInstanceGroupManager:RegionInstanceGroupManager", "router:Router", "routerNat:RouterNat",
            "subnetwork:Subnetwork",
        )
    },
    # Cloud Logging API, LogMetric `name`: 100 characters of these, no slash at the beginning.
    "gcp:logging/metric:Metric": ("name", r"[A-Za-z0-9_.,+!*'()%-][A-Za-z0-9_.,+!*'()%/-]{0,99}"),
    # Its letters and length from memory: those of Google's other resource ids.
    "gcp:logging/savedQuery:SavedQuery": ("name", r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"),
    # The provider's resource_iam_workload_identity_pool.go and its provider's: 4 to 32, not beginning with `gcp-`.
    "gcp:iam/workloadIdentityPool:WorkloadIdentityPool": ("workloadIdentityPoolId", r"(?!gcp-)[a-z0-9-]{4,32}"),
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": (
        "workloadIdentityPoolProviderId", r"(?!gcp-)[a-z0-9-]{4,32}",
    ),
    # Cloud KMS API, `keyRingId` and `cryptoKeyId`.
    "gcp:kms/cryptoKey:CryptoKey": ("name", r"[a-zA-Z0-9_-]{1,63}"),
    "gcp:kms/keyRing:KeyRing": ("name", r"[a-zA-Z0-9_-]{1,63}"),
    # Secret Manager API, `secretId`.
    "gcp:secretmanager/secret:Secret": ("secretId", r"[A-Za-z0-9_-]{1,255}"),
    # The provider's resource_google_service_account.go, `ValidateRFC1035Name(6, 30)`.
    "gcp:serviceaccount/account:Account": ("accountId", r"[a-z][-a-z0-9]{4,28}[a-z0-9]"),
    # cloud.google.com/storage/docs/naming-buckets; a dot would want the domain to be ours.
    "gcp:storage/bucket:Bucket": ("name", r"(?!goog)(?!.*google)[a-z0-9][-_a-z0-9]{1,61}[a-z0-9]"),
    # terraform-provider-tailscale at 0a85227, resource_tailnet_key.go: `LengthAtMost(50)`.
    "tailscale:index/federatedIdentity:FederatedIdentity": ("description", r".{1,50}"),
    "tailscale:index/tailnetKey:TailnetKey": ("description", r".{1,50}"),
    # Helm's `ValidateReleaseName` (from memory).
    "kubernetes:helm.sh/v3:Release": ("name", r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?"),
}  # fmt: skip
"""Type -> the input that names it, and what that may be."""
OTHERS: Final = (
    "gcp:cloudrunv2/serviceIamMember:ServiceIamMember",
    "gcp:secretmanager/secretIamMember:SecretIamMember",
)
"""They name another resource."""
INSTANCE: Final = r"[a-z]([-a-z0-9]{0,56}[a-z0-9])?"
"""A group adds a hyphen and four characters to it (resource_compute_region_instance_group_manager.go)."""
LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
"""RFC 1123: names of containers and volumes (Cloud Run checks them as Kubernetes does, from memory), host names."""
LONG: Final = {"stack": "z" * 100, "project": "p" * 30, "client": "c" * 30}


def widest(**changes: Any) -> Stack:
    """Everything at once, and all that the user names at its longest."""
    config = {
        "lanes": ["home", "burst", "vm"],
        "clients": [{"name": LONG["client"], "max_requests": 2}],
        "alerts": {"email": "me@example.com"},
        "tailnet": {"ci_repository": "me/pilotlight"},
        "vm": {"max_replicas": 3},
        "delivery": {"repository": "me/pilotlight"},
        **changes,
    }
    cloud = Cloud(port=8787)
    given = {f"pilotlight:{key}": json.dumps(value) for key, value in config.items()}
    return render(LONG["stack"], {**cloud.config(), "gcp:project": LONG["project"], **given}, cloud.compute)


@pytest.fixture(scope="module")
def long() -> list[Resource]:
    """A group of machines, then one machine, and a gateway with an identity."""
    other = widest(vm={"spot": False}, tailnet={"ci_repository": "me/pilotlight", "join": "federated"})
    return [*widest().resources, *other.resources]


def wrong(resources: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    """Names that their cloud refuses, and types that nobody looked up."""
    for token, inputs in resources:
        if token in NAMES:
            field, pattern = NAMES[token]
            if not re.fullmatch(pattern, inputs[field]):
                yield f"{token} {field}: {inputs[field]}"
        elif token not in OTHERS and {"name", "accountId", "secretId"} & inputs.keys():
            yield f"{token}: what its name may be is not in `NAMES`"
        if "baseInstanceName" in inputs and not re.fullmatch(INSTANCE, inputs["baseInstanceName"]):
            yield f"{token} baseInstanceName: {inputs['baseInstanceName']}"


def test_the_longest_names_are_names(long: list[Resource]) -> None:
    assert list(wrong([(one.type, one.inputs) for one in long])) == []
    seen = {one.type for one in long}
    assert seen >= NAMES.keys(), "each row of the table is asked about some resource"


@pytest.mark.parametrize("name", golden.STACKS)
def test_the_goldens_names_are_names(name: str) -> None:
    document = yaml.load((golden.HERE / f"{name}.yaml").read_text(), yaml.CSafeLoader)
    assert list(wrong([(one["type"], one["inputs"]) for one in document["resources"]])) == []


def test_inside_a_service_names_are_labels_and_differ(long: list[Resource]) -> None:
    for one in long:
        template = one.inputs.get("template", {})
        if one.type in ("gcp:cloudrunv2/service:Service", "gcp:cloudrunv2/job:Job"):
            template = template.get("template", template)
            for part in ("containers", "volumes"):
                names = [item["name"] for item in template[part] if "name" in item]
                assert [name for name in names if not re.fullmatch(LABEL, name)] == []
                assert len(set(names)) == len(names)
            env = {item["name"]: item.get("value") for box in template["containers"] for item in box.get("envs", ())}
            assert re.fullmatch(LABEL, env.get("TS_HOSTNAME") or "none")


def test_a_job_s_name_and_its_token_fit_together(long: list[Resource]) -> None:
    """Fewer than 63 characters in all: the provider's resource_cloud_run_v2_job.go on `start_execution_token`."""
    jobs = [one for one in long if one.type == "gcp:cloudrunv2/job:Job"]
    assert jobs
    for job in jobs:
        assert len(job.inputs["name"]) + len(job.inputs["startExecutionToken"]) < 63


@pytest.mark.parametrize(
    ("token", "inputs"),
    [
        ("gcp:serviceaccount/account:Account", {"accountId": "pilotlight-twelve-chars-gateway"}),
        ("gcp:cloudrunv2/service:Service", {"name": "a" * 50}),
        ("gcp:storage/bucket:Bucket", {"name": "my-google-weights"}),
        ("gcp:storage/bucket:Bucket", {"name": "p" * 64}),
        ("gcp:compute/disk:Disk", {"name": "disk-"}),
        ("gcp:new/thing:Thing", {"name": "thing"}),
        (
            "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager",
            {"name": "vm", "baseInstanceName": "v" * 59},
        ),
    ],
)
def test_a_name_that_a_cloud_refuses_is_seen(token: str, inputs: dict[str, Any]) -> None:
    assert len(list(wrong([(token, inputs)]))) == 1
