"""The gateway's settings: its images, its instances, and the limits of a request.

Owns: the values, each for itself. Does not own: the rules between them (`rules`), what is built from them (`gateway`).
"""

from typing import Final

from pydantic import Field

from components.settings.section import Section

CADDY_MOST_MIB: Final = 4096
"""Cloud Run gives a container with one CPU no more."""


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
        le=CADDY_MOST_MIB,
        description="Caddy's memory, MiB: must hold concurrency x replay_limit_mib x 2.5. One CPU takes 4096 at most.",
    )
