"""Rules between settings, checked before any resource exists.

Owns: the rules that hold between two sections, or between values of one. Does not own: the type and range of a single
value (its section), the form of a refusal (`section`), the rules of `clients`
(`client_rules`), of `model` (`model_rules`), of `services` (`service_rules`) and of `vm` (`vm_rules`), what several
instances of the gateway share (`share_rules`), a kubeconfig's text (`kubeconfig`).
"""

from typing import Final

from components.machines.requests import KIB
from components.settings import kubeconfig
from components.settings.delivery import DeliverySettings
from components.settings.gateway import CADDY_MOST_MIB
from components.settings.section import EXACT_IMAGE, Lane, problem
from components.settings.stack import Settings

BODY_COPIES: Final = 2.5
"""Memory per buffered request, in multiples of its body (measured: ten 20 MB bodies added 468 MB to Caddy)."""
CADDY_BASE_MIB: Final = 128
"""Memory Caddy needs before it buffers anything, MiB (70 MB resident under load, doubled)."""
L4_REGIONS: Final = ("asia-south1", "asia-southeast1", "europe-west1", "europe-west4", "us-central1", "us-east4")
"""Where Cloud Run has L4 GPUs (cloud.google.com/run/docs/configuring/services/gpu, copies of 2025 and 2026)."""
L4_BY_INVITATION: Final = ("asia-south1", "us-central1", "us-east4")
"""Those of them where a new project may have no quota: Google says so of asia-south1; others, in 2026, of all three."""
CPU_MOST_GIB: Final = 4
"""Memory that one CPU takes on Cloud Run, GiB."""


def broken(settings: Settings) -> list[str]:
    """Every rule the settings break, a `problem` line each."""
    parts = (_lanes, _gateway, _images, _burst, _burst_machine, _home, _tailnet, _alerts, _budget, _delivery)
    return [found for part in parts for found in part(settings)]


def _lanes(settings: Settings) -> list[str]:
    if not settings.lanes:
        return [problem("lanes", "at least one lane", "every request would end in 503", "set `[home, vm]`")]
    if len(set(settings.lanes)) < len(settings.lanes):
        return [problem("lanes", "a lane stands once", "its capacity would be counted twice", "remove the repeat")]
    return []


def _gateway(settings: Settings) -> list[str]:
    found: list[str] = []
    gateway = settings.gateway
    needed = int(gateway.concurrency * gateway.replay_limit_mib * BODY_COPIES) + CADDY_BASE_MIB
    if gateway.memory_mib < needed:
        found.append(
            problem("gateway.memory_mib",
                    f"at least concurrency x replay_limit_mib x {BODY_COPIES} + {CADDY_BASE_MIB} = {needed} MiB, "
                    + f"is {gateway.memory_mib}",
                    "buffered bodies would exhaust the instance and end every request on it",
                    (f"set memory_mib to {needed}, or " if needed <= CADDY_MOST_MIB else "")
                    + "lower concurrency or replay_limit_mib")
        )  # fmt: skip
    if gateway.replay_limit_mib > gateway.request_limit_mib:
        found.append(
            problem("gateway.replay_limit_mib", "at most request_limit_mib", "memory is set aside for bodies that "
                    + "are refused anyway", "lower it")
        )  # fmt: skip
    borders = settings.borders
    if borders.text_kib > gateway.replay_limit_mib * KIB:
        found.append(
            problem("gateway.text_kib", f"at most replay_limit_mib ({gateway.replay_limit_mib} MiB), is "
                    + f"{borders.text_kib} KiB", "a text could be too large to be repeated on the next lane",
                    "lower text_kib or raise replay_limit_mib")
        )  # fmt: skip
    if borders.short_kib >= borders.text_kib:
        found.append(
            problem("gateway.short_kib", f"below text_kib ({borders.text_kib}), is {borders.short_kib}",
                    "no text would be long, and long ones would be sent where only short ones are answered in time",
                    "lower short_kib or raise text_kib; left out, both follow from the table of machines")
        )  # fmt: skip
    if settings.wait_s >= gateway.timeout_s:
        found.append(
            problem("gateway.wait_s", f"below timeout_s ({gateway.timeout_s})", "Cloud Run would cut a waiting "
                    + "caller off before the gateway can answer 503", "lower wait_s or raise timeout_s")
        )  # fmt: skip
    if gateway.min_instances > gateway.max_instances:
        found.append(
            problem("gateway.min_instances", f"at most max_instances ({gateway.max_instances})",
                    "Cloud Run refuses the service", "raise max_instances or lower min_instances")
        )  # fmt: skip
    return found


def _images(settings: Settings) -> list[str]:
    images = {
        "gateway.caddy_image": settings.gateway.caddy_image,
        "gateway.tailscale_image": settings.gateway.tailscale_image,
        "gateway.pilot_image": settings.gateway.pilot_image,
        "burst.image": settings.burst.image,
        "burst.fetch_image": settings.burst.fetch_image,
        "vm.image": settings.vm.server_image,
    }
    return [
        problem(field, "a full image name with an exact version", "the next start could run a program nobody tested",
                "write it as registry.example/name:1.2.3")
        for field, image in images.items()
        if not EXACT_IMAGE.fullmatch(image)
    ]  # fmt: skip


def _burst(settings: Settings) -> list[str]:
    found: list[str] = []
    burst = settings.burst
    if burst.idle_s <= burst.wake_deadline_s:
        found.append(
            problem("burst.idle_s", f"above wake_deadline_s ({burst.wake_deadline_s})", "the lane could be cold again "
                    + "before a request that waited for its start is answered", "raise idle_s or lower wake_deadline_s")
        )  # fmt: skip
    if burst.recovered_s >= burst.slow_s:
        found.append(
            problem("burst.recovered_s", f"below slow_s ({burst.slow_s:g})", "the lane would be slow and recovered at "
                    + "once, and change with every request", "lower recovered_s or raise slow_s")
        )  # fmt: skip
    return found


def _burst_machine(settings: Settings) -> list[str]:
    found: list[str] = []
    burst = settings.burst
    if Lane.BURST in settings.lanes and settings.region not in L4_REGIONS:
        found.append(
            problem("gcp:region", f"one with L4 GPUs on Cloud Run ({', '.join(L4_REGIONS)}) while `lanes` has burst, "
                    + f"{settings.region} has none", "Google Cloud would refuse the service half-way",
                    "choose one of them, or leave burst out of `lanes`")
        )  # fmt: skip
    if burst.min_instances > burst.max_instances:
        found.append(
            problem("burst.min_instances", f"at most max_instances ({burst.max_instances})",
                    "Cloud Run refuses the service", "raise max_instances or lower min_instances")
        )  # fmt: skip
    if burst.memory_gib > CPU_MOST_GIB * burst.cpu:
        found.append(
            problem("burst.memory_gib", f"at most {CPU_MOST_GIB} for each of the {burst.cpu} CPUs",
                    "Cloud Run refuses the service", "raise cpu or lower memory_gib")
        )  # fmt: skip
    return found


def _home(settings: Settings) -> list[str]:
    found: list[str] = []
    if settings.home.nodes > 1 and Lane.HOME not in settings.lanes:
        found.append(
            problem("home.nodes", f"1 while `lanes` has no home, is {settings.home.nodes}", "the models on all these "
                    + "machines would get no request", "add home to `lanes`, or leave `nodes` out")
        )  # fmt: skip
    if settings.home.namespace == "default" or settings.home.namespace.startswith("kube-"):
        found.append(
            problem("home.namespace", "the stack's own, not one of the cluster's", "destroying the stack would destroy "
                    + "what else lives in it", "leave it out, or name another")
        )  # fmt: skip
    if settings.kubeconfig is not None:
        found += _kubeconfig(settings.kubeconfig.get_secret_value(), owner=settings.home.owner)
    return found


def _kubeconfig(text: str, *, owner: bool) -> list[str]:
    if not owner:
        return [
            problem("kubeconfig", "only for the stack with `home.owner: true`", "two stacks would deploy onto one "
                    + "cluster and undo each other", "remove it here, or make this stack the owner")
        ]  # fmt: skip
    rule = kubeconfig.fault(text)
    fix = "pulumi config set --secret kubeconfig < kubeconfig.yaml"
    return [problem("kubeconfig", rule, "home could not be reached", fix)] if rule else []


def _tailnet(settings: Settings) -> list[str]:
    tailnet = settings.tailnet
    given = {"policy_file": bool(tailnet.policy_file), "reset_policy_on_destroy": tailnet.reset_policy_on_destroy}
    return [
        problem(f"tailnet.{name}", "only for the stack with `tailnet.policy_owner: true`",
                "it would be ignored: another stack registers the policy", "set it there, not here")
        for name, is_given in given.items() if is_given and not tailnet.policy_owner
    ]  # fmt: skip


def _alerts(settings: Settings) -> list[str]:
    if settings.alerts.uptime_check and not settings.alerts.email:
        return [
            problem("alerts.uptime_check", "wants `alerts.email`", "the gateway would be kept awake, and nobody told "
                    + "when it is away", "set the address, or leave `uptime_check` out")
        ]  # fmt: skip
    return []


def _budget(settings: Settings) -> list[str]:
    budget = settings.budget
    if budget.per_month and not budget.billing_account:
        return [
            problem("budget.billing_account", "required while `budget.per_month` is set", "no budget could be made: "
                    + "Google keeps it with the account that pays", "set the account that `gcloud billing projects "
                    + f"describe {settings.project}` names, or leave `budget` out")
        ]  # fmt: skip
    if budget.billing_account and not budget.per_month:
        return [
            problem("budget.per_month", "required while `budget.billing_account` is set", "there would be no budget, "
                    + "and nobody told", "set a month's amount, or leave `budget` out")
        ]  # fmt: skip
    return []


def _delivery(settings: Settings) -> list[str]:
    default = DeliverySettings()
    return [
        problem(f"delivery.{name}", "only for the stack with `delivery.owner: true`",
                "it would be ignored: another stack lets the workflows in", "set it there, not here")
        for name in ("repository_id", "branch", "environments")
        if not settings.delivery.owner and getattr(settings.delivery, name) != getattr(default, name)
    ]  # fmt: skip
