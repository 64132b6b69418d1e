"""Caddy's whole configuration, put together, and the environment that Caddy needs.

Owns: Caddy's servers, and their limits at start and shutdown. Does not own: the routes (`routes`), the way to a lane
(`walk`, `checks`, `burst_hop`), the form of the gateway's own answers (`answers`), the container with its secrets and
mounts (`gateway.service`).
"""

import bz2
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pulumi

from components import paths, ports
from components.gateway.caddy import (
    again,
    answers,
    burst_hop,
    checks,
    classes,
    console,
    cors,
    line,
    logging,
    pause,
    pilot_routes,
    refusal,
    routes,
)
from components.gateway.caddy.answers import Json
from components.gateway.caddy.pilot_routes import READY_PATH
from components.gateway.caddy.upstreams import Upstream, judged, service_upstreams, steered, upstreams
from components.settings import Lane, Settings
from components.settings.declared_services import answered
from components.settings.section import SettingsError, problem

SECRET_LIMIT: Final = 64 * 1024
"""Most bytes that Secret Manager keeps in a version of a secret (cloud.google.com/secret-manager/quotas)."""
ROOM: Final = 256
"""Bytes that are left free of them: an address that is known later may be packed worse than the widest one."""
WIDEST_ADDRESS: Final = "255.255.255.255"
ADMIN: Final = f"unix/{ports.ADMIN_SOCKET}|0600"
"""Caddy's own control, for the pilot: a socket in the working directory, which is the volume they share."""
GARBAGE: Final = "200"
"""Go's collector starts when so much is new, in % of what is in use (Go's default: 100): a tenth of Caddy's time for a
request. 400 takes memory, and no more time off. Near `GOMEMLIMIT` it starts earlier."""
SHUTDOWN_DELAY: Final = "6s"
"""Time at shutdown in which all goes on as before. In the grace period that follows, the checks have no listener any
more and find every lane dead: what was at home could not be repeated elsewhere, and nobody in line would get a lane.
Outlasts the tunnel, which leaves in 5 s at most."""
GRACE: Final = "2s"
"""Time that running requests get after that: Cloud Run kills after 10 s."""


def environment(settings: Settings, *, vm_address: pulumi.Input[str]) -> dict[str, pulumi.Input[str]]:
    """Caddy's environment without the keys: Go's transport picks the proxy per host from it.

    Home goes through the tailnet, the VM straight out; loopback is never proxied.
    """
    found: dict[str, pulumi.Input[str]] = {
        "GOGC": GARBAGE,
        "GOMEMLIMIT": f"{settings.gateway.memory_mib * 9 // 10}MiB",
    }
    if Lane.HOME in settings.lanes:
        found["HTTP_PROXY"] = f"socks5://{ports.loopback(ports.SOCKS5)}"
    if Lane.VM in settings.lanes:
        found["NO_PROXY"] = vm_address
    if settings.gateway.console:
        found[console.FOLDER_VARIABLE] = console.FOLDER
    return found


def document(settings: Settings, *, vm_address: str, burst_url: str = "") -> str:
    """The configuration as Caddy reads it, without a blank: a third of its size indented."""
    return json.dumps(render(settings, vm_address=vm_address, burst_url=burst_url), separators=(",", ":"))


def packed(text: str) -> bytes:
    """`text` as it is stored and mounted.

    bzip2 and not deflate or xz: its order of a block's bytes has one solution, and libbzip2 (1.0.8 since 2019, one code
    for every processor) packs it in one way. zlib's bytes differ by build, and would make a new version of the secret
    where nothing changed.
    """
    return bz2.compress(text.encode())


def command(file: str) -> list[str]:
    """Caddy's start with the packed configuration in `file`."""
    return ["/bin/sh", "-c", (Path(__file__).parent / "start.sh").read_text(), file]


def require_fits(settings: Settings) -> None:
    """Raise `SettingsError` if the configuration would not fit a secret."""
    size = len(packed(document(settings, vm_address=WIDEST_ADDRESS, burst_url=burst_hop.WIDEST_URL)))
    if size > SECRET_LIMIT - ROOM:
        raise SettingsError(
            [
                problem(
                    "clients",
                    f"the gateway's configuration, packed, holds at most {SECRET_LIMIT - ROOM} bytes, with "
                    + f"{len(settings.clients)} clients and {len(settings.services)} services it has {size}",
                    "Secret Manager would refuse it and the gateway could not start",
                    "declare fewer clients, services or aliases, let several callers share a client, or let clients "
                    + "differ less in `lanes` and `priority`",
                )
            ]
        )


def render(settings: Settings, *, vm_address: str, burst_url: str = "") -> Json:
    """Caddy's complete JSON. It holds no secret: keys come from the environment, the ID token from a file.

    `burst_url` is needed if burst is one of the lanes. Names of files are relative to the working directory.
    """
    lanes = upstreams(settings, vm_address=vm_address)
    servers: Json = {
        "api": _api(settings, lanes),
        "pause": pause.server(),
        "checks": checks.server([*lanes, *(home for _, home in service_upstreams(settings))], piloted=settings.piloted),
    }
    http: Json = {"shutdown_delay": SHUTDOWN_DELAY, "grace_period": GRACE, "servers": servers}
    admin: Json = {"disabled": True}
    if judged(lanes):
        servers["refusal"] = refusal.server()
    if Lane.BURST in settings.lanes:
        servers["burst"] = burst_hop.server(burst_url, answered(settings))
    if settings.piloted:
        servers["line"] = line.server(pilot_routes.hold())
        http["metrics"] = {}
        admin = {"listen": ADMIN}
    return {
        "admin": {**admin, "config": {"persist": False}},
        "logging": logging.logs(admin=settings.piloted),
        "apps": {"http": http},
    }


def _api(settings: Settings, lanes: Sequence[Upstream]) -> Json:
    ways, came_back = classes.ways(settings, lanes), routes.again_at(settings)
    # The probe in a subroute, and the lanes' handlers in routes of the server itself: Caddy's gauge of running requests
    # goes by the first handler of such a route, and `reverse_proxy` must count callers who have or want a lane.
    ready = pilot_routes.ready() if steered(lanes) else [{"handler": "static_response", "status_code": 200}]
    own = answers.headers({"X-Request-Id": "{request_id}", "X-Served-By": "gateway"})
    inside = answers.subroute(routes.authenticated(settings, lanes, ways))
    return {
        "listen": [":{env.PORT}", *(again.listen(port) for port in came_back)],
        # Cloud Run speaks HTTP/1 to a container unless told otherwise, and its probes always do.
        "listen_protocols": [["h1"], ["h2c"], ["h1"]][: 1 + len(came_back)],
        "automatic_https": {"disable": True},
        "logs": {},
        "max_header_bytes": 64 * 1024,
        # Headers only: nothing bounds a request as a whole but Cloud Run's timeout.
        "read_header_timeout": "10s",
        # Off (0 means Caddy's default, a minute): its wrapper hides the unread body from Go, which then waits for the
        # whole body before a refusal such as 413 goes out, and sends nothing at all if the minute passes.
        "read_idle_timeout": -1,
        "named_routes": routes.named(settings),
        "routes": [
            again.unlogged(*came_back),
            {
                "handle": [
                    *routes.names(settings, lanes),
                    own,
                    cors.handler(settings.gateway.cors_origins),
                    routes.canonical(),
                ]
            },
            {
                "match": [{"path": [READY_PATH], **answers.no_body()}],
                # Not in the log, which probes, and whoever else asks, would fill.
                "handle": [{"handler": "vars", "log_skip": True}, answers.subroute([{"handle": ready}])],
            },
            # Keys before paths: without one, nobody learns what exists under /v1.
            {"match": [{"path": [paths.ROOT, f"{paths.ROOT}/*"]}], "handle": [inside]},
            *classes.handlers(settings, ways),
            *(console.routes() if settings.gateway.console else ()),
            {"handle": [answers.error(404, "not_found", "There is nothing here; the API is under /v1.", hang_up=True)]},
        ],
        "errors": {
            "routes": [*(refusal.routes(settings.gateway.timeout_s) if judged(lanes) else ()), *answers.errors()]
        },
    }
