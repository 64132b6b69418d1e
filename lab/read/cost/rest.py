"""What is billed by the piece or by the amount: secrets, keys, the weights' bucket, monitoring, the tailnet.

Owns: these lines, and the types that cost nothing, each with the reason. Does not own: anything that runs.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from components.models.catalogue import DEFAULT, PRESETS
from lab.read.cost.cloud_run import UPTIME
from lab.read.cost.line import Line, rate, urns
from lab.read.stack import Resource, Stack

GIB: Final = 2**30
JOB: Final = "gcp:cloudrunv2/job:Job"
STATES_GIB: Final = 0.05
MINUTES: Final = 60
"""Of an hour, in the tailnet."""

_GRANTS: Final = "identities and grants are free"
_NETWORK: Final = "networks are free; what flows out of them is not"
_BALANCER: Final = "part of the balancer, whose rule is billed"
FREE: Final[Mapping[str, str]] = {
    "gcp:billing/budget:Budget": "budgets and mails are free",
    "gcp:cloudrunv2/serviceIamMember:ServiceIamMember": _GRANTS,
    "gcp:compute/firewall:Firewall": _NETWORK,
    "gcp:compute/network:Network": _NETWORK,
    "gcp:compute/regionBackendService:RegionBackendService": _BALANCER,
    "gcp:compute/regionHealthCheck:RegionHealthCheck": _BALANCER,
    "gcp:compute/router:Router": _NETWORK,
    "gcp:compute/subnetwork:Subnetwork": _NETWORK,
    "gcp:logging/savedQuery:SavedQuery": "a saved query is free",
    "gcp:iam/workloadIdentityPool:WorkloadIdentityPool": _GRANTS,
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": _GRANTS,
    "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember": _GRANTS,
    "gcp:kms/keyRing:KeyRing": "a key is billed by its versions, a ring by nothing",
    "gcp:monitoring/dashboard:Dashboard": "dashboards are free",
    "gcp:monitoring/notificationChannel:NotificationChannel": "budgets and mails are free",
    UPTIME: "of a project's checks the first million a month are free (from memory), and this one makes 17,520; "
    + "that it keeps the gateway awake is in the gateway's line",
    "gcp:projects/iAMMember:IAMMember": _GRANTS,
    "gcp:projects/service:Service": "an API that is on costs nothing by itself",
    "gcp:secretmanager/secret:Secret": "a secret is billed by its versions",
    "gcp:secretmanager/secretIamMember:SecretIamMember": _GRANTS,
    "gcp:serviceaccount/account:Account": _GRANTS,
    "gcp:serviceaccount/iAMMember:IAMMember": _GRANTS,
    "gcp:storage/bucketIAMMember:BucketIAMMember": _GRANTS,
}
"""Type -> why it costs nothing."""
FREE_PROVIDERS: Final[Mapping[str, str]] = {
    "kubernetes": "home's own electricity",
    "pulumi": "kept in Pulumi's state alone",
    "random": "kept in Pulumi's state alone",
}
"""Provider -> why nothing of it costs anything."""


def versions(_stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """Secrets, by their versions; the first ones of a billing account are free."""
    each = rate("secret version", region)
    billed = max(0.0, len(resources) - each.free)
    return [
        Line(f"{len(resources)} secret versions", urns(*resources), billed * each.usd,
             note=f"a billing account's first {each.free:g} are free")
    ]  # fmt: skip


def buckets(stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """The weights' size is the catalogue's; another model's is in no resource, so it counts as the default's."""
    found: list[Line] = []
    for bucket in resources:
        if bucket.inputs["versioning"]["enabled"]:
            month = STATES_GIB * rate("bucket", region).usd
            note = "100 versions of a stack's state, 0.5 MB each; estimated"
            found.append(Line("bucket of the states", urns(bucket), month, note=note))
            continue
        args = [job.inputs["template"]["template"]["containers"][0]["args"] for job in stack.of_type(JOB)]
        sizes = {(model.weights, model.revision): model.weights_bytes for model in PRESETS.values()}
        known = [sizes[one[1], one[2]] for one in args if (one[1], one[2]) in sizes]
        size = sum(known) or PRESETS[DEFAULT].weights_bytes
        note = "weights of the model" if known else "an own model, counted as large as the default's"
        month = size / GIB * rate("bucket", region).usd
        found.append(Line(f"bucket with {size / GIB:.1f} GiB", urns(bucket), month, note=note))
    return found


def keys(_stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """Each has one version: nothing rotates it."""
    month = len(resources) * rate("key version", region).usd
    return [Line("key of the states' secrets", urns(*resources), month, note="`delivery.repository`")]


def alerts(_stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """By their conditions."""
    conditions = sum(len(policy.inputs["conditions"]) for policy in resources)
    what = f"alerts with {conditions} condition{'s' if conditions > 1 else ''}"
    return [Line(what, urns(*resources), conditions * rate("alert condition", region).usd, note="`alerts.email`")]


def metrics(_stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """Made of log lines: billed by what they take in, which is nothing while nobody calls."""
    each = rate("metrics", region)
    return [
        Line(f"metrics of logs: {len(resources)}", urns(*resources), use_usd=each.usd, use_per=each.per,
             note=f"a billing account's first {each.free:g} {each.per} a month are free")
    ]  # fmt: skip


def tailnet(_stack: Stack, resources: Sequence[Resource], region: str) -> list[Line]:
    """Free in the plans that a small tailnet has, but for the minutes of the gateway, which is an ephemeral machine."""
    minutes = rate("tailscale minute", region)
    return [
        Line(
            "tailnet", urns(*resources),
            note=f"an hour of the gateway is {MINUTES} of the {minutes.free:,.0f} ephemeral minutes a month that "
            + "Tailscale's Personal plan includes; what further ones cost was not found out",
        )
    ]  # fmt: skip
