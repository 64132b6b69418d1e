"""The public endpoint: one Cloud Run service of official images, stock Caddy and configuration.

Owns: the service, its identity, its secrets and their one reader. Does not own: the text of Caddy's configuration
(`caddy`), the tunnel's environment (`tunnel`), the pilot's program (`pilot`), the lanes themselves.
"""

import base64
from collections.abc import Mapping, Sequence

import pulumi
from pulumi_gcp import cloudrunv2, serviceaccount

from components import ports
from components.burst.service import Burst
from components.gateway import pilot_container, tunnel
from components.gateway.caddy import config as caddy_config
from components.gateway.caddy import console, upstreams
from components.grants import Grants
from components.mounted_secret import MountedSecret, mounted_secret
from components.network import Network
from components.settings import Lane, Settings
from components.settings.client_keys import ClientKey
from components.tailnet.tailnet import Tailnet

CONFIG_FOLDER = "/etc/pilotlight/caddy"
CONFIG_FILE = "caddy.json.bz2"


class Gateway(pulumi.ComponentResource):
    """`url` is the service's public HTTPS address."""

    url: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        client_keys: Mapping[ClientKey, pulumi.Output[str]],
        vm_address: pulumi.Input[str] | None,
        network: Network,
        tailnet: Tailnet | None,
        burst: Burst | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pilotlight:gcp:Gateway", name, None, opts)
        self._name, self._settings = name, settings
        self._cloud_name = f"{settings.prefix}-gateway"
        self.account = serviceaccount.Account(
            f"{name}-account",
            account_id=self._cloud_name,
            project=settings.project,
            display_name="pilotlight gateway: reads its own secrets, nothing else",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self._grants: list[pulumi.Resource] = []
        self._new_grants = Grants(name)
        # In memory, between the containers: Caddy's admin socket, the ID token, the tunnel daemon's socket.
        self._shared: list[cloudrunv2.ServiceTemplateContainerVolumeMountArgsDict] = (
            [{"name": "shared", "mount_path": ports.SHARED_FOLDER}] if settings.piloted else []
        )
        found = pulumi.Output.all(vm=vm_address or "", burst=burst.url if burst else "")
        config = found.apply(lambda at: caddy_config.document(settings, vm_address=at["vm"], burst_url=at["burst"]))

        config_secret = self._secret(
            "caddy-config", config.apply(lambda text: _base64(caddy_config.packed(text))), encoded=True
        )
        environment = caddy_config.environment(settings, vm_address=vm_address or "")
        containers = [self._caddy_container(environment, self._client_keys(client_keys))]
        volumes = [config_secret.volume("caddy-config", CONFIG_FILE)]
        if settings.gateway.console:
            volumes.append(self._secret("console", console.page()).volume("console", console.FILE))
        if tailnet is not None:
            containers.append(self._tailscale_container(tailnet))
            if tailnet.gateway_key is not None:
                # Disabled, a version can be enabled again, should the new key turn out wrong.
                key = self._secret("auth-key", tailnet.gateway_key, once_replaced="DISABLE")
                volumes.append(key.volume("auth-key", tunnel.KEY_FILE))
            policy = self._secret("tailscaled-policy", tunnel.POLICY)
            volumes.append(policy.volume("tailscaled-policy", tunnel.POLICY_FILE))
        if burst:
            self._grants.append(burst.allow(self.account.member))
        if settings.piloted:
            program = self._secret("pilot", _base64(pilot_container.archive()), encoded=True)
            containers.append(self._pilot_container(vm_address or "", burst.url if burst else ""))
            volumes.append(program.volume("pilot", pilot_container.FILE))
            volumes.append({"name": "shared", "empty_dir": {"medium": "MEMORY", "size_limit": "16Mi"}})
        self.url = self._service(containers, volumes, network).uri
        self.register_outputs({"url": self.url})

    def _client_keys(self, values: Mapping[ClientKey, pulumi.Output[str]]) -> dict[ClientKey, MountedSecret]:
        """A secret for each client, a version in it for each key: a new key needs no grant that has to count first."""
        first: dict[str, MountedSecret] = {}
        found: dict[ClientKey, MountedSecret] = {}
        for key, value in values.items():
            name = f"key-{key.client}"
            if key.client in first:
                version = f"{self._name}-{name}-version{key.suffix}"
                found[key] = first[key.client].further(version, value, parent=self, once_replaced="DELETE")
            else:
                found[key] = first[key.client] = self._secret(name, value, suffix=key.suffix)
        return found

    def _secret(
        self,
        name: str,
        content: pulumi.Input[str],
        *,
        encoded: bool = False,
        once_replaced: str = "DELETE",
        suffix: str = "",
    ) -> MountedSecret:
        """A secret that only the gateway may read."""
        found = mounted_secret(
            f"{self._name}-{name}",
            f"{self._cloud_name}-{name}",
            content,
            project=self._settings.project,
            reader=self.account.member,
            grants=self._new_grants,
            parent=self,
            encoded=encoded,
            once_replaced=once_replaced,
            suffix=suffix,
        )
        self._grants.append(found.grant)
        return found

    def _caddy_container(
        self,
        environment: Mapping[str, pulumi.Input[str]],
        keys: Mapping[ClientKey, MountedSecret],
    ) -> cloudrunv2.ServiceTemplateContainerArgsDict:
        settings = self._settings
        probe: cloudrunv2.ServiceTemplateContainerStartupProbeArgsDict = {
            "http_get": {"path": caddy_config.READY_PATH},
            "period_seconds": 1,
            "timeout_seconds": 1,
            "failure_threshold": 60,
        }
        secret: list[cloudrunv2.ServiceTemplateContainerEnvArgsDict] = [
            {
                "name": key.variable,
                "value_source": {"secret_key_ref": {"secret": held.version.secret, "version": held.version.version}},
            }
            for key, held in keys.items()
        ]
        command = caddy_config.command(f"{CONFIG_FOLDER}/{CONFIG_FILE}")
        container: cloudrunv2.ServiceTemplateContainerArgsDict = {
            "name": "caddy",
            "image": settings.gateway.caddy_image,
            "commands": command[:2],
            "args": command[2:],
            "envs": [*_variables(environment), *secret],
            "ports": {"container_port": ports.PUBLIC, "name": "http1"},
            "resources": {
                "limits": {"cpu": "1", "memory": f"{settings.gateway.memory_mib}Mi"},
                # Health checks and the tunnel run between requests, too: without CPU they would see every lane die.
                "cpu_idle": False,
                "startup_cpu_boost": True,
            },
            "startup_probe": probe,
            "liveness_probe": {
                "http_get": {"path": caddy_config.READY_PATH},
                "period_seconds": 10,
                "timeout_seconds": 5,
                "failure_threshold": 3,
            },
            "volume_mounts": [
                {"name": "caddy-config", "mount_path": CONFIG_FOLDER},
                *([{"name": "console", "mount_path": console.FOLDER}] if settings.gateway.console else []),
                *self._shared,
            ],
        }
        if self._shared:
            # The configuration names the token and the admin socket relative to here.
            container["working_dir"] = ports.SHARED_FOLDER
        return container

    def _tailscale_container(self, tailnet: Tailnet) -> cloudrunv2.ServiceTemplateContainerArgsDict:
        settings = self._settings
        command = tunnel.command()
        keyed = tailnet.gateway_key is not None
        if keyed:
            environment = tunnel.environment(settings)
        else:
            trusted = tailnet.trust_gateway(self.account.unique_id)
            environment = tunnel.environment(settings, client_id=trusted.id, audience=trusted.audience)
        return {
            "name": "tailscale",
            "image": settings.gateway.tailscale_image,
            "commands": command[:2],
            "args": command[2:],
            "envs": _variables(environment),
            "resources": {"limits": {"cpu": "1", "memory": "512Mi"}, "cpu_idle": False, "startup_cpu_boost": True},
            "volume_mounts": [
                *([{"name": "auth-key", "mount_path": tunnel.KEY_FOLDER}] if keyed else []),
                {"name": "tailscaled-policy", "mount_path": tunnel.POLICY_FOLDER},
                *self._shared,
            ],
        }

    def _pilot_container(
        self, vm_address: pulumi.Input[str], burst_url: pulumi.Input[str]
    ) -> cloudrunv2.ServiceTemplateContainerArgsDict:
        settings = self._settings
        dials = upstreams.dials(settings, vm_address=vm_address)
        further = upstreams.further(settings, vm_address=vm_address)
        environment = pilot_container.environment(settings, burst_url=burst_url, dials=dials, further=further)
        command = pilot_container.command()
        return {
            "name": "pilot",
            "image": settings.gateway.pilot_image,
            "commands": command[:2],
            "args": command[2:],
            "envs": _variables(environment),
            "resources": {"limits": {"cpu": "1", "memory": "512Mi"}, "cpu_idle": False, "startup_cpu_boost": True},
            "volume_mounts": [{"name": "pilot", "mount_path": pilot_container.FOLDER}, *self._shared],
        }

    def _service(
        self,
        containers: Sequence[cloudrunv2.ServiceTemplateContainerArgsDict],
        volumes: Sequence[cloudrunv2.ServiceTemplateVolumeArgsDict],
        network: Network,
    ) -> cloudrunv2.Service:
        settings = self._settings
        template: cloudrunv2.ServiceTemplateArgsDict = {
            "service_account": self.account.email,
            # gen2 is a full Linux: Direct VPC egress and the tunnel's file system need it.
            "execution_environment": "EXECUTION_ENVIRONMENT_GEN2",
            "timeout": f"{settings.gateway.timeout_s}s",
            "max_instance_request_concurrency": settings.gateway.concurrency,
            "scaling": {
                "min_instance_count": settings.gateway.min_instances,
                "max_instance_count": settings.gateway.max_instances,
            },
            "containers": containers,
            "volumes": volumes,
        }
        if Lane.VM in settings.lanes:
            template["vpc_access"] = {
                "egress": "PRIVATE_RANGES_ONLY",
                "network_interfaces": [{"network": network.id, "subnetwork": network.gateway_subnet}],
            }
        return cloudrunv2.Service(
            f"{self._name}-service",
            name=self._cloud_name,
            project=settings.project,
            location=settings.region,
            ingress="INGRESS_TRAFFIC_ALL",
            # Callers bring a bearer key that Caddy checks; Google's own check would ask them for a Google identity.
            invoker_iam_disabled=True,
            deletion_protection=False,
            template=template,
            opts=pulumi.ResourceOptions(parent=self, depends_on=self._grants, hooks=self._new_grants.counted),
        )


def _variables(
    environment: Mapping[str, pulumi.Input[str]],
) -> list[cloudrunv2.ServiceTemplateContainerEnvArgsDict]:
    return [{"name": name, "value": value} for name, value in environment.items()]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
