"""Rules between the entries of `services`, checked before any resource exists.

Owns: the rules between the entries, and between them and `lanes`, `home` and `model`. Does not own: the type and range
of a single value (`services`), the form of a refusal (`section`).
"""

from collections import Counter
from typing import Final

from components import vllm
from components.machines.memory import GIB, VLLM_WORK_GIB
from components.paths import ROOT
from components.settings.declared_services import (
    Service,
    Total,
    cpus,
    declared,
    gpu_memory,
    memory,
    replicas,
    shown,
)
from components.settings.presets import PRESETS
from components.settings.section import EXACT_IMAGE, Lane, problem
from components.settings.stack import Settings

TAKEN: Final = ("provider", "namespace", "traefik", "time-slicing", "device-plugin", "nvidia-device-plugin")
"""Names of other things that stand beside the services."""
DECIDED: Final = frozenset({vllm.MOST_CHOICES, vllm.ANY_NAME})
"""Environment of the service on `/v1` that follows from `model` and `lanes`."""


def broken(settings: Settings) -> list[str]:
    """Every rule the services break, a `problem` line each."""
    parts = (_names, _programs, _models, _paths, _lanes, _gpu, _machine)
    return [found for part in parts for found in part(settings)]


def _names(settings: Settings) -> list[str]:
    found = [
        problem(f"services.{number}.name", f"not {service.name}, the stack has something else of that name",
                "one would be taken for the other", "name it after what it does")
        for number, service in enumerate(settings.services) if service.name in TAKEN
    ]  # fmt: skip
    for name in _twice([service.name for service in settings.services]):
        found.append(
            problem("services", f"a name stands once, {name} stands more often",
                    "one would be installed over the other", "rename one of them")
        )  # fmt: skip
    models = {name for service in declared(settings) if service.completes for name in replicas(service, settings)[1:]}
    return found + [
        problem(f"services.{number}.name", f"not {service.name}, which is the model of another machine with home.nodes "
                + f"{settings.home.nodes}", "one would be installed over the other", "rename it")
        for number, service in enumerate(settings.services) if service.name in models
    ]  # fmt: skip


def _programs(settings: Settings) -> list[str]:
    found: list[str] = []
    for number, (entry, service) in enumerate(zip(settings.services, declared(settings), strict=True)):
        field = f"services.{number}"
        if not entry.preset and not entry.image:
            found.append(
                problem(field, "a preset, or image and model", f"nothing says what {entry.name} runs",
                        f"add one of the presets ({', '.join(PRESETS)}), or an image")
            )  # fmt: skip
        elif not EXACT_IMAGE.fullmatch(service.image):
            found.append(
                problem(f"{field}.image", "a full image name with an exact version", "the next start could run a "
                        + "program nobody tested", "write it as registry.example/name:1.2.3")
            )  # fmt: skip
        if service.is_vllm and (owned := vllm.owned(entry.args or (), contract=service.completes)):
            found.append(
                problem(f"{field}.args", f"without {', '.join(owned)}, which other settings decide",
                        "the gateway or the card's sum would go by another value than vLLM", "leave it out")
            )  # fmt: skip
        if service.is_vllm and service.completes and (taken := sorted(DECIDED & set(entry.env or {}))):
            found.append(
                problem(f"{field}.env", f"without {', '.join(taken)}, which say what every lane takes",
                        "home would take or refuse requests that the other lanes don't", "leave it out")
            )  # fmt: skip
        if entry.weights and service.completes:
            found.append(
                problem(f"{field}.weights", f"unset for the service on {ROOT}", "home would serve another model than "
                        + "the other lanes, under the same name", "set `model.preset`, or `model.weights`")
            )  # fmt: skip
        elif entry.weights and not service.is_vllm:
            found.append(
                problem(f"{field}.weights", "for vLLM's image only", "nothing would read it",
                        "say it in `args` or `env` as the image wants it")
            )  # fmt: skip
        if entry.weights_bytes and (service.completes or not service.is_vllm):
            found.append(
                problem(f"{field}.weights_bytes", f"for vLLM's image on another path than {ROOT} only",
                        "nothing would read it", "leave it out; the model of every lane has `model.weights_bytes`")
            )  # fmt: skip
    return found


def _models(settings: Settings) -> list[str]:
    found: list[str] = []
    for number, (entry, service) in enumerate(zip(settings.services, declared(settings), strict=True)):
        field = f"services.{number}.model"
        if not service.model and (entry.preset or entry.image):
            found.append(
                problem(field, "a model's name", "`/v1/models` could not list it and no client could ask for it",
                        "set `model` to the name its server takes")
            )  # fmt: skip
        if service.completes and entry.model not in (None, settings.contract.model.name):
            found.append(
                problem(field, f"`model.name` ({settings.contract.model.name}) on the path {ROOT}, or nothing",
                        "home would know the model of the other lanes under another name",
                        "leave it out, and set `model.name`")
            )  # fmt: skip
    for name in _twice([service.model for service in declared(settings) if service.model]):
        found.append(
            problem("services", f"a model stands once, {name} stands more often",
                    "clients could not tell which service they ask", "give one of them another `model`")
        )  # fmt: skip
    return found


def _paths(settings: Settings) -> list[str]:
    services = declared(settings)
    found = [
        problem(f"services.{number}.paths", "at least one path under /v1", f"nobody could reach {service.name}",
                "add the path its API has, like /v1/audio")
        for number, service in enumerate(services) if not service.paths
    ]  # fmt: skip
    found += [
        problem(f"services.{number}.paths", f"{ROOT} alone for {service.name}, which answers completions on every lane",
                "its other paths would be at home only, behind limits meant for completions",
                "give them to a service of their own")
        for number, service in enumerate(services) if service.completes and len(service.paths) > 1
    ]  # fmt: skip
    for path in _twice([path for service in services for path in service.paths]):
        owners = ", ".join(service.name for service in services if path in service.paths)
        found.append(
            problem("services", f"a path stands once, {path} stands more often ({owners})",
                    "requests could not be told apart", "give one of them a longer path, or remove it")
        )  # fmt: skip
    if Lane.HOME in settings.lanes and not any(service.completes for service in services):
        found.append(
            problem("services", f"one of them answers {ROOT} while `lanes` has home", "requests for "
                    + f"{settings.contract.model.name} would go home, where nothing serves it",
                    "add `{name: vllm, preset: model}`, or leave home out of `lanes`")
        )  # fmt: skip
    return found


def _lanes(settings: Settings) -> list[str]:
    found: list[str] = []
    for number, (entry, service) in enumerate(zip(settings.services, declared(settings), strict=True)):
        if not service.completes and Lane.HOME not in settings.lanes:
            found.append(
                problem(f"services.{number}", f"home is one of `lanes` ({', '.join(settings.lanes)}), for "
                        + f"{service.name} lives at home only", f"nothing would ever answer {', '.join(service.paths)}",
                        "add home to `lanes`, or remove the service")
            )  # fmt: skip
        if service.completes and entry.max_requests is not None:
            found.append(
                problem(f"services.{number}.max_requests", f"unset for the service on {ROOT}",
                        "the lane's limit and the service's could differ", "set `home.max_requests`")
            )  # fmt: skip
    return found


def _gpu(settings: Settings) -> list[str]:
    services = declared(settings)
    found: list[str] = []
    for number, service in enumerate(services):
        field = f"services.{number}.gpu_memory"
        if service.slices and not service.gpu_memory_mib and service.image:
            found.append(
                problem(field, "set for a service with a slice", "slices don't limit memory: it would take what "
                        + "the others were promised", "say what it needs, like 4GiB, or set `slices: 0`")
            )  # fmt: skip
        if service.is_vllm and service.slices and not service.completes:
            found += _cache(number, service)
        if not service.slices and service.gpu_memory_mib:
            found.append(
                problem(field, "unset for a service without a slice", "memory would be kept for a program that never "
                        + "sees the card", "leave it out, or set `slices: 1`")
            )  # fmt: skip
    slices = sum(service.slices for service in services)
    if slices > settings.home.gpu_slices:
        found.append(
            problem("services", f"at most home.gpu_slices ({settings.home.gpu_slices}) slices, they ask for {slices}",
                    "the last of them would wait for a slice for ever", "raise home.gpu_slices or remove a service")
        )  # fmt: skip
    return found + _too_much(
        settings,
        gpu_memory(settings),
        "the engine that starts last would find no memory and never start",
        "lower a `gpu_memory`",
        "stays for driver and display",
    )


def _machine(settings: Settings) -> list[str]:
    """Home's memory and processors, where it is known what the machine has."""
    return _too_much(
        settings,
        memory(settings),
        "the pod that comes last would stay Pending, or K3s itself would run out of memory",
        "lower a `memory_gib`",
        "stay for K3s and the system",
    ) + _too_much(
        settings,
        cpus(settings),
        "the pod that comes last would stay Pending",
        "lower a `cpus`, which limits nothing",
        "stay for K3s",
    )


def _too_much(settings: Settings, total: Total, consequence: str, lower: str, reserved: str) -> list[str]:
    if Lane.HOME not in settings.lanes or not total.exceeded:
        return []
    rule = f"at most {total.setting} in all, they ask for more: {total.line}"
    fix = f"{lower}, or remove a service; {total.show(total.reserve)} {reserved}"
    return [problem("services", rule, consequence, fix)]


def _cache(number: int, service: Service) -> list[str]:
    """vLLM would measure what is left for its cache, and charge itself for all that starts beside it meanwhile."""
    if not service.weights_bytes:
        return [
            problem(f"services.{number}.weights_bytes", "set for vLLM's image with weights of your own", "its part of "
                    + f"{shown(service.gpu_memory_mib)} for the cache could not be told, and two services that start "
                    + "together would take what is the other's", "add up the sizes of the .safetensors files in "
                    + f"the repository {service.weights}")
        ]  # fmt: skip
    if service.gpu_memory_mib and service.kv_cache_bytes <= 0:
        return [
            problem(f"services.{number}.gpu_memory", f"above weights of {service.weights_bytes / GIB:.1f} GiB + "
                    + f"{VLLM_WORK_GIB:g} of work, is {shown(service.gpu_memory_mib)}", "vLLM would not start",
                    "raise it by what the cache takes")
        ]  # fmt: skip
    return []


def _twice(items: list[str]) -> list[str]:
    return sorted(item for item, count in Counter(items).items() if count > 1)
