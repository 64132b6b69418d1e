"""The settings of one whole stack, and the small section that has no file of its own: alerts.

Owns: the values, each for itself. Does not own: reading them from Pulumi's config (`reading`), the rules between them
(`rules`, `client_rules`, `service_rules`), what is built from them.
"""

import re
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from pydantic import Field, SecretStr, field_validator

from components.machines.choice import Choice, chosen
from components.machines.requests import KIB, Borders, borders
from components.machines.speeds import Machine, Source, Speed
from components.machines.zones import zones
from components.models.contract import Contract, most_images
from components.settings.budget import BudgetSettings
from components.settings.burst import BurstSettings
from components.settings.clients import ClientSettings, OldKeySettings
from components.settings.delivery import DeliverySettings
from components.settings.gateway import BURST_WAIT_S, WAIT_S, GatewaySettings
from components.settings.home import HomeSettings
from components.settings.kubeconfig import Life, life
from components.settings.model import ModelSettings
from components.settings.section import Lane, Refusal, Section
from components.settings.services import ServiceSettings
from components.settings.tailnet import TailnetSettings
from components.settings.vm import VmSettings

PULUMI_PROJECT: Final = "pilotlight"
"""Name of the Pulumi project: namespace of its config, and prefix of every cloud name."""
SHORT: Final = 11
"""Characters of a stack's name in cloud names. The shortest of these are service accounts' ids, which have 30
(terraform-provider-google, `ValidateRFC1035Name(6, 30)`): `pilotlight-`, the stack's, `-gateway`."""


class AlertSettings(Section):
    """What tells the owner before something ends or breaks."""

    email: str = Field(
        default="",
        description="Address that gets a mail before the gateway's auth key or home's kubeconfig ends, and when a lane "
        "or callers are in trouble. Empty: none.",
    )

    uptime_check: bool = Field(
        default=False,
        description="Whether Google asks the endpoint every 15 minutes from all its places, and a mail comes when it "
        "is away. It keeps the gateway awake, at the price of `gateway.min_instances: 1`, and wakes no lane.",
    )

    @field_validator("email")
    @classmethod
    def _one_address(cls, email: str) -> str:
        if email and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", email):
            raise Refusal(
                f"one mail address, is {email!r}",
                "nobody would be told: Google sends its mails to that text",
                "write it like me@example.com, or leave it out for no mail",
            )
        return email


class Settings(Section):
    """All settings of one stack."""

    stack: str = Field(
        pattern=r"^[a-z]([a-z0-9-]{0,98}[a-z0-9])?$",
        description="Pulumi stack's name: a-z, 0-9 and dashes, 100 at most. Cloud names hold 11 characters of it.",
    )
    project: str = Field(
        pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$", description="Google project's id, not its number or title."
    )
    region: str = Field(pattern=r"^[a-z]+-[a-z]+[0-9]+$", description="Google Cloud region, like us-central1.")
    clients: tuple[ClientSettings, ...] = Field(
        default=(ClientSettings(name="demo"),),
        description="The clients that may call: a list of `name` and, optionally, the keys below.",
    )
    now: datetime = Field(
        default_factory=lambda: datetime.now(UTC),
        description="When the program runs: an old key that has ended by then is left out.",
    )
    old_keys: tuple[OldKeySettings, ...] = Field(
        default=(), description="Keys that still are good for a while after their client has got a new one."
    )
    lanes: tuple[Lane, ...] = Field(
        default=(Lane.HOME, Lane.VM),
        description="The lanes, in the order in which a request tries them. A lane that is left out costs nothing.",
    )
    model: ModelSettings = Field(default=ModelSettings(), description="The model that every lane serves.")
    gateway: GatewaySettings = Field(default=GatewaySettings(), description="The public endpoint.")
    burst: BurstSettings = Field(default=BurstSettings(), description="The serverless GPU lane.")
    vm: VmSettings = Field(default=VmSettings(), description="The always-on VM lane.")
    home: HomeSettings = Field(default=HomeSettings(), description="The GPU server at home.")
    services: tuple[ServiceSettings, ...] = Field(
        default=(ServiceSettings(name="vllm", preset="model"),),
        description="The AI services on the home GPU: a list of `name` and `preset`, or `image` and `model`.",
    )
    tailnet: TailnetSettings = Field(default=TailnetSettings(), description="The tailnet.")
    alerts: AlertSettings = Field(default=AlertSettings(), description="Alerts to the owner.")
    budget: BudgetSettings = Field(default=BudgetSettings(), description="What a month may cost before a mail comes.")
    delivery: DeliverySettings = Field(
        default=DeliverySettings(), description="What previews and deploys the stack: GitHub's workflows."
    )
    kubeconfig: SecretStr | None = Field(
        default=None,
        description="Kubeconfig of the home cluster, as a Pulumi secret. Without it home is not deployed yet.",
    )

    @property
    def prefix(self) -> str:
        """Prefix of every cloud name: unique per stack, so that stacks can share a Google project.

        A long name is cut, and a sum of it tells it from others that begin alike.
        """
        name = self.stack
        if len(name) > SHORT:
            name = f"{name[: SHORT - 5].rstrip('-')}-{sha256(name.encode()).hexdigest()[:4]}"
        return f"{PULUMI_PROJECT}-{name}"

    @property
    def owns_delivery(self) -> bool:
        """Whether this stack makes what all stacks of its Google project are deployed with."""
        return bool(self.delivery.repository) and self.delivery.owner

    @property
    def home_certificate(self) -> Life | None:
        """How long home lets this stack in; None where that has no end, or this stack doesn't deploy onto home."""
        return life(self.kubeconfig.get_secret_value()) if self.kubeconfig and Lane.HOME in self.lanes else None

    @property
    def piloted(self) -> bool:
        """Whether the gateway has a pilot: burst is woken by it, and what hangs in home's tunnel freed."""
        return Lane.BURST in self.lanes or Lane.HOME in self.lanes

    def share(self, count: int) -> int:
        """What one instance of the gateway takes of `count` places: instances don't know of each other."""
        return count // self.gateway.max_instances

    def slots(self, lane: Lane) -> int:
        """Requests that one instance of the gateway sends to a lane at a time."""
        whole = {
            Lane.HOME: self.home.max_requests,
            Lane.BURST: self.burst.max_requests,
            Lane.VM: self.vm.capacity,
        }
        return self.share(whole[lane])

    def further_slots(self, lane: Lane) -> dict[int, int]:
        """What the second, third, ... machine of a lane adds to `slots` when it is seen, by how many are up then.

        The pilot sees them; without one they add nothing. What adds no whole slot to the share is left out.
        """
        each, least, most = {
            Lane.HOME: (self.home.max_requests, 1, self.home.nodes),
            Lane.BURST: (self.burst.max_requests, 1, self.burst.max_instances),
            Lane.VM: (self.vm.max_requests, self.vm.replicas, self.vm.most_replicas),
        }[lane]
        added = {up: self.share(each * up) - self.share(each * (up - 1)) for up in range(least + 1, most + 1)}
        return {up: slots for up, slots in added.items() if slots and self.piloted}

    @property
    def contract(self) -> Contract:
        """The model, and what every lane takes of one request."""
        given, found = self.model, self.model.resolved
        images = given.images_per_prompt or most_images(given.context_tokens)
        return Contract(
            model=found,
            context_tokens=given.context_tokens,
            image_max_pixels=given.image_max_pixels,
            images=images if found.vision else 0,
            # llama.cpp answers each of the `n` in a slot of its own.
            choices=self.vm.max_requests if Lane.VM in self.lanes else None,
        )

    @property
    def wait_s(self) -> int:
        """Longest wait for a free lane, seconds."""
        usual = BURST_WAIT_S if Lane.BURST in self.lanes else WAIT_S
        # Who waited needs time for the answer, too.
        return self.gateway.wait_s or min(usual, self.gateway.timeout_s // 2)

    @property
    def zone(self) -> str:
        """Zone of the VM lane's one plain machine."""
        return next(iter(self.vm_zones), f"{self.region}-b")

    @property
    def vm_zones(self) -> tuple[str, ...]:
        """Zones that the VM lane may stand in; empty: any of the region's."""
        if self.vm.zone:
            return (self.vm.zone,)
        return zones(self.vm.gpu, self.region) if self.vm.gpu else ()

    @property
    def vm_choice(self) -> Choice | None:
        """Machine and kind of capacity of the VM lane; None where they can't be told, which is refused (`vm_rules`)."""
        vm = self.vm
        speed = vm.speed and Speed(
            vm.speed.prompt, vm.speed.picture, vm.speed.answer, Source.MEASURED, "vm.speed, by the owner"
        )
        return chosen(
            self.region, self.contract, machine_type=vm.machine_type, gpu=vm.gpu or "", spot=vm.spot, speed=speed
        )

    @property
    def vm_machine(self) -> Machine | None:
        """The VM lane's machine with its speed: the settings' own, or its row in the table."""
        return self.vm_choice and self.vm_choice.machine

    @property
    def vm_spot(self) -> bool:
        """Whether the VM lane is spot capacity."""
        return self.vm_choice is not None and self.vm_choice.spot

    @property
    def vm_grouped(self) -> bool:
        """Whether the VM lane is a managed instance group, which makes a stopped machine again, and not one machine."""
        return self.vm_spot or self.vm.most_replicas > 1

    @property
    def borders(self) -> Borders:
        """The borders between short texts, long ones and pictures."""
        gateway, vm = self.gateway, self.vm_machine
        derived = borders(vm.speed if vm else None, self.contract, gateway.replay_limit_mib * KIB)
        text = gateway.text_kib or derived.text_kib
        return replace(derived, short_kib=gateway.short_kib or max(1, min(derived.short_kib, text // 2)), text_kib=text)
