"""The rules of exposure: what is public, who reaches a machine or a secret, where keys and tokens travel.

A rule takes any stack and raises `AssertionError` with the name of what breaks it. It knows resource types, not
components: what a component adds tomorrow is held to it, too.
"""

import ipaddress
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from lab.read.stack import Resource, Stack
from tests.engine.behaviour import at
from tests.golden.grants_table import ACCOUNT, grants
from tests.kit import unpacked
from tests.unit import test_grants
from tests.unit.security import leaks

Check = Callable[[Stack], None]
SERVICE: Final = "gcp:cloudrunv2/service:Service"
JOB: Final = "gcp:cloudrunv2/job:Job"
INVOKER: Final = "gcp:cloudrunv2/serviceIamMember:ServiceIamMember"
SECRET: Final = "gcp:secretmanager/secret:Secret"
READER: Final = "gcp:secretmanager/secretIamMember:SecretIamMember"
BUCKET: Final = "gcp:storage/bucket:Bucket"
FIREWALL: Final = "gcp:compute/firewall:Firewall"
MACHINES: Final = ("gcp:compute/instance:Instance", "gcp:compute/instanceTemplate:InstanceTemplate")
GATEWAY: Final = "gateway-service"
HEALTH_CHECKS: Final = {"35.191.0.0/16", "130.211.0.0/22"}
"""Where Google's health checks come from (cloud.google.com/load-balancing/docs/health-checks)."""
RIGHTS: Final[Mapping[str, set[tuple[str, str]]]] = {
    "gateway-account": {
        ("roles/run.invoker", "pilotlight-dev-burst"),
        ("roles/secretmanager.secretAccessor", "its own secrets"),
    },
    "vm-account": set(),
    "burst-account": {("roles/storage.objectViewer", "lab-project-pilotlight-dev-weights")},
    "burst-weights-account": {
        ("roles/storage.objectUser", "lab-project-pilotlight-dev-weights"),
        ("roles/secretmanager.secretAccessor", "its own secrets"),
    },
}
"""All that each program may. The VM fetches its weights from their public source, and writes its log to the machine."""
KEYS: Final = ("serviceaccount/key:", "storage/hmacKey:", "projects/apiKey:", "apikeys/", "sshPublicKey")
"""Types of credentials that don't end by themselves, and whose secret part would lie in the state."""
ADDRESSES: Final = ("gcp:compute/globalAddress", "gcp:compute/globalForwardingRule", "gcp:compute/targetPool")
FOLDER: Final = "/run/pilotlight/"


# --- what is public ---------------------------------------------------------------------------------------------------


def check_nothing_is_public_but_the_gateway(stack: Stack) -> None:
    for resource in stack.resources:
        text = str(resource.inputs)
        assert "allUsers" not in text, f"{resource.name} is for all users"
        assert "allAuthenticatedUsers" not in text, f"{resource.name} is for everybody with an account at Google"
        if resource.type == SERVICE and resource.name != GATEWAY:
            assert resource.inputs.get("invokerIamDisabled") is False, (
                f"{resource.name}: Cloud Run asks nobody who he is"
            )
        if resource.type == BUCKET:
            assert resource.inputs.get("publicAccessPrevention") == "enforced", f"{resource.name} can be made public"
            assert resource.inputs.get("uniformBucketLevelAccess") is True, f"{resource.name}: objects have own rights"
        assert not resource.type.startswith(("gcp:storage/bucketACL", "gcp:storage/objectA", "gcp:storage/defaultO")), (
            f"{resource.name}: {resource.type} gives rights beside IAM"
        )


def check_no_machine_has_an_address_outside(stack: Stack) -> None:
    for resource in stack.resources:
        inputs = resource.inputs
        if resource.type in MACHINES:
            assert inputs.get("networkInterfaces"), f"{resource.name} is in Google's default network"
        for interface in at(inputs, "networkInterfaces"):
            for one in cast(list[Any], interface):
                assert not {"accessConfigs", "ipv6AccessConfigs"} & set(one), f"{resource.name} has a public address"
        if resource.type == "gcp:compute/address:Address":
            assert inputs.get("addressType") == "INTERNAL", f"{resource.name} is a public address"
        if resource.type == "gcp:compute/forwardingRule:ForwardingRule":
            assert inputs.get("loadBalancingScheme") == "INTERNAL", f"{resource.name} listens in public"
        if resource.type == "gcp:compute/network:Network":
            assert inputs.get("autoCreateSubnetworks") is False, f"{resource.name} brings four open firewall rules"
        assert not resource.type.startswith(ADDRESSES), f"{resource.name}: {resource.type} is public"


def check_only_the_gateway_and_health_checks_reach_the_vm(stack: Stack) -> None:
    subnets = {one.name: one.inputs["ipCidrRange"] for one in stack.of_type("gcp:compute/subnetwork:Subnetwork")}
    own = {account.outputs["email"] for account in stack.of_type(ACCOUNT) if account.name == "vm-account"}
    for resource in stack.resources:
        if "firewall" not in resource.type.lower():
            continue
        name, inputs = resource.name, resource.inputs
        assert resource.type == FIREWALL, f"{name}: {resource.type} is a rule that nobody reads here"
        assert inputs.get("direction") == "INGRESS", f"{name}: direction"
        ranges = set(inputs.get("sourceRanges") or ())
        assert ranges, f"{name} names no source: Google takes that for everybody"
        strangers = ranges - {subnets["network-gateway-subnet"]} - HEALTH_CHECKS
        assert not strangers, f"{name} lets {', '.join(sorted(strangers))} in"
        others = [*at(inputs, "sourceTags"), *at(inputs, "sourceServiceAccounts")]
        assert not others, f"{name} lets {others} in"
        assert inputs.get("allows") == [{"protocol": "tcp", "ports": ["9931"]}], f"{name} opens {inputs.get('allows')}"
        assert set(inputs.get("targetServiceAccounts") or ()) == own, f"{name} is for more machines than the VM's"


# --- identities -------------------------------------------------------------------------------------------------------


def check_each_program_has_these_rights_and_no_other(stack: Stack) -> None:
    held = _used_secrets(stack)
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for grant in grants(stack):
        own = grant.role == "roles/secretmanager.secretAccessor" and grant.on in held.get(grant.who, ())
        found[grant.who].add((grant.role, "its own secrets" if own else grant.on))
    for account, rights in RIGHTS.items():
        extra = found[account] - rights
        assert not extra, f"{account} may more than it needs: {sorted(extra)}"


def check_a_secret_has_one_reader_the_one_that_uses_it(stack: Stack) -> None:
    """As Secret Manager names it, by the account."""
    held = _used_secrets(stack)
    readers: dict[str, set[str]] = defaultdict(set)
    for grant in grants(stack):
        if grant.role.startswith("roles/secretmanager.") and not grant.is_project_wide:
            readers[grant.on].add(grant.who)
    for secret in stack.of_type(SECRET):
        name = str(secret.inputs["secretId"])
        users = {account for account, used in held.items() if name in used}
        assert readers[name] == users, f"{secret.name}: {sorted(readers[name])} may read it, {sorted(users)} use it"
        assert len(users) == 1, f"{secret.name} is used by {sorted(users)}"


def check_only_the_gateway_calls_burst(stack: Stack) -> None:
    [gateway] = [one.outputs["member"] for one in stack.of_type(ACCOUNT) if one.name == "gateway-account"]
    for grant in stack.of_type(INVOKER):
        assert grant.inputs["member"] == gateway, f"{grant.name}: {grant.inputs['member']} may call"
        assert grant.inputs["role"] == "roles/run.invoker", f"{grant.name}: {grant.inputs['role']}"
        assert "burst" in str(grant.inputs["name"]), f"{grant.name} is on {grant.inputs['name']}"


def check_no_credential_lasts_for_ever(stack: Stack) -> None:
    for resource in stack.resources:
        assert not any(kind in resource.type for kind in KEYS), f"{resource.name}: a {resource.type} has no end"
        if resource.type == "tailscale:index/tailnetKey:TailnetKey":
            assert 0 < int(resource.inputs.get("expiry", 0)) <= 90 * 86400, f"{resource.name} has no end"


def _used_secrets(stack: Stack) -> dict[str, set[str]]:
    """Account -> ids of the secrets that its program mounts or has in its environment."""
    accounts = {str(one.outputs["email"]): one.name for one in stack.of_type(ACCOUNT)}
    found: dict[str, set[str]] = defaultdict(set)
    for program in (*stack.of_type(SERVICE), *stack.of_type(JOB)):
        for path in ("template", "template.template"):
            for template in at(program.inputs, path):
                used = [
                    *at(template, "volumes.secret.secret"),
                    *at(template, "containers.envs.valueSource.secretKeyRef.secret"),
                ]
                for email in at(template, "serviceAccount"):
                    found[accounts.get(str(email), str(email))] |= {str(secret).rsplit("/", 1)[-1] for secret in used}
    return found


# --- keys and tokens on the way ---------------------------------------------------------------------------------------


def check_a_callers_key_ends_at_the_gateway(stack: Stack) -> None:
    """What Caddy hands on leaves nothing of a caller's headers but what it sets; to itself alone it hands on all."""
    config = _caddy(stack)
    own = {address for server in config["apps"]["http"]["servers"].values() for address in server["listen"]}
    for server, proxy in _proxies(config):
        dials = [str(upstream["dial"]).removeprefix("tcp/") for upstream in proxy["upstreams"]]
        request = proxy.get("headers", {}).get("request", {})
        if set(dials) <= own and _is_way_back(dials, config):
            continue
        assert "*" in request.get("delete", ()), f"{GATEWAY}, {server}: {dials} gets the caller's headers"
        for name, value in {**request.get("set", {}), **request.get("add", {})}.items():
            told = f"{GATEWAY}, {server}: {dials} gets {name}: {value}"
            assert name.lower() not in ("authorization", "cookie", "x-api-key"), told
            assert "header.Authorization" not in str(value), told


def check_the_id_token_goes_to_burst_alone(stack: Stack) -> None:
    config = _caddy(stack)
    burst = {_dial(one.outputs["uri"]) for one in stack.of_type(SERVICE) if one.name == "burst-service"}
    for server, proxy in _proxies(config):
        request = proxy.get("headers", {}).get("request", {})
        text = str(request).lower()
        if "x-serverless-authorization" in text or "id-token" in text or "vars.token" in text:
            dials = {str(upstream["dial"]) for upstream in proxy["upstreams"]}
            assert dials == burst, f"{GATEWAY}, {server}: {sorted(dials)} gets Google's ID token"
    for name, server in config["apps"]["http"]["servers"].items():
        if "id-token" in str(server):
            assert all(_is_loopback(address) for address in server["listen"]), (
                f"{GATEWAY}: {name} is open, with the token"
            )


def check_the_log_has_no_headers(stack: Stack) -> None:
    for name, log in _caddy(stack)["logging"]["logs"].items():
        fields = log["encoder"].get("fields", {})
        for field in ("request>headers", "resp_headers"):
            assert fields.get(field) == {"filter": "delete"}, f"{GATEWAY}: the log {name} keeps {field}"
        assert "?" in str(fields.get("request>uri")), f"{GATEWAY}: the log {name} keeps query strings"


# --- what listens -----------------------------------------------------------------------------------------------------


def check_what_controls_a_program_is_not_reachable(stack: Stack) -> None:
    """Caddy's admin, the pilot, the tunnel's proxy and local API: loopback, or a socket in the shared folder."""
    config = _caddy(stack)
    admin = config["admin"]
    if not admin.get("disabled"):
        assert re.fullmatch(r"unix/[\w./-]+\|0600", str(admin.get("listen"))), f"{GATEWAY}: Caddy's admin is at {admin}"
    assert admin.get("config", {}).get("persist") is False, f"{GATEWAY}: Caddy's admin keeps what it is told"
    for name, server in config["apps"]["http"]["servers"].items():
        open_to_all = [address for address in server["listen"] if not _is_loopback(address)]
        assert open_to_all == ([":{env.PORT}"] if name == "api" else []), f"{GATEWAY}: {name} listens on {open_to_all}"
    [gateway] = [one for one in stack.of_type(SERVICE) if one.name == GATEWAY]
    containers = cast(list[dict[str, Any]], gateway.inputs["template"]["containers"])
    assert [one["name"] for one in containers if one.get("ports")] == ["caddy"], f"{GATEWAY}: a sidecar has a port"
    for container in containers:
        for item in container.get("envs", ()):
            _require_inside(container["name"], item["name"], str(item.get("value", "")))
        for word in (*container.get("commands", ()), *container.get("args", ())):
            assert not re.search(r"(0\.0\.0\.0|\[::\]):\d", word), f"{GATEWAY}: {container['name']} is told {word[:60]}"
    tunnel = next((one for one in containers if one["name"] == "tailscale"), None)
    if tunnel:
        told = {item["name"]: str(item.get("value", "")) for item in tunnel["envs"]}
        assert "--shields-up" in told["TS_EXTRA_ARGS"].split(), (
            f"{GATEWAY}: the tailnet reaches the instance's loopback"
        )
        open_ways = {"TS_SERVE_CONFIG", "TS_DEST_IP", "TS_ROUTES", "TS_TAILNET_TARGET_IP"} & told.keys()
        assert not open_ways, f"{GATEWAY}: the tunnel leads in by {open_ways}"
        assert "--ssh" not in told["TS_EXTRA_ARGS"], f"{GATEWAY}: the tunnel lets people in by SSH"


def check_home_shows_no_dashboard(stack: Stack) -> None:
    """K3s' Traefik gets time-outs from here, and neither its API nor an entry point more."""
    for resource in stack.of_type("kubernetes:helm.cattle.io/v1:HelmChartConfig"):
        text = str(resource.inputs["spec"]["valuesContent"])
        for word in ("dashboard", "insecure", "api:", "hostPort", "exposedPort", "additionalArguments"):
            assert word not in text, f"{resource.name}: {word}"


def check_nobody_logs_in_at_a_machine(stack: Stack) -> None:
    for machine in (resource for resource in stack.resources if resource.type in MACHINES):
        metadata = machine.inputs["metadata"]
        assert metadata.get("block-project-ssh-keys") == "true", f"{machine.name} takes the project's SSH keys"
        extra = {"ssh-keys", "serial-port-enable", "startup-script", "startup-script-url"} & set(metadata)
        assert not extra, f"{machine.name}: {extra}"


def _require_inside(container: str, name: str, value: str) -> None:
    """A variable that names a listener names loopback, or a socket in the shared folder."""
    told = f"{GATEWAY}: {container} is told {name}={value}"
    if re.search("LISTEN|SOCKS5|LOCAL_ADDR|HEALTHCHECK_ADDR|PROXY_LISTEN|CHECKS$", name):
        assert _is_loopback(value.removeprefix("socks5://")), told
    if "SOCKET" in name and value:
        assert value.startswith(FOLDER), told
    assert not re.fullmatch(r"(\w+://)?(0\.0\.0\.0|\[::\]|\*)?:\d+", value), told


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0]
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_way_back(dials: list[str], config: dict[str, Any]) -> bool:
    """Whether all of them are addresses of the very server that callers reach: Caddy asks itself once more."""
    return set(dials) <= set(config["apps"]["http"]["servers"]["api"]["listen"])


def _dial(url: str) -> str:
    host = url.partition("://")[2].partition("/")[0]
    return host if ":" in host else f"{host}:443"


def _caddy(stack: Stack) -> dict[str, Any]:
    [version] = [one for one in stack.resources if one.name == "gateway-caddy-config-version"]
    return json.loads(unpacked(version.inputs["secretData"]))


def _proxies(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, server in config["apps"]["http"]["servers"].items():
        yield from ((name, found) for found in _handlers(server))


def _handlers(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        mapping = cast(dict[str, Any], value)
        if mapping.get("handler") == "reverse_proxy":
            yield mapping
        for item in mapping.values():
            yield from _handlers(item)
    elif isinstance(value, list):
        for item in cast(list[Any], value):
            yield from _handlers(item)


def check_secrets_are_marked(stack: Stack) -> None:
    """Every key that is registered anywhere, whoever made it."""
    found = leaks.keys_of(stack)
    assert found, "no key is registered at all"
    shown = leaks.shown(stack, found)
    assert not shown, f"shown in plain text: {', '.join(shown)}"


RULES: Final[tuple[Check, ...]] = (
    check_nothing_is_public_but_the_gateway,
    check_no_machine_has_an_address_outside,
    check_only_the_gateway_and_health_checks_reach_the_vm,
    check_each_program_has_these_rights_and_no_other,
    check_a_secret_has_one_reader_the_one_that_uses_it,
    check_only_the_gateway_calls_burst,
    check_no_credential_lasts_for_ever,
    check_a_callers_key_ends_at_the_gateway,
    check_the_id_token_goes_to_burst_alone,
    check_the_log_has_no_headers,
    check_what_controls_a_program_is_not_reachable,
    check_home_shows_no_dashboard,
    check_nobody_logs_in_at_a_machine,
    check_secrets_are_marked,
    *test_grants.CHECKS,
)
"""Those of single rights among them."""


BY_NAME: Final = {rule.__name__.removeprefix("check_"): rule for rule in RULES}


def broken(stack: Stack, *only: str) -> dict[str, str]:
    """Name of a rule that the stack breaks -> what it says; of all rules, or of those named."""
    found: dict[str, str] = {}
    for name in only or BY_NAME:
        try:
            BY_NAME[name](stack)
        except AssertionError as error:
            found[name] = str(error).partition("\n")[0]
    return found


def named(stack: Stack, name: str) -> Resource:
    [resource] = [resource for resource in stack.resources if resource.name == name]
    return resource
