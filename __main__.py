"""pilotlight, as one stack: settings in, an OpenAI-compatible endpoint out.

One stack because its parts name each other: the gateway's configuration holds the VM's address, the home machine's
auth key comes from the same tailnet policy that lets the gateway in, and the keys are handed to both ends. Split, each
would be exported, stored and drift. It reads in the order data flows: keys and network, lanes, gateway, home, outputs.
"""

import pulumi

from components import next_steps, place
from components.budget import Budget
from components.burst.service import Burst
from components.clients import Clients
from components.delivery.delivery import Delivery
from components.gateway.caddy import config as caddy_config
from components.gateway.service import Gateway
from components.google_apis import GoogleApis
from components.home import Home, bootstrap
from components.network import Network
from components.observability import Alerts, Observability
from components.settings import Lane, client_keys, declared_services, reading, siblings
from components.tailnet import Tailnet, require_mergeable
from components.vm.machine import Vm

settings = reading.read_stack(caddy_config.require_fits, require_mergeable, siblings.require_sole_owner)

apis = GoogleApis("apis", settings, opts=pulumi.ResourceOptions(depends_on=place.kept("place", settings)))
after_apis = pulumi.ResourceOptions(depends_on=[apis])
clients = Clients("clients", settings)

network = Network("network", settings, opts=after_apis)
# What costs money comes after the network, so that it is gone when `destroy` ends at a subnet that Cloud Run holds.
after_network = pulumi.ResourceOptions(depends_on=[network])

vm = tailnet = burst = alerts = delivery = None
if Lane.VM in settings.lanes:
    vm = Vm("vm", settings, network=network.id, subnet=network.vm_subnet, opts=after_network)
if Lane.HOME in settings.lanes:
    tailnet = Tailnet("tailnet", settings, now=settings.now)
if Lane.BURST in settings.lanes:
    burst = Burst("burst", settings, network=network.burst_id, subnet=network.burst_subnet, opts=after_network)

gateway = Gateway(
    "gateway",
    settings,
    client_keys=clients.keys,
    vm_address=vm.address if vm else None,
    network=network,
    tailnet=tailnet,
    burst=burst,
    opts=after_network,
)
if tailnet and settings.home.owner and settings.kubeconfig:
    Home("home", settings, kubeconfig=settings.kubeconfig.get_secret_value(), after=gateway.url, now=settings.now)
Observability("observability", settings, opts=after_network)
if settings.alerts.email:
    alerts = Alerts("alerts", settings, tailnet=tailnet, url=gateway.url, opts=after_network)
if settings.budget.per_month:
    Budget("budget", settings, channel=alerts.channel if alerts else None, after=apis, opts=after_network)
if settings.delivery.repository:
    accounts = {"gateway": gateway.account, **({"vm": vm.account} if vm else {}), **(burst.accounts if burst else {})}
    delivery = Delivery("delivery", settings, accounts=accounts, opts=after_apis)

pulumi.export("base_url", gateway.url.apply(lambda url: f"{url}/v1"))
pulumi.export("model", settings.contract.model.name)
pulumi.export("api_keys", pulumi.Output.secret(pulumi.Output.all(**clients.current)))
pulumi.export("client_env", clients.env(gateway.url, settings.contract.model.name))
pulumi.export("keys_in_grace", client_keys.told(settings) or None)
pulumi.export("gpu_memory", declared_services.gpu_memory(settings).line if tailnet else None)
pulumi.export("home_memory", declared_services.memory(settings).line if tailnet else None)
pulumi.export("home_cpus", declared_services.cpus(settings).line if tailnet else None)
pulumi.export("home_auth_key", tailnet.home_key if tailnet else None)
pulumi.export("gateway_key_expires", tailnet.gateway_key_expires if tailnet else None)
pulumi.export("kubeconfig_expires", settings.home_certificate.expires if settings.home_certificate else None)
pulumi.export("policy_before", tailnet.policy_before if tailnet else None)
pulumi.export("ci_tailnet", tailnet.ci if tailnet else None)
pulumi.export("delivery", delivery.variables if delivery else None)
pulumi.export("home_bootstrap", bootstrap.output(settings, tailnet.home_key, tailnet.node_keys) if tailnet else None)
pulumi.export("next_steps", next_steps.lines(settings))
