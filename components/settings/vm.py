"""The VM lane's settings: its machines, its weights, its capacity.

Owns: the values, each for itself. Does not own: the rules between them (`rules`), what is built from them (`vm`).
"""

from typing import Final

from pydantic import Field

from components.settings.section import Section

SLOT_TOKENS: Final = 2048
"""Least context of one request, tokens: a picture of 1024 px takes about 1340 of them."""
VM_MOST: Final = 8
"""Machines that fit the VM's subnet (`network`: 12 addresses) with the balancer's and three of a rolling update."""


class Weights(Section):
    """One weights file of the VM lane."""

    url: str = Field(
        pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]+)?/([A-Za-z0-9._~%+@=-]+/)*[A-Za-z0-9][A-Za-z0-9._-]*\.gguf$",
        description="Address of the GGUF file, which is fetched once: https, without password and query.",
    )
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="The file's SHA-256; a file that differs is never served."
    )

    @property
    def filename(self) -> str:
        """Last part of the URL: the file's name on the weights disk."""
        return self.url.rsplit("/", 1)[1]


_QWEN_GGUF: Final = "https://huggingface.co/bartowski/Qwen_Qwen2.5-VL-7B-Instruct-GGUF/resolve/main/"


class VmSettings(Section):
    """The always-on VM: the one part that costs money while idle (leave `vm` out of `lanes` to stop it)."""

    image: str = Field(
        default="ghcr.io/ggml-org/llama.cpp:server-b11206", description="llama.cpp's official server image, exact."
    )
    zone: str = Field(
        default="", pattern=r"^([a-z]+-[a-z]+[0-9]+-[a-z])?$", description="Zone; empty means `<gcp:region>-b`."
    )
    machine_type: str = Field(
        default="e2-highmem-2",
        pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)+$",
        description="Machine type. The default is the smallest that holds the model, and slow: 70 s to "
        + "the first token of a text.",
    )
    spot: bool = Field(
        default=False,
        description="Spot capacity: about half the price for e2-highmem-2, but Google may stop it at any time.",
    )
    disk_gib: int = Field(default=20, ge=10, le=1000, description="Disk that keeps the weights over restarts, GiB.")
    context_tokens: int = Field(
        default=16384,
        ge=SLOT_TOKENS,
        le=1_048_576,
        description="Context of all slots together, tokens; a slot has context / max_requests, at least 2048.",
    )
    max_requests: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Requests that the VM answers at a time (llama.cpp's slots); further ones wait.",
    )
    large_request_mib: int = Field(
        default=1,
        ge=1,
        description="Largest body that goes to the VM while another lane can come up, MiB. A 1024 px picture has 0.4.",
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
        description="Maximum of machines when they are busy. The gateway counts on `replicas` only: "
        + "more machines share "
        + "the same requests and answer sooner. None: `replicas`.",
    )
    model: Weights = Field(
        default=Weights(
            url=_QWEN_GGUF + "Qwen_Qwen2.5-VL-7B-Instruct-Q4_K_M.gguf",
            sha256="3f4513330aa7f109922bd701d773575484ae2b4a4090d6511260a2a4f8e3d069",
        ),
        description="GGUF weights of `model.name`.",
    )
    projector: Weights | None = Field(
        default=Weights(
            url=_QWEN_GGUF + "mmproj-Qwen_Qwen2.5-VL-7B-Instruct-bf16.gguf",
            sha256="d1c7588c0bdf6e7889737c01cfd54309240d54042e102275880a514ae979aea3",
        ),
        description="GGUF image projector (`--mmproj`); null for a text-only model.",
    )

    @property
    def grouped(self) -> bool:
        """Whether it is a managed instance group and not one plain machine."""
        return max(self.replicas, self.max_replicas or 1) > 1

    @property
    def capacity(self) -> int:
        """Requests that all machines which always run answer at a time."""
        return self.max_requests * self.replicas
