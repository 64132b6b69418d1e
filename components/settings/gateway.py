"""The gateway's settings: its images, its instances, and the limits of a request.

Owns: the values, each for itself. Does not own: the rules between them (`rules`), what is built from them (`gateway`).
"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, field_validator

from components.settings.section import Refusal, Section

CADDY_MOST_MIB: Final = 4096
"""Cloud Run gives a container with one CPU no more."""
WAIT_S: Final = 55
"""The default of `wait_s`: nginx (`proxy_read_timeout`), AWS' load balancer and others end a request after 60 s without
a byte. Who comes again after `Retry-After` stands at the end of the line."""
BURST_WAIT_S: Final = 120
"""The default with burst, whose start takes about 50 s, up to 90 (docs/decisions/15-burst-cold-start.md)."""
_HOST: Final = r"(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:]+\])"
_ORIGIN: Final = re.compile(rf"(https?)://({_HOST})(?::(?!0)\d{{1,5}})?")
_OWN_MACHINE: Final = re.compile(r"(?:.+\.)?localhost|127(?:\.\d{1,3}){3}|\[::1\]")


def _origin(value: str) -> str:
    if value == "*":
        return value
    found = _ORIGIN.fullmatch(value)
    if not found:
        raise Refusal(
            "an origin as browsers send it: https://host or https://host:port in small letters, without a path or a "
            + f"slash at its end; it is {value!r}",
            "no page would ever match it",
            "write it as https://app.example.com",
        )
    scheme, host = found.groups()
    if value.endswith({"https": ":443", "http": ":80"}[scheme]):
        raise Refusal(
            f"without the port that {scheme} has by itself; it is {value!r}",
            "browsers leave that port out, so no page would ever match it",
            f"write it as {value.rpartition(':')[0]}",
        )
    if scheme == "http" and not _OWN_MACHINE.fullmatch(host):
        raise Refusal(
            f"https, or http on localhost; it is {value!r}",
            "whoever stands between that page and its reader could change it, and take the key that it holds",
            f"serve the page over https, and write {value.replace('http', 'https', 1)}",
        )
    return value


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
        description="Instances that run while nobody calls. 0 costs nothing; 1 removes the gateway's own start.",
    )
    max_instances: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Maximum of instances. They don't know of each other, so each has its share of every "
        + "`max_requests`, rounded down: with 2, one that is alone has half of a lane's slots (docs/growth.md).",
    )
    concurrency: int = Field(
        default=80,
        ge=1,
        le=1000,
        description="Requests that one instance holds, waiting ones included; Cloud Run answers 429 to the rest.",
    )
    timeout_s: int = Field(default=300, ge=10, le=3600, description="Longest time of a request, seconds.")
    wait_s: int | None = Field(
        default=None,
        ge=1,
        description="Longest wait for a free lane, seconds; then 503 with Retry-After, after which SDKs come again. "
        + f"Below `timeout_s`. None: {WAIT_S}, with `burst` in `lanes` {BURST_WAIT_S}, or half of `timeout_s` if that "
        + "is less.",
    )
    request_limit_mib: int = Field(
        default=31,
        ge=1,
        le=31,
        description="Largest request body, MiB; a larger one gets 413. Cloud Run itself refuses 32 MiB, in HTML.",
    )
    replay_limit_mib: int = Field(
        default=4,
        ge=1,
        description="Largest body that is kept in memory and repeated on the next lane, MiB; a larger "
        + "one streams through once.",
    )
    short_kib: int | None = Field(
        default=None,
        ge=1,
        description="Largest body of a short text, KiB. None: what the VM reads in about 15 s.",
    )
    text_kib: int | None = Field(
        default=None,
        ge=2,
        description="Largest body of any text, KiB; a larger one holds a picture. None: what the largest context of a "
        + "lane takes, 4 bytes a token.",
    )
    console: bool = Field(
        default=True,
        description="Whether the endpoint's address shows a page for people in a browser; without it: 404.",
    )
    memory_mib: int = Field(
        default=1024,
        ge=512,
        le=CADDY_MOST_MIB,
        description="Caddy's memory, MiB: at least concurrency x replay_limit_mib x 2.5 + 128. One CPU "
        + "takes 4096 at most.",
    )
    cors_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        default=(),
        max_length=32,
        description="Pages that may call from a browser, by their origin (`https://app.example.com`). Empty: none. "
        + '`["*"]`: every page on the web that holds a key.',
    )

    @field_validator("cors_origins")
    @classmethod
    def _any_alone(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if "*" in origins and len(origins) > 1:
            raise Refusal("`*` alone, or origins without it", "`*` lets every page call, so the others mean nothing",
                          "leave `*` out, or the others")  # fmt: skip
        return origins
