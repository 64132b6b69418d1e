"""The steps that a user still has to take by hand, as the stack's `next_steps` output. Pure."""

from typing import Final

from components import ports
from components.home.bootstrap import JOIN
from components.home.certificate import FETCH, HAND_OVER
from components.settings import Lane, Settings
from components.settings.client_keys import in_grace
from components.settings.rules import L4_BY_INVITATION
from components.settings.tailnet import Join
from components.tailnet.tailnet import LAST_PART

BETWEEN_MACHINES: Final = (
    f"tag:home reach tag:home:{ports.KUBERNETES} and {ports.KUBELET} over TCP, and {ports.FLANNEL} over UDP"
)


def lines(settings: Settings) -> list[str]:
    """One instruction a line, in order; empty when nothing is left to do."""
    steps: list[str] = []
    if Lane.HOME in settings.lanes and settings.home.owner and settings.kubeconfig is None:
        steps += [
            "Home is not deployed yet: the stack has no kubeconfig. "
            + ("The other lanes serve meanwhile." if len(settings.lanes) > 1 else "Nothing serves until then."),
            "On the GPU server, Debian or Ubuntu with NVIDIA's driver, run one script; it joins the tailnet as "
            + f"`{settings.home.hostname}`, and prints the kubeconfig: {FETCH}.",
            f"Hand it to the stack: {HAND_OVER}, "
            + f"then `pulumi up` from a machine that reaches `{settings.home.hostname}` over the tailnet.",
        ]
    if Lane.HOME in settings.lanes and settings.home.owner and settings.home.nodes > 1:
        further = [f"`{settings.home.hostname}-{number}`" for number in settings.home.further]
        steps.append(
            f"Whether {', '.join(further)} {'has' if len(further) == 1 else 'have'} joined home isn't known here; "
            + f"`k3s kubectl get nodes` on `{settings.home.hostname}` shows it. After the script has run there, with "
            + f"this number of machines, each joins once: {JOIN}."
        )
    if Lane.HOME in settings.lanes and not settings.home.owner:
        steps.append("Home is deployed by another stack (`home.owner: false`); this one only routes to it.")
    if Lane.HOME in settings.lanes and not settings.tailnet.policy_owner:
        steps.append(
            "The tailnet's policy belongs to another stack or to you (`tailnet.policy_owner: false`): "
            + "it must own tag:gateway and tag:home, and let tag:gateway reach tag:home:80"
            + (f", and {BETWEEN_MACHINES}." if settings.home.nodes > 1 else ".")
        )
    if Lane.HOME in settings.lanes and settings.tailnet.join is Join.AUTH_KEY and not settings.alerts.email:
        days = settings.tailnet.key_expiry_days / LAST_PART
        steps.append(
            "Nobody is told before the gateway's auth key ends (`pulumi stack output gateway_key_expires`): set "
            + f"`alerts.email`, or run `pulumi up` in its last {days:g} days, which renews it; or set "
            + "`tailnet.join: federated`."
        )
    if Lane.BURST in settings.lanes:
        weights_job = f"{settings.prefix}-weights --region={settings.region} --project={settings.project}"
        steps += [
            f"Burst needs Cloud Run quota for L4 GPUs without zonal redundancy in {settings.region} "
            + "(`NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion`; others report that a deployment asks for three "
            + "per instance): see and request it at https://g.co/cloudrun/gpu-quota. Without it, `pulumi up` fails."
            + (
                f" In {', '.join(L4_BY_INVITATION)}, new projects may have none; europe-west1 and europe-west4 give it "
                + "more readily."
                if settings.region in L4_BY_INVITATION
                else ""
            ),
            "Burst stays cold until its weights are in the bucket, which takes minutes after the first `pulumi up`: "
            + f"`gcloud run jobs executions list --job={weights_job}`. "
            + f"If it failed, start it again: `gcloud run jobs execute {weights_job}`.",
        ]
    if Lane.VM in settings.lanes and settings.vm.gpu:
        regional = f"{'PREEMPTIBLE_' if settings.vm_spot else ''}NVIDIA_{settings.vm.gpu.upper()}_GPUS"
        cards = max(settings.vm.replicas, settings.vm.max_replicas or 1)
        steps.append(
            f"The VM's card needs quota, {cards} of each: `GPUS_ALL_REGIONS`, which is 0 in a new project, and "
            + f"`{regional}` in {settings.region}: see and request it at "
            + f"https://console.cloud.google.com/iam-admin/quotas?project={settings.project}. Without it, the machine "
            + "is not made; once it is granted, `pulumi up` makes it."
        )
    for key in in_grace(settings):
        steps.append(
            f"{key.client} has a new key, and its old one gets 401 from {key.ends} on: hand the new one over (`pulumi "
            + "stack output client_env --json --show-secrets`). After that, `pulumi up` takes the old one out."
        )
    for number, old in enumerate(settings.old_keys):
        if old.until <= settings.now:
            steps.append(f"old_keys.{number} of {old.client} has ended and changes nothing any more: remove it.")
    if not settings.budget.per_month:
        steps.append(
            "Nobody is told what the project costs: set `budget.per_month`, and `budget.billing_account` to the one "
            + f"that `gcloud billing projects describe {settings.project}` names. Budgets send mails and stop nothing."
        )
    return steps
