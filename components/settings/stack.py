"""The stack's settings: every knob of pilotlight, its type, default, unit and reason.

Owns: the values, each for itself. Does not own: reading them from Pulumi's config (`config`), what they must satisfy
together (`rules`), or what is built from them.
"""

import re
from typing import Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from components.settings import rules, service_rules
from components.settings.burst import BurstSettings
from components.settings.section import Lane, Section
from components.settings.services import MODEL_NAME, Memory, ServiceSettings
from components.settings.tailnet import TailnetSettings
from components.settings.vm import VmSettings

PROJECT: Final = "pilotlight"
CLIENT_KEY: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
DNS_LABEL: Final = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
NIC: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
VIRTUAL_NIC: Final = re.compile(r"lo|tailscale\d+|tun\d+|wg\d+|cni\d+|flannel\..*|docker\d+|veth.*")


class ClientSettings(Section):
    """One caller of the API."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,29}$", description="Who calls: lower case, shown in the logs.")
    key: SecretStr | None = Field(
        default=None,
        description="The client's bearer key, as a Pulumi secret. Left out, the stack makes one (`api_keys` output).",
    )

    @field_validator("key")
    @classmethod
    def _usable_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        text = key.get_secret_value().strip()
        if not text:
            raise rules.Refusal("a key of blanks", "nobody could call with it", "leave `key` out and one is made")
        if not CLIENT_KEY.fullmatch(text):
            raise rules.Refusal(
                "a key has 16 to 128 characters of A-Z a-z 0-9 _ -",
                "it could be guessed, or not be sent as a header",
                "leave `key` out and one is made",
            )
        return SecretStr(text)


class ModelSettings(Section):
    """The model that every lane serves under one name."""

    name: str = Field(
        default="Qwen/Qwen2.5-VL-7B-Instruct",
        pattern=MODEL_NAME,
        max_length=128,
        description="The name clients send as `model`; every lane serves it.",
    )


class GatewaySettings(Section):
    """The public endpoint on Cloud Run."""

    caddy_image: str = Field(default="docker.io/library/caddy:2.11.7", description="Official Caddy image, exact.")
    tailscale_image: str = Field(
        default="docker.io/tailscale/tailscale:v1.102.5", description="Official Tailscale image, exact."
    )
    pilot_image: str = Field(
        default="docker.io/library/python:3.13.14-slim", description="Official Python image for the pilot, exact."
    )
    min_instances: int = Field(
        default=0,
        ge=0,
        description="Instances kept while nobody calls. 0 costs nothing idle; 1 removes the gateway's own start.",
    )
    max_instances: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Most instances. Capacity, waiting and lane state are per instance: 2 double them.",
    )
    concurrency: int = Field(
        default=80, ge=1, le=1000, description="Requests one instance holds, waiting ones included; the rest gets 429."
    )
    timeout_s: int = Field(default=300, ge=10, le=3600, description="Longest a request may take, seconds.")
    wait_s: int = Field(
        default=240,
        ge=1,
        description="Longest a request waits for a free lane, seconds; then 503 with Retry-After. Below `timeout_s`.",
    )
    request_limit_mib: int = Field(
        default=31,
        ge=1,
        le=31,
        description="Largest request body, MiB; larger gets 413. Cloud Run itself refuses 32 MiB, unreadably.",
    )
    replay_limit_mib: int = Field(
        default=4,
        ge=1,
        description="Bodies up to this are kept and replayed on the next lane, MiB; larger stream through once.",
    )
    memory_mib: int = Field(
        default=1024,
        ge=512,
        le=rules.CADDY_MOST_MIB,
        description="Caddy's memory, MiB: must hold concurrency x replay_limit_mib x 2.5. One CPU takes 4096 at most.",
    )


class HomeSettings(Section):
    """The GPU server at home."""

    owner: bool = Field(
        default=True,
        description="Whether this stack deploys onto the home cluster. Exactly one stack may; others only route to it.",
    )
    hostname: str = Field(
        default="home", pattern=DNS_LABEL, description="The home machine's name in the tailnet, without a domain."
    )
    nic: str | None = Field(
        default=None,
        description="Network interface whose address K3s takes. None: the one of the default route, tunnels left out.",
    )
    namespace: str = Field(
        default="pilotlight", pattern=DNS_LABEL, description="Kubernetes namespace; the stack makes and removes it."
    )
    gpu_slices: int = Field(
        default=10, ge=2, le=100, description="Time slices the one GPU is shared in; NVIDIA's plugin takes 2 at least."
    )
    gpu_memory: Memory = Field(
        default="24GiB", description="The card's memory, with unit; what the services may take adds up to it at most."
    )
    max_requests: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="Requests for `model.name` that home answers at a time; what exceeds it goes on.",
    )

    @field_validator("nic")
    @classmethod
    def _usable_nic(cls, nic: str | None) -> str | None:
        if nic is not None and not NIC.fullmatch(nic):
            raise rules.Refusal(
                "the name of a network interface: 1 to 15 characters of A-Z a-z 0-9 . _ -",
                "no machine can have it, and K3s would never get an address",
                "`ip -brief address` lists the machine's; leave `nic` out and the default route's is taken",
            )
        if nic is not None and VIRTUAL_NIC.fullmatch(nic):
            raise rules.Refusal(
                f"a NIC of the home network, {nic} is none",
                "K3s would wait at boot for an interface that comes after it, or that it makes itself",
                "name the machine's own NIC, or leave `nic` out",
            )
        return nic


class AlertSettings(Section):
    """What tells the owner before something ends or breaks."""

    email: str = Field(
        default="",
        pattern=r"^([^@\s]+@[^@\s]+\.[^@\s]+)?$",
        description="Who is told before the gateway's auth key ends. Empty: nobody.",
    )


class Settings(Section):
    """All settings of one stack."""

    stack: str = Field(
        pattern=r"^[a-z]([a-z0-9-]{0,9}[a-z0-9])?$",
        description="Pulumi stack's name, 11 characters at most: cloud names hold it and have 30 in all.",
    )
    project: str = Field(
        pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$", description="Google project's id, not its number or title."
    )
    region: str = Field(pattern=r"^[a-z]+-[a-z]+[0-9]+$", description="Google Cloud region, like us-central1.")
    clients: tuple[ClientSettings, ...] = Field(
        default=(ClientSettings(name="demo"),), description="Who may call: a list of `name` and, if wanted, `key`."
    )
    lanes: tuple[Lane, ...] = Field(
        default=(Lane.HOME, Lane.VM), description="Lanes in the order a request tries them; leave one out to stop it."
    )
    model: ModelSettings = Field(default=ModelSettings(), description="The model.")
    gateway: GatewaySettings = Field(default=GatewaySettings(), description="The public endpoint.")
    burst: BurstSettings = Field(default=BurstSettings(), description="The serverless GPU lane.")
    vm: VmSettings = Field(default=VmSettings(), description="The always-on VM lane.")
    home: HomeSettings = Field(default=HomeSettings(), description="The GPU server at home.")
    services: tuple[ServiceSettings, ...] = Field(
        default=(ServiceSettings(name="vllm", preset="qwen2.5-vl-7b"),),
        description="The AI services on the home GPU: a list of `name` and `preset`, or `image` and `model`.",
    )
    tailnet: TailnetSettings = Field(default=TailnetSettings(), description="The tailnet.")
    alerts: AlertSettings = Field(default=AlertSettings(), description="What tells the owner in time.")
    kubeconfig: SecretStr | None = Field(
        default=None, description="Kubeconfig of the home cluster, as a Pulumi secret. Missing, home waits for it."
    )

    @property
    def prefix(self) -> str:
        """Prefix of every cloud name: unique per stack, so that stacks can share a Google project."""
        return f"{PROJECT}-{self.stack}"

    @property
    def piloted(self) -> bool:
        """Whether the gateway has a pilot: burst is woken by it, and what hangs in home's tunnel freed."""
        return Lane.BURST in self.lanes or Lane.HOME in self.lanes

    @property
    def zone(self) -> str:
        """Zone of the VM lane."""
        return self.vm.zone or f"{self.region}-b"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = [*rules.broken(self), *service_rules.broken(self)]
        if found:
            raise rules.SettingsError(found)
        return self
