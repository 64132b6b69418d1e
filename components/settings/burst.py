"""The burst lane's settings: its machine, and when the pilot wakes it.

Owns: the values, each for itself. Does not own: the rules between them (`rules`), what is built from them (`burst`, and
the gateway's pilot).
"""

from enum import StrEnum
from typing import Final, Literal

from pydantic import Field

from components.settings.section import Section

STARTUP_MOST_S: Final = 480
"""Cloud Run's longest start: 240 s before the first startup probe and 240 s of probes."""


class Wake(StrEnum):
    """When the burst lane is started."""

    FIRST_FALLBACK = "first-fallback"
    PRESSURE = "pressure"
    NEVER = "never"


class BurstSettings(Section):
    """The serverless GPU lane: one L4 an instance, nothing while nobody needs it."""

    image: str = Field(
        default="docker.io/vllm/vllm-openai:v0.29.0-cu129",
        description="Official vLLM image, exact, of a CUDA 12 build: the L4's driver (535) runs CUDA 12.x, not 13.",
    )
    fetch_image: str = Field(
        default="docker.io/library/python:3.13.14-slim",
        description="Official Python image, exact, for the job that fills the weights bucket.",
    )
    min_instances: int = Field(
        default=0, ge=0, description="Instances that run while nobody calls; 1 bills an L4 around the clock."
    )
    max_instances: int = Field(
        default=1,
        ge=1,
        le=10,
        description="Maximum of instances; each needs quota for one L4. Its slots count while the pilot sees it.",
    )
    max_requests: int = Field(
        default=16,
        ge=1,
        le=256,
        description="Requests that one instance answers at a time. Cloud Run's concurrency is one more, for the pilot.",
    )
    cpu: Literal[4, 6, 8] = Field(default=4, description="CPUs of an instance; an L4 wants 4 at least.")
    memory_gib: int = Field(
        default=16, ge=16, le=32, description="Memory of an instance, GiB; an L4 wants 16 at least, a CPU takes 4."
    )
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=0.95, description="vLLM's share of the L4's 24 GB.")
    wake: Wake = Field(
        default=Wake.FIRST_FALLBACK,
        description="When the pilot starts it: with the first request that home can't take, only under "
        + "pressure (the VM "
        + "is full, or a request waits), or never.",
    )
    idle_s: int = Field(
        default=600,
        ge=1,
        le=3600,
        description="Time that it counts as warm after its last request, seconds; Cloud Run keeps it about 10 minutes.",
    )
    wake_deadline_s: int = Field(
        default=270,
        ge=10,
        le=STARTUP_MOST_S,
        description="Longest start, seconds; then the pilot gives it up. Cloud Run allows 480.",
    )
    retry_s: int = Field(default=60, ge=1, le=3600, description="Pause after a start that failed, seconds.")
    slow_s: float = Field(
        default=5.0, gt=0, le=300, description="A first token later than this means slow, seconds: then the VM answers."
    )
    recovered_s: float = Field(
        default=2.0, gt=0, description="A first token sooner than this means recovered, seconds. Below `slow_s`."
    )
