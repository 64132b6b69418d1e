"""The stack's share of the home cluster: GPU slices, Traefik's timeouts, and the AI services.

Owns: the services' namespace and the plugin's with all that is in them, and the one HelmChartConfig of K3s' Traefik.
Does not own: the machine, its driver, K3s and the tailnet (`bootstrap`), what a namespace refuses (`pod_security`),
which requests come home (`gateway`). Exactly one stack deploys onto a home.
"""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pulumi
import pulumi_kubernetes as k8s

from components.home import certificate, pod_security
from components.home.chart import values
from components.home.gpu import (
    CONFIG_NAME,
    PLUGIN_CHART,
    PLUGIN_NAMESPACE,
    PLUGIN_REPOSITORY,
    PLUGIN_VERSION,
    device_plugin_values,
    time_slicing,
)
from components.home.traefik import traefik_values
from components.settings import Settings
from components.settings.declared_services import declared

SERVICE_CHART: Final = "./charts/ai-service"
"""Path of the chart from the project's folder, where Pulumi runs providers."""
_ROOT: Final = Path(__file__).resolve().parents[2]
_HELM_TIMEOUT_S: Final = 300
"""For one call to Kubernetes; not for the rollout, which is not awaited."""
_ANSWER_S: Final = 10
"""For one answer of home's Kubernetes API. By default each of the provider's tries lasts until the connection is given
up, 30 s: an `up` with home off stood still for 280 s."""
_TIDY_S: Final = 300
"""For what Kubernetes removes of a namespace after its last pod: volumes with tens of gigabytes."""


def chart_digest(chart: Path) -> str:
    """SHA-256 over the chart's files: Helm compares versions only and would miss an edited template."""
    digest = hashlib.sha256()
    for path in sorted(p for p in chart.rglob("*") if p.is_file() and "ci" not in p.relative_to(chart).parts[:1]):
        digest.update(f"{path.relative_to(chart).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def gone_s(drain_s: int) -> int:
    """How long Kubernetes may take to remove the namespace, seconds, whose pods finish requests of `drain_s`.

    A pod's grace is a little longer (charts/ai-service). Kubernetes looks again after half the longest grace that it
    finds (its namespace controller), so a pod that needs all of it is noticed after one and a half.
    """
    return 2 * drain_s + _TIDY_S


class Home(pulumi.ComponentResource):
    """What runs on the GPU server at home.

    A home that is switched off doesn't stop the rest of the stack. What is there already is left as it is, with a
    warning, and no rollout is awaited. A new or removed service fails, after the whole cloud has changed: home waits
    for the gateway. It doesn't depend on it, or `destroy` would keep the gateway as long as it can't remove home.
    What can't be removed stays in the state, so that the next `destroy` removes it and the next `up` finds it.
    Whether home answers is the gateway's to see, every second, not a deployment's.

    A home that refuses the kubeconfig's certificate isn't off, and doesn't become another one by waiting: any change
    there fails.
    """

    namespace: pulumi.Output[str]
    """Namespace of the services."""
    services: pulumi.Output[list[str]]
    """Names of the AI services, which are also their Deployments' and Services' names."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        kubeconfig: pulumi.Input[str],
        after: pulumi.Output[Any],
        now: datetime,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pilotlight:home:Home", name, None, opts)
        home = settings.home
        life = settings.home_certificate
        if warning := certificate.told(life, now):
            pulumi.log.warn(warning, self)

        provider = k8s.Provider(
            f"{name}-provider",
            kubeconfig=pulumi.Output.secret(_after(after, pulumi.Output.from_input(kubeconfig))),
            # Home may be off: its resources are then left as they are, and preview passes (not with helm.v4.Chart).
            # Not delete_unreachable: it forgets what still runs there, and of all things keeps the releases. The way
            # out for a machine that is gone for good is `pulumi state delete` (docs/operate.md, "While home is off").
            skip_update_unreachable=life is None or life.holds(now),
            kube_client_settings=k8s.KubeClientSettingsArgs(timeout=_ANSWER_S),
            # The kubeconfig's address and certificates change, the cluster doesn't: without a fixed identity Pulumi may
            # take it for another one and replace every service.
            cluster_identifier=name,
            # A changed slice count edits the ConfigMap in place; Pulumi would delete it under the running plugin.
            enable_config_map_mutable=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        namespace = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=home.namespace, labels=pod_security.services(settings)),
            opts=pulumi.ResourceOptions(
                parent=self,
                provider=provider,
                custom_timeouts=pulumi.CustomTimeouts(delete=f"{gone_s(settings.gateway.timeout_s)}s"),
            ),
        )
        k8s.apiextensions.CustomResource(
            f"{name}-traefik",
            api_version="helm.cattle.io/v1",
            kind="HelmChartConfig",
            # K3s merges the one of this name into its own chart of this name, in this namespace only.
            metadata=k8s.meta.v1.ObjectMetaArgs(name="traefik", namespace="kube-system"),
            spec={"valuesContent": traefik_values(settings.gateway.timeout_s, nodes=home.nodes)},
            opts=self._child(provider),
        )

        gpu_namespace = PLUGIN_NAMESPACE.format(home.namespace)
        plugins = k8s.core.v1.Namespace(
            f"{name}-gpu-namespace",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=gpu_namespace, labels=pod_security.plugin()),
            opts=self._child(provider),
        )
        slicing = time_slicing(home.gpu_slices)
        config = k8s.core.v1.ConfigMap(
            f"{name}-time-slicing",
            metadata=k8s.meta.v1.ObjectMetaArgs(name="gpu-time-slicing", namespace=gpu_namespace),
            data={CONFIG_NAME: slicing},
            opts=self._child(provider, plugins),
        )
        device_plugin = self._release(
            f"{name}-device-plugin",
            "nvidia-device-plugin",
            namespace=gpu_namespace,
            chart=PLUGIN_CHART,
            version=PLUGIN_VERSION,
            repository=PLUGIN_REPOSITORY,
            values=device_plugin_values("gpu-time-slicing", slicing),
            # In another namespace it is another release, and its roles of the whole cluster belong to the one before.
            opts=pulumi.ResourceOptions.merge(
                self._child(provider, plugins, config), pulumi.ResourceOptions(delete_before_replace=True)
            ),
        )

        digest = chart_digest(_ROOT / SERVICE_CHART)
        releases = {
            service.name: self._release(
                f"{name}-{service.name}",
                service.name,
                namespace=home.namespace,
                chart=SERVICE_CHART,
                description=f"charts/ai-service sha256:{digest}",
                values=values(service, settings),
                opts=self._child(provider, namespace, device_plugin),
            )
            for service in declared(settings)
        }

        self.namespace = namespace.metadata.apply(lambda metadata: metadata.name or home.namespace)
        self.services = pulumi.Output.all(*(release.name for release in releases.values())).apply(list)
        self.register_outputs({"namespace": self.namespace, "services": self.services})

    def _child(self, provider: k8s.Provider, *after: pulumi.Resource) -> pulumi.ResourceOptions:
        # Nothing is `deleted_with` the namespace: with home off, `destroy` would forget the releases, keep the
        # namespace, and the next `up` would fail on names that are still in use.
        return pulumi.ResourceOptions(parent=self, provider=provider, depends_on=list(after))

    def _release(
        self,
        resource_name: str,
        release: str,
        *,
        namespace: str,
        chart: str,
        values: dict[str, Any],
        opts: pulumi.ResourceOptions,
        version: str | None = None,
        repository: str | None = None,
        description: str | None = None,
    ) -> k8s.helm.v3.Release:
        return k8s.helm.v3.Release(
            resource_name,
            # Explicit: Pulumi would add a random suffix, and the release's name is the Service's name.
            name=release,
            namespace=namespace,
            chart=chart,
            version=version,
            repository_opts=k8s.helm.v3.RepositoryOptsArgs(repo=repository) if repository else None,
            description=description,
            values=values,
            # A first start downloads gigabytes and may take half an hour: `up` would stand there, then call the release
            # failed. Its readiness shows at the endpoint.
            skip_await=True,
            # `atomic` would await the rollout and remove a first release that is merely slow.
            atomic=False,
            timeout=_HELM_TIMEOUT_S,
            opts=opts,
        )


def _after(before: pulumi.Output[Any], text: pulumi.Output[str]) -> pulumi.Output[str]:
    """The text, as soon as `before` is there; that it waited is no dependency."""

    async def wait() -> None:
        await before.future()

    return pulumi.Output.from_input(wait()).apply(lambda _: text)
