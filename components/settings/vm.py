"""The VM lane's settings: its machines, its capacity.

Owns: the values, each for itself. Does not own: the rules between them (`rules`), what is built from them (`vm`).
"""

from enum import StrEnum
from typing import Final

from pydantic import Field

from components.settings.section import Section

IMAGE: Final = "ghcr.io/ggml-org/llama.cpp:server-b11206"
CUDA_IMAGE: Final = "ghcr.io/ggml-org/llama.cpp:server-cuda-b11206"
"""Built with CUDA 12.8.1, which wants driver 570 or newer; it has code for an L4, for a T4 it compiles at its first
start (7 GB unpacked)."""
VM_MOST: Final = 8
"""Machines that fit the VM's subnet (`network`: 12 addresses) with the balancer's and three of a rolling update."""


class Card(StrEnum):
    """A GPU that the VM can have."""

    T4 = "t4"
    L4 = "l4"


class VmSpeed(Section):
    """How fast a machine is that the table of machines doesn't know, as `make bench-vm` prints it."""

    prompt: float = Field(gt=0, le=100_000, description="Tokens of a prompt that it reads a second.")
    picture: float = Field(gt=0, le=100_000, description="Tokens of a picture that it encodes a second.")
    answer: float = Field(gt=0, le=100_000, description="Tokens of an answer that it writes a second.")


class VmSettings(Section):
    """The always-on VM: the one part that costs money while idle (leave `vm` out of `lanes` to stop it)."""

    image: str = Field(
        default="",
        description="llama.cpp's server image, exact. Empty: the official one of build b11206, with CUDA for `vm.gpu`.",
    )
    zone: str = Field(
        default="",
        pattern=r"^([a-z]+-[a-z]+[0-9]+-[a-z])?$",
        description="Zone. Empty: `<gcp:region>-b`, or the first that has the card; a group takes any.",
    )
    machine_type: str = Field(
        default="",
        pattern=r"^([a-z][a-z0-9]*(-[a-z0-9]+)+)?$",
        description="Machine type (docs/machines.md). Empty: the fastest of the region for at most 66 USD a month.",
    )
    spot: bool | None = Field(
        default=None,
        description="Spot capacity, which Google may stop at any time: a group then, which makes what was stopped "
        + "again. None: as the default machine has it; one that is named is not spot.",
    )
    gpu: Card | None = Field(
        default=None, description="Card: `t4` (on an n1-standard-2) or `l4` (in a g2-standard-4). It needs quota."
    )
    speed: VmSpeed | None = Field(
        default=None, description="Speed of `vm.machine_type` by `make bench-vm`, in place of the table's."
    )
    disk_gib: int = Field(default=20, ge=10, le=1000, description="Disk that keeps the weights over restarts, GiB.")
    max_requests: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Requests that the VM answers at a time (llama.cpp's slots), each with the whole context; further "
        + "ones wait. The largest `n` of a request on every lane.",
    )
    replicas: int = Field(
        default=1,
        ge=1,
        le=VM_MOST,
        description="Machines that always run. More than 1 are a managed group behind one internal address.",
    )
    max_replicas: int | None = Field(
        default=None,
        ge=1,
        le=VM_MOST,
        description="Maximum of machines when they are busy. The slots of those beyond `replicas` count while the "
        "pilot sees them; the VM as the only lane has no pilot. None: `replicas`.",
    )

    @property
    def server_image(self) -> str:
        """The image that runs."""
        return self.image or (CUDA_IMAGE if self.gpu else IMAGE)

    @property
    def most_replicas(self) -> int:
        """Machines when they are busy."""
        return self.max_replicas or self.replicas

    @property
    def capacity(self) -> int:
        """Requests that all machines which always run answer at a time."""
        return self.max_requests * self.replicas
