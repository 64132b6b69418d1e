"""The burst lane: the same model on a GPU in the cloud that costs nothing while nobody needs it.

Owns: the Cloud Run service with one L4, its identity, and the grant that admits a caller. Does not own: when it is
woken and which requests it gets (`gateway`), the container's command line (`container`), the bucket (`weights`), the
network that it stands in (`network`).
"""

import pulumi
from pulumi_gcp import cloudrunv2, serviceaccount

from components import ports
from components.burst import container
from components.burst.weights import WeightStore
from components.settings import Settings

ACCELERATOR = "nvidia-l4"


class Burst(pulumi.ComponentResource):
    """vLLM on Cloud Run, scaled to zero. Nobody may call it until `allow` lets them."""

    url: pulumi.Output[str]
    """The service's HTTPS address, and the audience of the ID tokens it accepts."""
    name: pulumi.Output[str]
    location: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        network: pulumi.Input[str],
        subnet: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pilotlight:gcp:Burst", name, None, opts)
        self._name, self._settings = name, settings
        self._cloud_name = f"{settings.prefix}-burst"
        account = serviceaccount.Account(
            f"{name}-account",
            account_id=self._cloud_name,
            project=settings.project,
            display_name="pilotlight burst: reads its weights, nothing else",
            opts=pulumi.ResourceOptions(parent=self),
        )
        store = WeightStore(
            f"{name}-weights", settings, reader=account.member, opts=pulumi.ResourceOptions(parent=self)
        )
        self.accounts = {"burst": account, "weights": store.account}
        service = self._service(account, store, {"network": network, "subnetwork": subnet})
        self.url, self.name, self.location = service.uri, service.name, service.location
        self.register_outputs({"url": self.url, "name": self.name, "location": self.location})

    def allow(self, member: pulumi.Input[str]) -> cloudrunv2.ServiceIamMember:
        """Lets one identity call the service. Apart from the service, as the caller's own resources name its URL."""
        return cloudrunv2.ServiceIamMember(
            f"{self._name}-invoker",
            project=self._settings.project,
            location=self.location,
            name=self.name,
            role="roles/run.invoker",
            member=member,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _container(self) -> cloudrunv2.ServiceTemplateContainerArgsDict:
        settings = self._settings
        burst = settings.burst
        delay, threshold = container.probe_times(burst.wake_deadline_s)
        return {
            "name": "vllm",
            "image": burst.image,
            "commands": container.command(settings),
            "args": container.arguments(settings),
            "envs": [{"name": key, "value": value} for key, value in container.environment(settings).items()],
            "ports": {"container_port": ports.VLLM, "name": "http1"},
            "resources": {
                "limits": {"cpu": str(burst.cpu), "memory": f"{burst.memory_gib}Gi", "nvidia.com/gpu": "1"},
                # Cloud Run gives a GPU only to instances that have their CPU as long as they live.
                "cpu_idle": False,
                "startup_cpu_boost": True,
            },
            "startup_probe": {
                "http_get": {"path": container.HEALTH, "port": ports.VLLM},
                "initial_delay_seconds": delay,
                "period_seconds": container.PROBE_PERIOD_S,
                "timeout_seconds": 1,
                "failure_threshold": threshold,
            },
            "volume_mounts": [{"name": "weights", "mount_path": container.FOLDER}],
        }

    def _service(
        self,
        account: serviceaccount.Account,
        store: WeightStore,
        interface: cloudrunv2.ServiceTemplateVpcAccessNetworkInterfaceArgsDict,
    ) -> cloudrunv2.Service:
        settings = self._settings
        burst = settings.burst
        template: cloudrunv2.ServiceTemplateArgsDict = {
            "service_account": account.email,
            # GPUs and mounted buckets need it.
            "execution_environment": "EXECUTION_ENVIRONMENT_GEN2",
            "node_selector": {"accelerator": ACCELERATOR},
            # An L4 that Google keeps free in a second zone costs more; when a zone fails, the other lanes answer.
            "gpu_zonal_redundancy_disabled": True,
            # A new revision is not started to see whether it starts: while the bucket is still being filled it can't,
            # and `up` would fail. Every wake sees it anyway, by the startup probe.
            "health_check_disabled": True,
            # The bucket is read over this interface. Nothing else answers there: the engine has no way to the internet.
            "vpc_access": {"egress": "ALL_TRAFFIC", "network_interfaces": [interface]},
            "timeout": f"{settings.gateway.timeout_s}s",
            # One more for the pilot of each gateway instance: behind a full engine's callers, its look would wait at
            # Google and count as an engine that doesn't answer.
            "max_instance_request_concurrency": burst.max_requests + settings.gateway.max_instances,
            "scaling": {"min_instance_count": burst.min_instances, "max_instance_count": burst.max_instances},
            "containers": [self._container()],
            "volumes": [
                {
                    "name": "weights",
                    "gcs": {
                        "bucket": store.bucket,
                        "read_only": True,
                        "mount_options": list(container.MOUNT_OPTIONS),
                    },
                }
            ],
        }
        return cloudrunv2.Service(
            f"{self._name}-service",
            name=self._cloud_name,
            project=settings.project,
            location=settings.region,
            # Open to the network, closed by IAM: "internal" would admit the gateway only through the VPC, by private
            # DNS for all of run.app or a NAT for everything else it calls.
            ingress="INGRESS_TRAFFIC_ALL",
            invoker_iam_disabled=False,
            deletion_protection=False,
            template=template,
            opts=pulumi.ResourceOptions(parent=self, depends_on=store.grants),
        )
