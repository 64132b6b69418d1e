"""The settings of the GPU server at home.

Owns: the values, each for itself. Does not own: the rules between them (`rules`), the services (`services`), what is
built from them (`home`).
"""

import re
from typing import Final

from pydantic import Field, field_validator

from components.machines.speeds import CARDS
from components.settings.section import Memory, Refusal, Section

DNS_LABEL: Final = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
NAMESPACE: Final = r"^[a-z]([a-z0-9-]{0,57}[a-z0-9])?$"
"""Leaves room for the `-gpu` of a second one."""
NIC: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
VIRTUAL_NIC: Final = re.compile(r"lo|tailscale\d+|tun\d+|wg\d+|cni\d+|flannel\..*|docker\d+|veth.*")


class HomeSettings(Section):
    """The GPU server at home."""

    owner: bool = Field(
        default=True,
        description="Whether this stack deploys onto the home cluster. Exactly one stack may; the "
        + "others only route to it.",
    )
    hostname: str = Field(
        default="home", pattern=DNS_LABEL, description="The home machine's name in the tailnet, without a domain."
    )
    nic: str | None = Field(
        default=None,
        description="Network interface whose address K3s takes. None: the default route's, tunnels left out. "
        + "With several `nodes` it is the tailnet's.",
    )
    namespace: str = Field(
        default="pilotlight",
        pattern=NAMESPACE,
        description="Kubernetes namespace of the services, with `<namespace>-gpu` beside it for NVIDIA's plugin; the "
        + "stack makes and removes both.",
    )
    gpu: str = Field(
        default="rtx-3090",
        description="The card, as `components/machines/speeds.py` names it: the pilot's estimates and the lab's "
        + "stand-ins take its speed from there.",
    )
    gpu_slices: int = Field(
        default=10, ge=2, le=100, description="Time slices of the one GPU; NVIDIA's plugin takes 2 at least."
    )
    gpu_memory: Memory = Field(
        default="24GiB", description="The card's memory, with unit: the upper limit of the services' sum."
    )
    nodes: int = Field(
        default=1,
        ge=1,
        le=8,
        description="Machines at home, each with such a card: one model runs on each. The first is K3s' server, which "
        + "the gateway reaches; the others are its agents. Limits of memory and processors are those of one machine.",
    )
    cpus: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="The machine's processors, each hardware thread one, as the bootstrap script prints them. None: "
        + "not known, and the sum of the services' `cpus` isn't checked.",
    )
    memory_gib: int | None = Field(
        default=None,
        ge=1,
        le=8192,
        description="The machine's memory, whole GiB rounded down, as the script prints it. None: not known, and the "
        + "sum of the services' `memory_gib` isn't checked.",
    )
    max_requests: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="Requests for `model.name` that each machine at home answers at a time; further ones go to the "
        + "next lane.",
    )

    @property
    def further(self) -> range:
        """Numbers of the machines beside the first, which has none in its name."""
        return range(2, self.nodes + 1)

    @field_validator("gpu")
    @classmethod
    def _known_card(cls, gpu: str) -> str:
        if gpu not in CARDS:
            raise Refusal(
                f"one of {', '.join(CARDS)}",
                "nobody knows how fast another card answers, and routing would guess",
                "name the most similar one that is slower, or add a row with its source to "
                + "components/machines/speeds.py",
            )
        return gpu

    @field_validator("nic")
    @classmethod
    def _usable_nic(cls, nic: str | None) -> str | None:
        if nic is not None and not NIC.fullmatch(nic):
            raise Refusal(
                "the name of a network interface: 1 to 15 characters of A-Z a-z 0-9 . _ -",
                "no machine can have it, and K3s would never get an address",
                "`ip -brief address` lists the machine's; leave `nic` out and the default route's is taken",
            )
        if nic is not None and VIRTUAL_NIC.fullmatch(nic):
            raise Refusal(
                f"a NIC of the home network, {nic} is none",
                "K3s would wait at boot for an interface that comes after it, or that it makes itself",
                "name the machine's own NIC, or leave `nic` out",
            )
        return nic
