"""Google as it answers, where accepting anything would be kinder than Google is.

Owns: names that are taken, what makes a new resource, what is in use, disks of running machines, late grants, and the
defaults that Google writes back. Does not own: whether a value is one that Google takes.

Fields and ids stand as in terraform-provider-google-beta at 93c65b2 (2026-08-21), those alone that this program sets.
"""

# ruff: noqa: ARG002 (the arguments are those of the hooks)
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from string import Template
from typing import Any, Final, cast

from tests.engine.behaviour import (
    UNKNOWN,
    Behaviour,
    Difference,
    Properties,
    Refused,
    Resource,
    Unready,
    World,
    at,
    plain,
)

SERVICE: Final = "gcp:cloudrunv2/service:Service"
JOB: Final = "gcp:cloudrunv2/job:Job"
DISK: Final = "gcp:compute/disk:Disk"
INSTANCE: Final = "gcp:compute/instance:Instance"
METRIC: Final = "gcp:logging/metric:Metric"
SAVED_QUERY: Final = "gcp:logging/savedQuery:SavedQuery"
SUBNET: Final = "gcp:compute/subnetwork:Subnetwork"
TEMPLATE: Final = "gcp:compute/instanceTemplate:InstanceTemplate"
GROUP: Final = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
API: Final = "gcp:projects/service:Service"
INVOKER: Final = "gcp:cloudrunv2/serviceIamMember:ServiceIamMember"
POOL: Final = "gcp:iam/workloadIdentityPool:WorkloadIdentityPool"
WAY_IN: Final = "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider"
SECRET_GRANT: Final = "gcp:secretmanager/secretIamMember:SecretIamMember"

_GLOBAL: Final = "projects/$project/global"
_REGIONAL: Final = "projects/$project/regions/$region"
IDS: Final = {
    SERVICE: "projects/$project/locations/$location/services/$name",
    JOB: "projects/$project/locations/$location/jobs/$name",
    INVOKER: "projects/$project/locations/$location/services/$name/$role/$member",
    "gcp:compute/address:Address": f"{_REGIONAL}/addresses/$name",
    DISK: "projects/$project/zones/$zone/disks/$name",
    "gcp:compute/firewall:Firewall": f"{_GLOBAL}/firewalls/$name",
    "gcp:compute/forwardingRule:ForwardingRule": f"{_REGIONAL}/forwardingRules/$name",
    INSTANCE: "projects/$project/zones/$zone/instances/$name",
    TEMPLATE: f"{_GLOBAL}/instanceTemplates/$name",
    "gcp:compute/network:Network": f"{_GLOBAL}/networks/$name",
    "gcp:compute/regionAutoscaler:RegionAutoscaler": f"{_REGIONAL}/autoscalers/$name",
    "gcp:compute/regionBackendService:RegionBackendService": f"{_REGIONAL}/backendServices/$name",
    "gcp:compute/regionHealthCheck:RegionHealthCheck": f"{_REGIONAL}/healthChecks/$name",
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": f"{_REGIONAL}/instanceGroupManagers/$name",
    "gcp:compute/router:Router": f"{_REGIONAL}/routers/$name",
    "gcp:compute/routerNat:RouterNat": "$project/$region/$router/$name",
    SUBNET: f"{_REGIONAL}/subnetworks/$name",
    METRIC: "$name",
    SAVED_QUERY: "$parent/locations/$location/savedQueries/$name",
    API: "$project/$service",
    POOL: "projects/$project/locations/global/workloadIdentityPools/$workloadIdentityPoolId",
    WAY_IN: "projects/$project/locations/global/workloadIdentityPools/$workloadIdentityPoolId"
    + "/providers/$workloadIdentityPoolProviderId",
    "gcp:kms/cryptoKey:CryptoKey": "$keyRing/cryptoKeys/$name",
    "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember": "$cryptoKeyId/$role/$member",
    "gcp:kms/keyRing:KeyRing": "projects/$project/locations/$location/keyRings/$name",
    "gcp:projects/iAMMember:IAMMember": "$project/$role/$member",
    "gcp:secretmanager/secret:Secret": "projects/$project/secrets/$secretId",
    SECRET_GRANT: "$secretId/$role/$member",
    "gcp:serviceaccount/account:Account": "projects/$project/serviceAccounts/$accountId",
    "gcp:serviceaccount/iAMMember:IAMMember": "$serviceAccountId/$role/$member",
    "gcp:storage/bucket:Bucket": "$name",
    "gcp:storage/bucketIAMMember:BucketIAMMember": "b/$bucket/$role/$member",
}
"""A resource's id, made of inputs (each resource's `SetId`): two with the same id are the same thing to Google."""
REPEATABLE: Final = (
    API, INVOKER, SECRET_GRANT, "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember", "gcp:projects/iAMMember:IAMMember",
    "gcp:serviceaccount/iAMMember:IAMMember", "gcp:storage/bucketIAMMember:BucketIAMMember",
)  # fmt: skip
"""Made again, these change nothing: a service is on already, a policy has its member already."""


class Names(Behaviour):
    """A name is taken once: 409 `alreadyExists` for a second resource, such as one that replaces the first."""

    def identity(self, token: str, inputs: Properties) -> str | None:
        return Template(IDS[token]).substitute(inputs) if token in IDS else None

    def create(self, new: Resource, world: World) -> None:
        if new.id in world and new.token not in REPEATABLE:
            raise Refused(f"googleapi: Error 409: The resource '{new.id}' already exists, alreadyExists")


class Remembered(Behaviour):
    """A deleted pool's name, and a way in's, stays taken for 30 days (IAM, "Manage workload identity pools")."""

    def __init__(self) -> None:
        self._gone: set[str] = set()

    def create(self, new: Resource, world: World) -> None:
        if new.id in self._gone:
            raise Refused(f"googleapi: Error 409: Requested entity already exists, alreadyExists: {new.id}")

    def delete(self, old: Resource, world: World) -> None:
        if old.token in (POOL, WAY_IN):
            self._gone.add(old.id)


class Apis(Behaviour):
    """Nothing is made through an API that is not on. Once on, it stays on (`disable_on_destroy` is false)."""

    OF: Final = {
        "billing": "billingbudgets",
        "cloudrunv2": "run",
        "compute": "compute",
        "logging": "logging",
        "iam": "iam",
        "kms": "cloudkms",
        "monitoring": "monitoring",
        "secretmanager": "secretmanager",
        "serviceaccount": "iam",
        "storage": "storage",
    }
    """The API by the module in a type token."""

    def __init__(self) -> None:
        self._on: set[str] = set()

    def create(self, new: Resource, world: World) -> None:
        if new.token == API:
            self._on.add(new.inputs["service"])
        api = self.OF.get(new.token.split(":")[1].partition("/")[0]) if new.token.startswith("gcp:") else None
        if api and f"{api}.googleapis.com" not in self._on:
            project = new.inputs.get("project")
            raise Refused(
                f"googleapi: Error 403: {api} API has not been used in project {project} before or is disabled"
            )


class Immutable(Behaviour):
    """Fields whose change makes a new resource (`ForceNew`, and the two that `ForceNewIfChange` holds).

    Pulumi's bridge deletes first where the program itself set the `name` (`nameRequiresDeleteBeforeReplace` in
    pkg/tfbridge/schema.go), unless the name is among a type's `UniqueNameFields` and changes; the program's own
    `delete_before_replace` goes before that.
    """

    FIELDS: Final[Mapping[str, Sequence[str]]] = {
        SERVICE: ("location", "name", "project"),
        JOB: ("location", "name", "project"),
        INVOKER: ("location", "member", "name", "project", "role"),
        "gcp:billing/budget:Budget": ("billingAccount",),
        "gcp:compute/address:Address": ("addressType", "name", "project", "region", "subnetwork"),
        DISK: ("name", "project", "type", "zone"),
        "gcp:compute/firewall:Firewall": ("direction", "name", "project"),
        "gcp:compute/forwardingRule:ForwardingRule": (
            "backendService", "ipAddress", "ipProtocol", "loadBalancingScheme", "name", "network", "ports", "project",
            "region", "subnetwork",
        ),
        INSTANCE: (
            "bootDisk.initializeParams.image", "bootDisk.initializeParams.type", "guestAccelerators.count",
            "guestAccelerators.type", "name", "project", "zone",
        ),
        TEMPLATE: (
            "disks", "guestAccelerators", "machineType", "metadata", "name", "networkInterfaces", "project",
            "scheduling", "serviceAccount", "shieldedInstanceConfig",
        ),
        "gcp:compute/network:Network": ("autoCreateSubnetworks", "name", "project"),
        "gcp:compute/regionAutoscaler:RegionAutoscaler": ("name", "project", "region"),
        "gcp:compute/regionBackendService:RegionBackendService": ("loadBalancingScheme", "name", "project"),
        "gcp:compute/regionHealthCheck:RegionHealthCheck": ("name", "project", "region"),
        "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": (
            "baseInstanceName", "distributionPolicyZones", "name", "project", "region",
        ),
        "gcp:compute/router:Router": ("name", "network", "project", "region"),
        "gcp:compute/routerNat:RouterNat": ("name", "project", "region", "router"),
        SUBNET: ("name", "network", "project", "region"),
        METRIC: ("name", "project"),
        SAVED_QUERY: ("location", "name", "parent"),
        POOL: ("project", "workloadIdentityPoolId"),
        WAY_IN: ("project", "workloadIdentityPoolId", "workloadIdentityPoolProviderId"),
        "gcp:kms/cryptoKey:CryptoKey": ("keyRing", "name", "purpose"),
        "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember": ("cryptoKeyId", "member", "role"),
        "gcp:kms/keyRing:KeyRing": ("location", "name", "project"),
        "gcp:monitoring/alertPolicy:AlertPolicy": ("project",),
        "gcp:monitoring/dashboard:Dashboard": ("project",),
        "gcp:monitoring/notificationChannel:NotificationChannel": ("project",),
        "gcp:projects/iAMMember:IAMMember": ("member", "project", "role"),
        API: ("project", "service"),
        "gcp:secretmanager/secret:Secret": ("project", "secretId"),
        SECRET_GRANT: ("member", "project", "role", "secretId"),
        "gcp:secretmanager/secretVersion:SecretVersion": ("isSecretDataBase64", "secret", "secretData"),
        "gcp:serviceaccount/account:Account": ("accountId", "project"),
        "gcp:serviceaccount/iAMMember:IAMMember": ("member", "role", "serviceAccountId"),
        "gcp:storage/bucket:Bucket": ("location", "name", "project"),
        "gcp:storage/bucketIAMMember:BucketIAMMember": ("bucket", "member", "role"),
    }  # fmt: skip

    def diff(self, old: Resource, news: Properties, found: Difference) -> None:
        paths = [path for path in self.FIELDS.get(old.token, ()) if at(old.inputs, path) != at(news, path)]
        if old.token == DISK and _number(news.get("size")) < _number(old.inputs.get("size")):
            paths.append("size")
        if old.token == SUBNET and _prefix(news.get("ipCidrRange")) > _prefix(old.inputs.get("ipCidrRange")):
            paths.append("ipCidrRange")
        found.replaces |= {path.partition(".")[0] for path in paths}
        if paths and old.token.startswith("gcp:") and "name" in news:
            found.delete_first = old.token != TEMPLATE or "name" not in paths


class InUse(Behaviour):
    """What another resource holds can't be deleted: 400 `resourceInUseByAnotherResource`.

    A disk is not among them: the provider takes it from its machine first (`Disks`).
    """

    HELD: Final = (
        "gcp:compute/address:Address", "gcp:compute/network:Network",
        "gcp:compute/regionBackendService:RegionBackendService", "gcp:compute/regionHealthCheck:RegionHealthCheck",
        "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager", SUBNET, TEMPLATE,
    )  # fmt: skip

    def delete(self, old: Resource, world: World) -> None:
        if old.token in self.HELD:
            for other in world.values():
                # Cloud Run names a subnet, and has addresses in it (`HeldAddresses`).
                if other.refers_to(old) and other.token not in (SERVICE, JOB):
                    raise in_use(old, other.id)


def in_use(old: Resource, by: str) -> Refused:
    """Compute Engine's refusal to delete what something else holds."""
    return Refused(
        f"googleapi: Error 400: The resource '{old.id}' is already being used by '{by}', resourceInUseByAnotherResource"
    )


class HeldAddresses(Behaviour):
    """Cloud Run holds addresses in a subnet while a service or a job has its interface there, and up to 2 h longer.

    Sources: Google, Direct VPC egress, "Troubleshooting: delete a subnet" (wait 1-2 hours); nitric#667,
    cloud-foundation-fabric PR#2867. The test moves the clock, by `forward`.
    """

    HOLD_S: Final = 7200

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds."""
        self._until: dict[str, float] = {}

    def forward(self, seconds: float) -> None:
        self.now += seconds

    def update(self, old: Resource, new: Resource, world: World) -> None:
        self._leave(set(_subnets(old)) - set(_subnets(new)))

    def delete(self, old: Resource, world: World) -> None:
        self._leave(set(_subnets(old)))
        if old.token != SUBNET:
            return
        for other in world.values():
            if old.id in _subnets(other):
                raise in_use(old, other.id)
        if self._until.get(old.id, 0) > self.now:
            raise in_use(old, f"{old.id.replace('subnetworks', 'addresses')}-serverless-ipv4-1")

    def _leave(self, subnets: set[str]) -> None:
        self._until |= dict.fromkeys(subnets, self.now + self.HOLD_S)


class Disks(Behaviour):
    """A machine keeps its disks, not disks of that name: one that is deleted is first taken from it.

    Source: `resourceComputeDiskDelete` detaches from every user and goes on. `of` then tells the machine's true disks,
    where the engine knows no difference.
    """

    def __init__(self) -> None:
        self._attached: defaultdict[int, set[int]] = defaultdict(set)
        """Disks' serials by the machine's."""

    def of(self, machine: Resource, world: World) -> list[Resource]:
        """The disks that a machine has."""
        return [one for one in world.values() if one.serial in self._attached[machine.serial]]

    def create(self, new: Resource, world: World) -> None:
        if new.token == INSTANCE:
            for disk in _disks(new):
                self._attach(new, disk, world)

    def update(self, old: Resource, new: Resource, world: World) -> None:
        if new.token == INSTANCE:
            for disk in set(_disks(new)) - set(_disks(old)):
                self._attach(new, disk, world)
            gone = {world[disk].serial for disk in set(_disks(old)) - set(_disks(new)) if disk in world}
            self._attached[new.serial] -= gone

    def delete(self, old: Resource, world: World) -> None:
        if old.token == DISK:
            for disks in self._attached.values():
                disks.discard(old.serial)

    def _attach(self, machine: Resource, disk: str, world: World) -> None:
        if disk not in world:
            raise Refused(f"googleapi: Error 404: The resource '{disk}' was not found, notFound")
        holders = [other for other, disks in self._attached.items() if world[disk].serial in disks]
        if any(one.serial in holders for one in world.values() if one.serial != machine.serial):
            raise Refused(f"googleapi: Error 400: The disk resource '{disk}' is already being used, resourceInUse")
        self._attached[machine.serial].add(world[disk].serial)


class Rolls(Behaviour):
    """A group replaces its machines for minutes after its update, and holds their old template as long as `rolling`.

    Source: Compute Engine, `instanceTemplates.delete` ("in use by a managed instance group"); hashicorp/terraform#21865
    saw it refused after the group's update. Others report no refusal, so this is the sterner of the two.
    """

    def __init__(self) -> None:
        self.rolling = False

    def update(self, old: Resource, new: Resource, world: World) -> None:
        if new.token == GROUP and at(old.inputs, "versions") != at(new.inputs, "versions"):
            self.rolling = True

    def delete(self, old: Resource, world: World) -> None:
        if old.token == TEMPLATE and self.rolling:
            raise in_use(old, "a machine of its group")


class LateGrants(Behaviour):
    """A grant counts `delay_s` after it was made, and Cloud Run starts no revision whose secrets it can't read.

    Sources: IAM, "Access change propagation" (2 minutes typically, 7 or more at times); the words are Cloud Run's in
    sourcegraph-public-snapshot#59045. The service exists then: the provider's create sets the id before it waits.
    """

    def __init__(self, delay_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.delay_s = delay_s
        self._clock = clock
        self._made: dict[str, float] = {}

    def create(self, new: Resource, world: World) -> None:
        if new.token == SECRET_GRANT and new.id not in world:
            self._made[new.id] = self._clock()
        self._start(new)

    def update(self, old: Resource, new: Resource, world: World) -> None:
        self._start(new)

    def delete(self, old: Resource, world: World) -> None:
        self._made.pop(old.id, None)

    def _start(self, new: Resource) -> None:
        if new.token not in (SERVICE, JOB):
            return
        template = _template(new)
        [account] = at(new.inputs, f"{template}.serviceAccount")
        volumes = at(new.inputs, f"{template}.volumes.secret.secret")
        variables = at(new.inputs, f"{template}.containers.envs.valueSource.secretKeyRef.secret")
        for secret in (*volumes, *variables):
            grant = f"{secret}/roles/secretmanager.secretAccessor/serviceAccount:{account}"
            if self._clock() < self._made.get(grant, float("inf")) + self.delay_s:
                name = new.inputs["name"]
                raise Unready(
                    f"Error waiting to create Service: Error waiting for Creating Service: Error code 13, message: "
                    f"Revision '{name}-00001-abc' is not ready and cannot serve traffic. Permission denied on secret: "
                    f"{secret} for Revision service account {account}. The service account used must be granted the "
                    "'Secret Manager Secret Accessor' role (roles/secretmanager.secretAccessor) at the secret, project "
                    "or higher level."
                )


class EchoedDefaults(Behaviour):
    """Google writes its default into a field that was left out, which the provider then takes for a change.

    That holds for fields which the provider's schema has as `Optional`, neither `Computed` nor with a `Default`. Of all
    those that this program leaves out, these are the ones whose default is none of "", 0, false and no block at all.
    """

    FIELDS: Final = {
        SERVICE: {"template.volumes.secret.defaultMode": 0o444},
        JOB: {"template.template.volumes.secret.defaultMode": 0o444},
    }

    def writes(self, found: Resource) -> Properties:
        written = found.state
        for path, default in self.FIELDS.get(found.token, {}).items():
            written = _filled(written, path.split("."), default)
        return written

    def diff(self, old: Resource, news: Properties, found: Difference) -> None:
        for path in self.FIELDS.get(old.token, {}):
            if at(plain(old.state), path) != at(news, path):
                found.changed.add(path.partition(".")[0])


def always() -> list[Behaviour]:
    """What Google always does, without clocks."""
    return [Apis(), Names(), Remembered(), Immutable(), InUse(), Disks(), EchoedDefaults()]


def _disks(machine: Resource) -> list[str]:
    return at(machine.inputs, "attachedDisks.source")


def _subnets(service: Resource) -> list[str]:
    if service.token not in (SERVICE, JOB):
        return []
    return at(service.inputs, f"{_template(service)}.vpcAccess.networkInterfaces.subnetwork")


def _template(service: Resource) -> str:
    """Path of what a service's revision or a job's task is made of."""
    return "template" if service.token == SERVICE else "template.template"


def _filled(value: Any, path: Sequence[str], default: Any) -> Any:
    """A copy with `default` at the path, in every block on the way that exists and lacks it."""
    if isinstance(value, list):
        return [_filled(item, path, default) for item in cast(list[Any], value)]
    block = cast(Properties, value)
    key, *rest = path
    if rest:
        return {**block, key: _filled(block[key], rest, default)} if key in block else block
    return {key: default, **block}


def _number(value: Any) -> float:
    return float("inf") if value in (None, UNKNOWN) else float(value)


def _prefix(value: Any) -> int:
    return 0 if value in (None, UNKNOWN) else int(value.rpartition("/")[2])
