"""The AI services as declared: each entry of `services` with everything that its preset adds. Pure.

Owns: the complete value of an entry, which service answers for the model of every lane, what all of them answer, and
the sums on the one GPU and on its machine.
Does not own: the rules (`service_rules`), the chart's values (`home.chart`), the routes (`gateway.caddy`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from components import vllm
from components.machines.memory import vllm_cache_bytes, vllm_host_gib, vllm_share_gib
from components.paths import ANSWERS, RESPONSES, ROOT
from components.settings.presets import PRESETS, Preset
from components.settings.section import Lane, mib
from components.settings.services import ServiceSettings
from components.settings.stack import Settings

RESERVE_MIB: Final = 1024
"""Kept free on the card, MiB: driver, display, and what each process takes beside what it counts itself."""
HOST_RESERVE_MIB: Final = 2560
"""Kept free of the machine's memory, MiB. 460 are asked for by other pods: coredns and metrics-server 70 each (K3s'
manifests/), Node Feature Discovery's master and gc 128 each, its worker 64 (its chart's values, 0.19.0); Traefik, the
local-path provisioner and NVIDIA's plugin ask for nothing. 1,600 are K3s' own (docs.k3s.io, "Resource Profiling", a
server with a workload), 500 the system's and Tailscale's (estimated). Kubernetes counts the 460 alone: K3s keeps
nothing for itself, and evicts nobody for memory (its pkg/daemons/agent/agent.go has thresholds for disks only)."""
HOST_RESERVE_MILLICORES: Final = 400
"""Of its processors: 315 that the same pods ask for (100 each; worker 5, gc 10), the rest for K3s (6 % of a core)."""
_UNSAID: Final = Preset(
    image="", paths=(), gpu_memory="", cpus=1, memory_gib=4, max_requests=16, cache_gib=20, uid=1000, port=8000,
    health="/health",
)  # fmt: skip


@dataclass(frozen=True)
class Service:
    """One service, with nothing left open."""

    name: str
    image: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    model: str
    weights: str
    weights_bytes: int
    """vLLM's; 0: not known."""
    paths: tuple[str, ...]
    slices: int
    gpu_memory_mib: int
    millicores: int
    """Thousandths of a processor that are kept for it."""
    memory_gib: int
    """Of the machine: kept for it, and its limit."""
    max_requests: int
    cache_gib: int
    port: int
    health: str
    uid: int

    @property
    def completes(self) -> bool:
        """Whether it answers completions with the model that every lane has."""
        return ROOT in self.paths

    @property
    def kv_cache_bytes(self) -> int:
        """What its share of the card leaves vLLM for keys and values."""
        return vllm_cache_bytes(self.gpu_memory_mib, self.weights_bytes)

    @property
    def is_vllm(self) -> bool:
        """Whether its image is vLLM's own."""
        return _is_vllm(self.image)


def _is_vllm(image: str) -> bool:
    return image.partition(":")[0] == vllm.REPOSITORY


def declared(settings: Settings) -> tuple[Service, ...]:
    """Every service, in the order of the settings, which must be consistent."""
    return tuple(resolved(entry, settings) for entry in settings.services)


def replicas(service: Service, settings: Settings) -> tuple[str, ...]:
    """Names of the service's pods, as Kubernetes has them: the model has one on each machine, all else one in all."""
    further = settings.home.further if service.completes else ()
    return (service.name, *(f"{service.name}-{number}" for number in further))


def at_home_only(settings: Settings) -> tuple[Service, ...]:
    """The services that no other lane has, the longest path first."""
    found = [service for service in declared(settings) if not service.completes]
    return tuple(sorted(found, key=lambda service: -max(map(len, service.paths), default=0)))


def answered(settings: Settings) -> tuple[str, ...]:
    """What every lane answers with the model, and so what callers may ask.

    Responses come from vLLM alone: the stock SDK can't read the events of llama.cpp's (tests/contract/differences.py).
    """
    others = Lane.VM in settings.lanes or any(each.completes and not each.is_vllm for each in declared(settings))
    return tuple(path for path in ANSWERS if path != RESPONSES or not others)


def resolved(entry: ServiceSettings, settings: Settings) -> Service:
    """One entry with its preset's values; what neither says is empty, and the rules refuse it."""
    preset = PRESETS[entry.preset] if entry.preset else _UNSAID
    paths = preset.paths if entry.paths is None else entry.paths
    completes = ROOT in paths
    contract = settings.contract
    model = contract.model.name if completes else entry.model or preset.model or ""
    slices = 1 if entry.slices is None else entry.slices
    is_vllm = _is_vllm(entry.image or preset.image)
    # Own images on the path serve the model in their own way.
    serves = completes and is_vllm
    memory = entry.gpu_memory or (preset.gpu_memory if slices else "")
    if serves and slices and not memory:
        memory = f"{ceil(vllm_share_gib(contract.model, contract.context_tokens))}GiB"
    return Service(
        name=entry.name,
        image=entry.image or preset.image,
        args=(*preset.args, *(vllm.model(contract, revision=True) if serves else ()), *(entry.args or ())),
        env={**preset.env, **(vllm.environment(contract) if serves else {}), **(entry.env or {})},
        model=model,
        weights=contract.model.weights if serves else entry.weights or preset.weights or model,
        weights_bytes=_weights_bytes(entry, preset, contract.model.weights_bytes if serves else 0),
        paths=paths,
        slices=slices,
        gpu_memory_mib=mib(memory) if memory else 0,
        millicores=round(1000 * (entry.cpus or preset.cpus)),
        memory_gib=entry.memory_gib
        or _memory_gib(entry, preset, pictures=not completes or contract.model.vision is not None),
        max_requests=settings.home.max_requests if completes else entry.max_requests or preset.max_requests,
        cache_gib=preset.cache_gib if entry.cache_gib is None else entry.cache_gib,
        port=entry.port or preset.port,
        health=entry.health or preset.health,
        uid=(2000 if is_vllm and not entry.preset else preset.uid) if entry.uid is None else entry.uid,
    )


def _weights_bytes(entry: ServiceSettings, preset: Preset, of_the_model: int) -> int:
    """Other weights than the preset's have another size."""
    return of_the_model or entry.weights_bytes or (0 if entry.weights or entry.model else preset.weights_bytes)


def _memory_gib(entry: ServiceSettings, preset: Preset, *, pictures: bool) -> int:
    """Of the machine, where the entry doesn't say. `pictures`: vLLM may be sent some."""
    unknown = _is_vllm(entry.image or "") and not entry.preset
    return (0 if unknown else preset.memory_gib) or ceil(vllm_host_gib(pictures=pictures))


def utilization(service: Service, settings: Settings) -> float:
    """The service's share of the card, as vLLM wants it: rounded down, so that shares never add up to more."""
    return int(1000 * service.gpu_memory_mib / mib(settings.home.gpu_memory)) / 1000


@dataclass(frozen=True)
class Total:
    """What the services take of one thing at home: MiB of memory, or thousandths of a processor."""

    shares: Mapping[str, int]
    reserve: int
    whole: int | None
    """What there is; None where the setting is not set."""
    setting: str
    show: Callable[[int], str]

    @property
    def taken(self) -> int:
        """With what is kept free."""
        return self.reserve + sum(self.shares.values())

    @property
    def exceeded(self) -> bool:
        """Whether more is taken than there is, where that is known."""
        return self.whole is not None and self.taken > self.whole

    @property
    def line(self) -> str:
        """What is taken, by whom, and what is left."""
        parts = [f"{name} {self.show(share)}" for name, share in self.shares.items()]
        line = f"{' + '.join([*parts, f'{self.show(self.reserve)} reserve'])} = {self.show(self.taken)}"
        if self.whole is None:
            return f"{line}, not checked: {self.setting} is not set"
        left = self.show(abs(self.whole - self.taken))
        return f"{line} of {self.show(self.whole)}, {left} {'too much' if self.exceeded else 'free'}"


def gpu_memory(settings: Settings) -> Total:
    """Of the card's memory."""
    shares = {one.name: one.gpu_memory_mib for one in declared(settings) if one.slices or one.gpu_memory_mib}
    return Total(shares, RESERVE_MIB, mib(settings.home.gpu_memory), "home.gpu_memory", shown)


def memory(settings: Settings) -> Total:
    """Of the machine's memory."""
    shares = {service.name: service.memory_gib * 1024 for service in declared(settings)}
    whole = settings.home.memory_gib
    return Total(shares, HOST_RESERVE_MIB, whole and whole * 1024, "home.memory_gib", shown)


def cpus(settings: Settings) -> Total:
    """Of the machine's processors."""
    shares = {service.name: service.millicores for service in declared(settings)}
    whole = settings.home.cpus
    return Total(
        shares, HOST_RESERVE_MILLICORES, whole and whole * 1000, "home.cpus", lambda amount: f"{amount / 1000:g}"
    )


def shown(memory_mib: int) -> str:
    """MiB as a person writes it."""
    return f"{memory_mib / 1024:g} GiB" if memory_mib % 256 == 0 else f"{memory_mib} MiB"
